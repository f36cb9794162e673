"""DenseNet (Huang et al. 2017): in a block each layer sees the maps of all layers before it."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    batch_size=256,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="divided by 10 at epochs 30 and 60",
)
_TAPS = {
    "stem": "features.pool0",
    **{f"{kind}{number}": f"features.{kind}{number}" for number in (1, 2, 3) for kind in ("denseblock", "transition")},
    "denseblock4": "features.denseblock4",
}


def _reference(params: float | None = None, top1: float | None = None, top5: float | None = None) -> Reference:
    return Reference(
        paper="Densely Connected Convolutional Networks",
        authors="Huang, Liu, van der Maaten and Weinberger",
        year=2016,
        url="https://arxiv.org/abs/1608.06993",
        params=params,
        top1=top1,
        top5=top5,
        note=None if top1 is None else "1 crop, table 3",
    )


@documented(
    Record(
        family="densenet",
        input_size=(3, 224, 224),
        params=7_978_856,
        macs=2_834_161_664,
        weights="timm/densenet121.ra_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(8.0e6, 100 - 25.02, 100 - 7.71),
    )
)
def densenet121(*, weights: str | None = "pretrained") -> Backbone:
    """DenseNet-121: blocks of 6, 12, 24 and 16 layers, growth rate 32; codes of length 1024.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("densenet121", weights=weights, taps=_TAPS)


@documented(
    Record(
        family="densenet",
        input_size=(3, 224, 224),
        params=28_681_000,
        macs=7_727_907_072,
        weights="timm/densenet161.tv_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(),
    )
)
def densenet161(*, weights: str | None = "pretrained") -> Backbone:
    """DenseNet-161: blocks of 6, 12, 36 and 24 layers, growth rate 48; codes of length 2208.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("densenet161", weights=weights, taps=_TAPS)


@documented(
    Record(
        family="densenet",
        input_size=(3, 224, 224),
        params=14_149_480,
        macs=3_359_843_328,
        weights="timm/densenet169.tv_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(top1=100 - 23.80, top5=100 - 6.85),
    )
)
def densenet169(*, weights: str | None = "pretrained") -> Backbone:
    """DenseNet-169: blocks of 6, 12, 32 and 32 layers, growth rate 32; codes of length 1664.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("densenet169", weights=weights, taps=_TAPS)


@documented(
    Record(
        family="densenet",
        input_size=(3, 224, 224),
        params=20_013_928,
        macs=4_291_365_888,
        weights="timm/densenet201.tv_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(top1=100 - 22.58, top5=100 - 6.34),
    )
)
def densenet201(*, weights: str | None = "pretrained") -> Backbone:
    """DenseNet-201: blocks of 6, 12, 48 and 32 layers, growth rate 32; codes of length 1920.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("densenet201", weights=weights, taps=_TAPS)
