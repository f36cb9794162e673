"""SENet (Hu et al. 2017): blocks squeeze maps to their means, and weigh the maps by what two layers make of them."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

RECIPE = Recipe(
    optimizer="sgd", lr=0.6, batch_size=1024, momentum=0.9, weight_decay=None, schedule="divided by 10 every 30 epochs"
)


def _reference(
    macs: float | None = None, top1: float | None = None, top5: float | None = None, note: str | None = None
) -> Reference:
    return Reference(
        paper="Squeeze-and-Excitation Networks",
        authors="Hu, Shen and Sun",
        year=2017,
        url="https://arxiv.org/abs/1709.01507",
        macs=macs,
        top1=top1,
        top5=top5,
        note=note,
    )


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=11_779_624,
        macs=1_814_161_408,
        recipe=RECIPE,
        reference=_reference(note="no figures in the paper"),
    )
)
def seresnet18(*, weights: str | None = None) -> Backbone:
    """SE-ResNet-18; no published weights in a safe form; codes of length 512.

    Weights for timm's `legacy_seresnet18`, which has other names for its layers, are published as a pickle only.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("seresnet18", weights=weights)


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=21_960_416,
        macs=3_663_920_128,
        recipe=RECIPE,
        reference=_reference(note="no figures in the paper"),
    )
)
def seresnet34(*, weights: str | None = None) -> Backbone:
    """SE-ResNet-34; no published weights in a safe form; codes of length 512.

    Weights for timm's `legacy_seresnet34`, which has other names for its layers, are published as a pickle only.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("seresnet34", weights=weights)


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=28_088_024,
        macs=4_091_699_200,
        weights="timm/seresnet50.a1_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(3.87e9, 100 - 23.29, 100 - 6.62, "1 crop, table 2"),
    )
)
def seresnet50(*, weights: str | None = "pretrained") -> Backbone:
    """SE-ResNet-50; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("seresnet50", weights=weights)


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=49_326_872,
        macs=7_806_148_608,
        recipe=RECIPE,
        reference=_reference(7.60e9, 100 - 22.38, 100 - 6.07, "1 crop, table 2"),
    )
)
def seresnet101(*, weights: str | None = None) -> Backbone:
    """SE-ResNet-101; no published weights in a safe form; codes of length 2048.

    Weights for timm's `legacy_seresnet101`, which has other names for its layers, are published as a pickle only.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("seresnet101", weights=weights)


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=66_821_848,
        macs=11_520_204_800,
        recipe=RECIPE,
        reference=_reference(11.32e9, 100 - 21.57, 100 - 5.73, "1 crop, table 2"),
    )
)
def seresnet152(*, weights: str | None = None) -> Backbone:
    """SE-ResNet-152; no published weights in a safe form; codes of length 2048.

    Weights for timm's `legacy_seresnet152`, which has other names for its layers, are published as a pickle only.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("seresnet152", weights=weights)


@documented(
    Record(
        family="senet",
        input_size=(3, 224, 224),
        params=115_088_984,
        macs=20_688_363_520,
        weights="timm/senet154.gluon_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(top1=100 - 18.68, top5=100 - 4.47, note="1 crop of 224 pixels"),
    )
)
def senet154(*, weights: str | None = "pretrained") -> Backbone:
    """SENet-154, of the entry that won ILSVRC 2017: 64 paths a block, squeeze and excitation; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("senet154", weights=weights)
