"""ResNeXt (Xie et al. 2016): residual blocks of many narrow paths side by side, which are grouped convolutions.

`resnext101_32x4d`: 101 layers, 32 paths, each 4 maps wide in the first stage.
"""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

RECIPE = Recipe(
    optimizer="sgd", lr=0.1, batch_size=256, momentum=0.9, weight_decay=1e-4, schedule="divided by 10 three times"
)


def _reference(
    params: float | None = None,
    macs: float | None = None,
    top1: float | None = None,
    top5: float | None = None,
    note: str | None = None,
) -> Reference:
    return Reference(
        paper="Aggregated Residual Transformations for Deep Neural Networks",
        authors="Xie et al.",
        year=2016,
        url="https://arxiv.org/abs/1611.05431",
        params=params,
        macs=macs,
        top1=top1,
        top5=top5,
        note=note,
    )


_WIDER = "of this width the paper has none; see Mahajan et al. 2018, https://arxiv.org/abs/1805.00932"


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=25_028_904,
        macs=4_230_479_872,
        weights="timm/resnext50_32x4d.a1h_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(25.0e6, 4.2e9, 100 - 22.2, note="1 crop, tables 1 and 3"),
    )
)
def resnext50_32x4d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-50, 32 paths of width 4: as large and as fast as ResNet-50; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext50_32x4d", weights=weights)


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=44_177_704,
        macs=7_969_996_800,
        weights="timm/resnext101_32x4d.fb_ssl_yfcc100m_ft_in1k",
        license="cc-by-nc-4.0",
        recipe=RECIPE,
        reference=_reference(top1=100 - 21.2, note="1 crop, table 3"),
    )
)
def resnext101_32x4d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-101, 32 paths of width 4; codes of length 2048. The licence of its weights forbids commercial use.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext101_32x4d", weights=weights)


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=88_791_336,
        macs=16_414_015_488,
        weights="timm/resnext101_32x8d.tv_in1k",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=_reference(note=_WIDER),
    )
)
def resnext101_32x8d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-101, 32 paths of width 8; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext101_32x8d", weights=weights)


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=194_026_792,
        macs=36_163_289_088,
        weights="timm/resnext101_32x16d.fb_wsl_ig1b_ft_in1k",
        license="cc-by-nc-4.0",
        recipe=RECIPE,
        reference=_reference(note=_WIDER),
    )
)
def resnext101_32x16d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-101, 32 paths of width 16; codes of length 2048. The licence of its weights forbids commercial use.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext101_32x16d", weights=weights)


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=468_530_472,
        macs=87_106_781_184,
        weights="timm/resnext101_32x32d.fb_wsl_ig1b_ft_in1k",
        license="cc-by-nc-4.0",
        recipe=RECIPE,
        reference=_reference(note=_WIDER),
    )
)
def resnext101_32x32d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-101, 32 paths of width 32; codes of length 2048. The licence of its weights forbids commercial use.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext101_32x32d", weights=weights)


@documented(
    Record(
        family="resnext",
        input_size=(3, 224, 224),
        params=83_455_272,
        macs=15_460_270_080,
        weights="timm/resnext101_64x4d.c1_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(top1=100 - 20.4, top5=100 - 5.3, note="1 crop, table 4"),
    )
)
def resnext101_64x4d(*, weights: str | None = "pretrained") -> Backbone:
    """ResNeXt-101, 64 paths of width 4; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnext101_64x4d", weights=weights)
