"""ResNet (He et al. 2015): residual blocks; the same without shortcuts; and small ones for CIFAR.

From 50 layers on a block is a bottleneck of 1x1, 3x3 and 1x1 convolutions. The paper's table has the stride of a stage
on the first 1x1, `resnet50_1x1`; timm, as torchvision, has it on the 3x3, `resnet50`: 4.1 instead of 3.8 thousand
million multiply-adds. Tensors of both have the same names and shapes, but weights go with the form that they were
trained in: those of timm and torchvision with `resnet50`, those that the authors published for Caffe with
`resnet50_1x1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlkit_plugins.preprocessing import cifar, imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm
from tlkit.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

RECIPE = Recipe(
    optimizer="sgd", lr=0.1, batch_size=256, momentum=0.9, weight_decay=1e-4, schedule="divided by 10 on a plateau"
)
CIFAR_RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    batch_size=128,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="divided by 10 after 32,000 and 48,000 of 64,000 steps",
)


def _reference(
    macs: float | None = None, errors: tuple[float, float | None] | None = None, note: str | None = None
) -> Reference:
    """Cite the paper; `errors` are its top-1 and top-5 errors in percent."""
    top1, top5 = errors or (None, None)
    return Reference(
        paper="Deep Residual Learning for Image Recognition",
        authors="He, Zhang, Ren and Sun",
        year=2015,
        url="https://arxiv.org/abs/1512.03385",
        macs=macs,
        top1=None if top1 is None else 100 - top1,
        top5=None if top5 is None else 100 - top5,
        note=note,
    )


def _record(
    params: int, macs: int, reference: Reference, weights: str | None = None, license: str | None = "apache-2.0"
) -> Record:
    return Record(
        family="resnet",
        input_size=(3, 224, 224),
        params=params,
        macs=macs,
        weights=weights,
        license=license if weights else None,
        recipe=RECIPE,
        reference=reference,
    )


_TABLE_2 = "10 crops, table 2"
_TABLE_3 = "10 crops, table 3; operations of table 1, with the stride on the 1x1"


@documented(_record(11_689_512, 1_814_073_344, _reference(1.8e9, (27.88, None), _TABLE_2), "timm/resnet18.a1_in1k"))
def resnet18(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-18: four stages of two basic blocks; codes of length 512.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet18", weights=weights)


@documented(
    _record(
        21_797_672,
        3_663_761_408,
        _reference(3.6e9, (24.52, 7.46), "10 crops, table 3, projection shortcuts (B) as here"),
        "timm/resnet34.a1_in1k",
    )
)
def resnet34(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-34: stages of 3, 4, 6 and 3 basic blocks; codes of length 512.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet34", weights=weights)


@documented(_record(25_557_032, 4_089_184_256, _reference(3.8e9, (22.85, 6.71), _TABLE_3), "timm/resnet50.a1_in1k"))
def resnet50(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-50: stages of 3, 4, 6 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet50", weights=weights)


@documented(_record(44_549_160, 7_801_405_440, _reference(7.6e9, (21.75, 6.05), _TABLE_3), "timm/resnet101.a1h_in1k"))
def resnet101(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-101: stages of 3, 4, 23 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet101", weights=weights)


@documented(_record(60_192_808, 11_513_626_624, _reference(11.3e9, (21.43, 5.71), _TABLE_3), "timm/resnet152.a1h_in1k"))
def resnet152(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-152: stages of 3, 8, 36 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet152", weights=weights)


@documented(
    _record(
        64_673_832,
        15_007_481_856,
        Reference(
            paper="Identity Mappings in Deep Residual Networks",
            authors="He, Zhang, Ren and Sun",
            year=2016,
            url="https://arxiv.org/abs/1603.05027",
            top1=100 - 21.8,
            top5=100 - 6.0,
            note="the original residual unit in table 5, one crop of 320 pixels",
        ),
    )
)
def resnet200(*, weights: str | None = None) -> Backbone:
    """ResNet-200: stages of 3, 24, 36 and 3 bottleneck blocks; codes of length 2048; no published weights.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("resnet200", weights=weights)


def _on_1x1(architecture: str, weights: str | None) -> Backbone:
    from tlkit_plugins.networks.resnet import stride_on_1x1

    module = _random(architecture)
    stride_on_1x1(module)
    return from_network(module, name=f"{architecture}_1x1", weights=weights, preprocess=imagenet())


def _random(architecture: str) -> nn.Module:
    import timm

    # In timm the last BatchNorm of a block begins at zero; without a shortcut nothing would come out of it.
    module: nn.Module = timm.create_model(architecture, zero_init_last=False)
    return module


