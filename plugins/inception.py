"""Inception v2 (Ioffe and Szegedy 2015), v3 (Szegedy et al. 2015), v4 and Inception-ResNet-v2 (Szegedy et al. 2016)."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm

_RMSPROP = Recipe(
    optimizer="rmsprop",
    lr=0.045,
    batch_size=32,  # of each of the replicas, whose gradients were applied one by one
    momentum=None,
    weight_decay=None,
    schedule="times 0.94 every 2 epochs",
)
_V4 = "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
_V2_MODULES = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_V3_MODULES = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


@documented(
    Record(
        family="inception",
        input_size=(3, 224, 224),
        params=11_188_288,
        macs=1_934_857_216,
        recipe=Recipe(
            optimizer="sgd", lr=0.0075, batch_size=32, momentum=0.9, weight_decay=None, schedule="exponential decay"
        ),
        reference=Reference(
            paper="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
            authors="Ioffe and Szegedy",
            year=2015,
            url="https://arxiv.org/abs/1502.03167",
            top1=100 - 25.2,
            top5=100 - 7.82,
            note="1 network, 1 crop, figure 4",
        ),
    )
)
def inception_v2(*, weights: str | None = None) -> Backbone:
    """Inception v2, or BN-Inception; no published weights; codes of length 1024.

    The recipe is that of the paper's BN-x5.

    Args:
        weights: a .safetensors file or a folder with model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.inception_v2 import InceptionV2

    from tlkit.data import Preprocess

    half = (0.5, 0.5, 0.5)
    return from_network(
        InceptionV2(),
        name="inception_v2",
        weights=weights,
        preprocess=Preprocess((3, 224, 224), "bilinear", half, half, 0.875),
        taps={"conv1": "conv1", "conv2": "conv2", **{f"inception{name}": f"inception{name}" for name in _V2_MODULES}},
    )


@documented(
    Record(
        family="inception",
        input_size=(3, 299, 299),
        params=23_834_568,
        macs=5_713_216_096,
        weights="timm/inception_v3.tv_in1k",
        license="apache-2.0",
        recipe=_RMSPROP,
        reference=Reference(
            paper="Rethinking the Inception Architecture for Computer Vision",
            authors="Szegedy et al.",
            year=2015,
            url="https://arxiv.org/abs/1512.00567",
            macs=5e9,
            top1=100 - 21.2,
            top5=100 - 5.6,
            note='1 crop; the abstract says "5 billion multiply-adds" and "less than 25 million parameters"',
        ),
    )
)
def inception_v3(*, weights: str | None = "pretrained") -> Backbone:
    """Inception v3, for 299 pixels, without its auxiliary classifier; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    taps = {
        "conv1": "Conv2d_2b_3x3",
        "conv2": "Conv2d_4a_3x3",
        **{f"mixed{name}": f"Mixed_{name}" for name in _V3_MODULES},
    }
    return from_timm("inception_v3", weights=weights, taps=taps)


@documented(
    Record(
        family="inception",
        input_size=(3, 299, 299),
        params=42_679_816,
        macs=12_253_974_624,
        weights="timm/inception_v4.tf_in1k",
        license="apache-2.0",
        recipe=_RMSPROP,
        reference=Reference(
            paper=_V4,
            authors="Szegedy et al.",
            year=2016,
            url="https://arxiv.org/abs/1602.07261",
            top1=100 - 20.0,
            top5=100 - 5.0,
            note="1 crop, table 2",
        ),
    )
)
def inception_v4(*, weights: str | None = "pretrained") -> Backbone:
    """Inception v4, for 299 pixels; codes of length 1536.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    names = [
        "stem",
        *(f"inception_a{number}" for number in range(1, 5)),
        "reduction_a",
        *(f"inception_b{number}" for number in range(1, 8)),
        "reduction_b",
        *(f"inception_c{number}" for number in range(1, 4)),
    ]
    taps = {name: f"features.{number}" for number, name in enumerate(names, 5)}
    return from_timm("inception_v4", weights=weights, taps=taps)


@documented(
    Record(
        family="inception",
        input_size=(3, 299, 299),
        params=55_843_464,
        macs=13_155_794_016,
        weights="timm/inception_resnet_v2.tf_in1k",
        license="apache-2.0",
        recipe=_RMSPROP,
        reference=Reference(
            paper=_V4,
            authors="Szegedy et al.",
            year=2016,
            url="https://arxiv.org/abs/1602.07261",
            top1=100 - 19.9,
            top5=100 - 4.9,
            note="1 crop, table 2",
        ),
    )
)
def inception_resnet_v2(*, weights: str | None = "pretrained") -> Backbone:
    """Inception-ResNet-v2, for 299 pixels: inception modules with shortcuts; codes of length 1536.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    taps = {
        "stem": "mixed_5b",
        "inception_resnet_a": "repeat",
        "reduction_a": "mixed_6a",
        "inception_resnet_b": "repeat_1",
        "reduction_b": "mixed_7a",
        "inception_resnet_c": "block8",
    }
    return from_timm("inception_resnet_v2", weights=weights, taps=taps)
