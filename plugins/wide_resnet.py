"""Wide ResNet (Zagoruyko and Komodakis 2016): fewer layers than ResNet, with more maps in each."""

from tlkit_plugins.preprocessing import cifar
from tlkit_plugins.resnet import RECIPE

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm
from tlkit.errors import UsageError


def _reference(
    params: float | None = None, errors: tuple[float, float] | None = None, note: str | None = None
) -> Reference:
    """Cite the paper; `errors` are its top-1 and top-5 errors in percent."""
    return Reference(
        paper="Wide Residual Networks",
        authors="Zagoruyko and Komodakis",
        year=2016,
        url="https://arxiv.org/abs/1605.07146",
        params=params,
        top1=100 - errors[0] if errors else None,
        top5=100 - errors[1] if errors else None,
        note=note,
    )


@documented(
    Record(
        family="wide_resnet",
        input_size=(3, 224, 224),
        params=68_883_240,
        macs=11_398_021_120,
        weights="timm/wide_resnet50_2.racm_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(68.9e6, (21.9, 6.03), "one crop, table 8; ResNet-152 has 22.16 and 6.16 % errors there"),
    )
)
def wide_resnet50_2(*, weights: str | None = "pretrained") -> Backbone:
    """Wide ResNet-50-2: ResNet-50 with twice the maps in the 3x3 convolutions; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("wide_resnet50_2", weights=weights)


@documented(
    Record(
        family="wide_resnet",
        input_size=(3, 224, 224),
        params=126_886_696,
        macs=22_753_050_624,
        weights="timm/wide_resnet101_2.tv_in1k",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=_reference(note="not in the paper; torchvision's, of the same rule"),
    )
)
def wide_resnet101_2(*, weights: str | None = "pretrained") -> Backbone:
    """Wide ResNet-101-2: ResNet-101 with twice the maps in the 3x3 convolutions; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("wide_resnet101_2", weights=weights)


@documented(
    Record(
        family="wide_resnet",
        input_size=(3, 32, 32),
        params=36_479_194,
        macs=5_243_328_768,
        recipe=Recipe(
            optimizer="sgd",
            lr=0.1,
            batch_size=128,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="times 0.2 after 60, 120 and 160 of 200 epochs",
        ),
        reference=_reference(note="36.5 million parameters and 4.00 % error on CIFAR-10 for WRN-28-10, table 4"),
    )
)
def wrn_cifar(*, depth: int = 28, width: int = 10, weights: str | None = None) -> Backbone:
    """Wide ResNet for CIFAR, 32 x 32 pixels: WRN-28-10, or another depth and width; no published weights.

    Args:
        depth: 16, 22, 28, 40 or another 6n + 4.
        width: k, how many times wider than a ResNet for CIFAR; codes have length 64k. WRN-16-8 is depth 16, width 8.
            The record, of parameters and operations, is that of WRN-28-10.
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.wide_resnet import WideResNet

    n, rest = divmod(depth - 4, 6)
    if rest or n < 1:
        raise UsageError(f"backbone.depth={depth}: these networks have 6n + 4 layers. The paper has 16, 22, 28 and 40.")
    if width < 1:
        raise UsageError(f"backbone.width={width}: give 1 or more. The paper has 1, 2, 4, 8, 10 and 12.")
    return from_network(
        WideResNet(n, width),
        name="wrn_cifar",
        weights=weights,
        preprocess=cifar(),
        spec={"depth": depth, "width": width},
    )