@documented(_record(25_557_032, 3_857_973_248, _reference(3.8e9, (22.85, 6.71), "10 crops, table 3")))
def resnet50_1x1(*, weights: str | None = None) -> Backbone:
    """ResNet-50 of the paper's table, with the stride on the 1x1; codes of length 2048; no published weights.

    Those of `resnet50` fit in shape, but were trained with the stride on the 3x3 convolutions.

    Args:
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    return _on_1x1("resnet50", weights)


@documented(_record(44_549_160, 7_570_194_432, _reference(7.6e9, (21.75, 6.05), "10 crops, table 3")))
def resnet101_1x1(*, weights: str | None = None) -> Backbone:
    """ResNet-101 of the paper's table, with the stride on the 1x1; codes of length 2048; no published weights.

    Those of `resnet101` fit in shape, but were trained with the stride on the 3x3 convolutions.

    Args:
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    return _on_1x1("resnet101", weights)


@documented(_record(60_192_808, 11_282_415_616, _reference(11.3e9, (21.43, 5.71), "10 crops, table 3")))
def resnet152_1x1(*, weights: str | None = None) -> Backbone:
    """ResNet-152 of the paper's table, with the stride on the 1x1; codes of length 2048; no published weights.

    Those of `resnet152` fit in shape, but were trained with the stride on the 3x3 convolutions.

    Args:
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    return _on_1x1("resnet152", weights)


def _plain(name: str, architecture: str, weights: str | None) -> Backbone:
    from tlkit_plugins.networks.resnet import without_shortcuts

    module = _random(architecture)
    without_shortcuts(module)
    return from_network(module, name=name, weights=weights, preprocess=imagenet())


@documented(_record(11_515_688, 1_794_805_760, _reference(1.8e9, (27.94, None), _TABLE_2)))
def plain18(*, weights: str | None = None) -> Backbone:
    """Plain-18: ResNet-18 without shortcuts, as deep and nothing else; codes of length 512; no published weights.

    Args:
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    return _plain("plain18", "resnet18", weights)


@documented(_record(21_623_848, 3_644_493_824, _reference(3.6e9, (28.54, 10.02), "10 crops, tables 2 and 3")))
def plain34(*, weights: str | None = None) -> Backbone:
    """Plain-34: ResNet-34 without shortcuts, which trains worse than both ResNet-34 and Plain-18; codes of length 512.

    There are no published weights.

    Args:
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    return _plain("plain34", "resnet34", weights)


def cifar_blocks(depth: int) -> int:
    """Return n for a network of 6n + 2 layers.

    Raises:
        UsageError: there is none of that depth.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise UsageError(
            f"backbone.depth={depth}: these networks have 6n + 2 layers. The paper has 20, 32, 44, 56, 110 and 1202."
        )
    return n


@documented(
    Record(
        family="resnet",
        input_size=(3, 32, 32),
        params=269_722,
        macs=40_551_040,
        recipe=CIFAR_RECIPE,
        reference=_reference(
            note="errors on CIFAR-10 8.75, 7.51, 7.17, 6.97, 6.43 and 7.93 %, and 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 "
            "million parameters, at depth 20, 32, 44, 56, 110 and 1202, table 6"
        ),
    )
)
def resnet_cifar(*, depth: int = 20, weights: str | None = None) -> Backbone:
    """ResNet for CIFAR, 32 x 32 pixels, 6n + 2 layers (section 4.2); codes of length 64; no published weights.

    Shortcuts learn nothing: between stages they take every second pixel and add maps of zeros (option A).

    Args:
        depth: 20, 32, 44, 56, 110, 1202 or another 6n + 2. The record, of parameters and operations, is that of 20.
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.resnet import CifarResNet

    module = CifarResNet(cifar_blocks(depth))
    return from_network(module, name="resnet_cifar", weights=weights, preprocess=cifar(), spec={"depth": depth})


@documented(
    Record(
        family="resnet",
        input_size=(3, 32, 32),
        params=269_722,
        macs=40_551_040,
        recipe=CIFAR_RECIPE,
        reference=_reference(note="figure 6, left: the deeper, the larger the error"),
    )
)
def plain_cifar(*, depth: int = 20, weights: str | None = None) -> Backbone:
    """`resnet_cifar` without shortcuts, 6n + 2 layers (section 4.2); codes of length 64; no published weights.

    Args:
        depth: 20, 32, 44, 56 or another 6n + 2. The record, of parameters and operations, is that of 20.
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.resnet import CifarResNet, without_shortcuts

    module = CifarResNet(cifar_blocks(depth))
    without_shortcuts(module)
    return from_network(module, name="plain_cifar", weights=weights, preprocess=cifar(), spec={"depth": depth})
