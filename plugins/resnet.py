"""ResNet (He et al. 2015): residual blocks.

In the deeper ones timm, as torchvision, puts the stride on the 3x3 convolution of a block, where the paper's table has
it on the 1x1: 4.1 instead of 3.8 thousand million multiply-adds for ResNet-50.
"""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

RECIPE = Recipe(
    optimizer="sgd", lr=0.1, batch_size=256, momentum=0.9, weight_decay=1e-4, schedule="divided by 10 on a plateau"
)


def _reference(macs: float, top1: float, top5: float | None) -> Reference:
    return Reference(
        paper="Deep Residual Learning for Image Recognition",
        authors="He, Zhang, Ren and Sun",
        year=2015,
        url="https://arxiv.org/abs/1512.03385",
        macs=macs,
        top1=top1,
        top5=top5,
        note="10 crops, tables 2 and 3",
    )


@documented(
    Record(
        family="resnet",
        input_size=(3, 224, 224),
        params=11_689_512,
        macs=1_814_073_344,
        weights="timm/resnet18.a1_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(macs=1.8e9, top1=100 - 27.88, top5=None),
    )
)
def resnet18(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-18: four stages of two basic blocks; codes of length 512.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet18", weights=weights)


@documented(
    Record(
        family="resnet",
        input_size=(3, 224, 224),
        params=25_557_032,
        macs=4_089_184_256,
        weights="timm/resnet50.a1_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(macs=3.8e9, top1=100 - 22.85, top5=100 - 6.71),
    )
)
def resnet50(*, weights: str | None = "pretrained") -> Backbone:
    """ResNet-50: stages of 3, 4, 6 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnet50", weights=weights)
