"""MobileNet V1 (Howard et al. 2017) and V2 (Sandler et al. 2018): depthwise-separable convolutions."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm


@documented(
    Record(
        family="mobilenet",
        input_size=(3, 224, 224),
        params=4_231_976,
        macs=568_740_352,
        weights="timm/mobilenetv1_100.ra4_e3600_r224_in1k",
        license="apache-2.0",
        # The paper names RMSprop and none of the numbers; these are those of the authors' own script,
        # research/slim/nets/mobilenet_v1_train.py in tensorflow/models.
        recipe=Recipe(
            optimizer="sgd",
            lr=0.045,
            batch_size=64,
            momentum=None,
            weight_decay=4e-5,
            schedule="times 0.94 every 2.5 epochs",
        ),
        reference=Reference(
            paper="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
            authors="Howard et al.",
            year=2017,
            url="https://arxiv.org/abs/1704.04861",
            params=4.2e6,
            macs=569e6,
            top1=70.6,
            note="table 4",
        ),
    )
)
def mobilenetv1_100(*, weights: str | None = "pretrained") -> Backbone:
    """MobileNet V1, width 1.0; codes of length 1024.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("mobilenetv1_100", weights=weights)


@documented(
    Record(
        family="mobilenet",
        input_size=(3, 224, 224),
        params=3_504_872,
        macs=300_774_272,
        weights="timm/mobilenetv2_100.ra_in1k",
        license="apache-2.0",
        recipe=Recipe(
            optimizer="rmsprop",
            lr=0.045,
            batch_size=96,
            momentum=0.9,
            weight_decay=4e-5,
            schedule="times 0.98 an epoch",
        ),
        reference=Reference(
            paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
            authors="Sandler et al.",
            year=2018,
            url="https://arxiv.org/abs/1801.04381",
            params=3.5e6,
            macs=300e6,
            top1=72.0,
            note="table 4",
        ),
    )
)
def mobilenetv2_100(*, weights: str | None = "pretrained") -> Backbone:
    """MobileNet V2, width 1.0: inverted residuals with linear bottlenecks; codes of length 1280.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("mobilenetv2_100", weights=weights)
