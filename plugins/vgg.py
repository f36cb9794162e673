"""VGG (Simonyan and Zisserman 2014): 3x3 convolutions and max-pooling, then three fully connected layers."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

RECIPE = Recipe(
    optimizer="sgd", lr=1e-2, batch_size=256, momentum=0.9, weight_decay=5e-4, schedule="divided by 10 on a plateau"
)
_TITLE = "Very Deep Convolutional Networks for Large-Scale Image Recognition"


@documented(
    Record(
        family="vgg",
        input_size=(3, 224, 224),
        params=138_357_544,
        macs=15_470_264_320,
        weights="timm/vgg16.tv_in1k",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=Reference(
            paper=_TITLE,
            authors="Simonyan and Zisserman",
            year=2014,
            url="https://arxiv.org/abs/1409.1556",
            params=138e6,
            top5=100 - 7.3,
            note="an ensemble of the ILSVRC 2014 submission",
        ),
    )
)
def vgg16(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-16 (configuration D). Its taps are the five poolings, fc6 and fc7; the codes ("pool") are fc7 after ReLU.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm(
        "vgg16",
        weights=weights,
        taps={
            "pool1": "features.4",
            "pool2": "features.9",
            "pool3": "features.16",
            "pool4": "features.23",
            "pool5": "features.30",
            "fc6": "pre_logits.act1",
            "fc7": "pre_logits.act2",
        },
    )
