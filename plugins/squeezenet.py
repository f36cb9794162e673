"""SqueezeNet (Iandola et al. 2016): fire modules squeeze maps by 1x1 convolutions, then expand them by 1x1 and 3x3."""

from typing import Literal

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network

# The rate and its schedule are the paper's; the other numbers those of the solver that the authors published with it.
RECIPE = Recipe(
    optimizer="sgd", lr=0.04, batch_size=512, momentum=0.9, weight_decay=2e-4, schedule="linearly down to 0"
)
_TITLE = "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size"
_FIRES = {"1_0": (3, 4, 5, 7, 8, 9, 10, 12), "1_1": (3, 4, 6, 7, 9, 10, 11, 12)}  # of `features`


def _build(version: Literal["1_0", "1_1"], weights: str | None) -> Backbone:
    from tlkit_plugins.networks.squeezenet import SqueezeNet

    name = f"squeezenet{version}"
    return from_network(
        SqueezeNet(version),
        name=name,
        weights=weights,
        preprocess=imagenet(),
        published=name,
        taps={
            "conv1": "features.1",
            **{f"fire{fire}": f"features.{place}" for fire, place in enumerate(_FIRES[version], 2)},
        },
    )


@documented(
    Record(
        family="squeezenet",
        input_size=(3, 224, 224),
        params=1_248_424,
        macs=818_924_576,
        weights="torchvision/squeezenet1_0",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=Reference(
            paper=_TITLE,
            authors="Iandola et al.",
            year=2016,
            url="https://arxiv.org/abs/1602.07360",
            params=1_248_424,
            top1=57.5,
            top5=80.3,
            note="tables 1 and 2",
        ),
    )
)
def squeezenet1_0(*, weights: str | None = "pretrained") -> Backbone:
    """SqueezeNet 1.0, the paper's: 8 fire modules, 50 times fewer parameters than AlexNet; codes of length 512.

    Args:
        weights: "pretrained" (torchvision's), a .safetensors file or a folder with model.safetensors, or None for
            random ones.
    """
    return _build("1_0", weights)


@documented(
    Record(
        family="squeezenet",
        input_size=(3, 224, 224),
        params=1_235_496,
        macs=349_151_936,
        weights="torchvision/squeezenet1_1",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=Reference(
            paper=_TITLE,
            authors="Iandola et al.",
            year=2016,
            url="https://arxiv.org/abs/1602.07360",
            note="published by the authors after the paper, which has version 1.0",
        ),
    )
)
def squeezenet1_1(*, weights: str | None = "pretrained") -> Backbone:
    """SqueezeNet 1.1: as accurate as 1.0 for 2.4 times fewer operations; codes of length 512.

    Args:
        weights: "pretrained" (torchvision's), a .safetensors file or a folder with model.safetensors, or None for
            random ones.
    """
    return _build("1_1", weights)
