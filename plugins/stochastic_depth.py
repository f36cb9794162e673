"""ResNets with stochastic depth (Huang et al. 2016): in training whole blocks are left out, at test time none.

For each mini-batch, each block runs with a probability that falls linearly from almost 1 at the input to 1/2 at the
output; where it does not, its shortcut is all that is left. So a step takes three quarters of the time.
timm's `drop_path_rate` is something else: it lets every block run, and then takes away for each image by itself what it
adds. In both what is kept is divided by the probability in training, where the paper multiplies by it at test time: the
same up to a factor in the weights, and at test time these networks are ResNets, whose weights they take.
"""

from __future__ import annotations

from dataclasses import replace

from tlkit_plugins.preprocessing import cifar
from tlkit_plugins.resnet import RECIPE, cifar_blocks

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm

_REFERENCE = Reference(
    paper="Deep Networks with Stochastic Depth",
    authors="Huang, Sun, Liu, Sedra and Weinberger",
    year=2016,
    url="https://arxiv.org/abs/1603.09382",
)


def _record(params: int, macs: int, weights: str) -> Record:
    """State what timm has; the recipe is that of ResNet, which its weights were trained by."""
    return Record(
        family="stochastic_depth",
        input_size=(3, 224, 224),
        params=params,
        macs=macs,
        weights=weights,
        license="apache-2.0",
        recipe=RECIPE,
        reference=_REFERENCE,
    )


def _build(architecture: str, weights: str | None) -> Backbone:
    from tlkit_plugins.networks.stochastic_depth import stochastic_depth

    backbone = from_timm(architecture, weights=weights, name=f"{architecture}_sd")
    stochastic_depth(backbone.module)
    return backbone


@documented(_record(11_689_512, 1_814_073_344, "timm/resnet18.a1_in1k"))
def resnet18_sd(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-18 with stochastic depth in training; codes of length 512.

    Args:
        weights: those of `resnet18`: "pretrained", a folder with config.json and model.safetensors, a .safetensors
            file, or None for random ones.
    """
    return _build("resnet18", weights)


@documented(_record(21_797_672, 3_663_761_408, "timm/resnet34.a1_in1k"))
def resnet34_sd(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-34 with stochastic depth in training; codes of length 512.

    Args:
        weights: those of `resnet34`: "pretrained", a folder with config.json and model.safetensors, a .safetensors
            file, or None for random ones.
    """
    return _build("resnet34", weights)


@documented(_record(25_557_032, 4_089_184_256, "timm/resnet50.a1_in1k"))
def resnet50_sd(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-50 with stochastic depth in training; codes of length 2048.

    Args:
        weights: those of `resnet50`: "pretrained", a folder with config.json and model.safetensors, a .safetensors
            file, or None for random ones.
    """
    return _build("resnet50", weights)


@documented(_record(44_549_160, 7_801_405_440, "timm/resnet101.a1h_in1k"))
def resnet101_sd(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-101 with stochastic depth in training; codes of length 2048.

    Args:
        weights: those of `resnet101`: "pretrained", a folder with config.json and model.safetensors, a .safetensors
            file, or None for random ones.
    """
    return _build("resnet101", weights)


@documented(_record(60_192_808, 11_513_626_624, "timm/resnet152.a1h_in1k"))
def resnet152_sd(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-152 with stochastic depth in training; codes of length 2048.

    Args:
        weights: those of `resnet152`: "pretrained", a folder with config.json and model.safetensors, a .safetensors
            file, or None for random ones.
    """
    return _build("resnet152", weights)


@documented(
    Record(
        family="stochastic_depth",
        input_size=(3, 32, 32),
        params=1_727_962,
        macs=252_887_680,
        recipe=Recipe(
            optimizer="sgd",
            lr=0.1,
            batch_size=128,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="divided by 10 after 250 and 375 of 500 epochs",
        ),
        reference=replace(_REFERENCE, note="errors on CIFAR-10 5.25 % at depth 110 and 4.91 % at 1202, tables 1 and 2"),
    )
)
def resnet_cifar_sd(*, depth: int = 110, weights: str | None = None) -> Backbone:
    """`resnet_cifar` with stochastic depth in training, 110 layers or another 6n + 2; codes of length 64.

    There are no published weights.

    Args:
        depth: 110, 1202 or another 6n + 2. The record, of parameters and operations, is that of 110.
        weights: those of `resnet_cifar`: a .safetensors file, or a folder that holds model.safetensors, or None for
            random ones.
    """
    from tlkit_plugins.networks.resnet import CifarResNet
    from tlkit_plugins.networks.stochastic_depth import stochastic_depth

    module = CifarResNet(cifar_blocks(depth))
    stochastic_depth(module)
    return from_network(module, name="resnet_cifar_sd", weights=weights, preprocess=cifar(), spec={"depth": depth})
