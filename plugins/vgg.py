"""VGG (Simonyan and Zisserman 2014): 3x3 convolutions and max-pooling, then three fully connected layers.

The paper's table 1 calls the networks A (`vgg11`), A-LRN (`vgg11_lrn`), B (`vgg13`), C (`vgg16_1x1`), D (`vgg16`) and E
(`vgg19`). The forms with BatchNorm are torchvision's.
"""

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm

RECIPE = Recipe(
    optimizer="sgd", lr=1e-2, batch_size=256, momentum=0.9, weight_decay=5e-4, schedule="divided by 10 on a plateau"
)
_CONVOLUTIONS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2,) * 5, "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_FROM = "table 3, one network, one size of test images"


def _record(
    params: int,
    macs: int,
    published: str | None,
    claimed: float | None = None,
    errors: tuple[float, float] | None = None,
    note: str | None = _FROM,
) -> Record:
    """Put what all of them share around parameters and multiply-adds here, parameters and errors in the paper."""
    top1, top5 = (None, None) if errors is None else (100 - errors[0], 100 - errors[1])
    return Record(
        family="vgg",
        input_size=(3, 224, 224),
        params=params,
        macs=macs,
        weights=published and f"timm/{published}.tv_in1k",
        license=published and "bsd-3-clause",
        recipe=RECIPE,
        reference=Reference(
            paper="Very Deep Convolutional Networks for Large-Scale Image Recognition",
            authors="Simonyan and Zisserman",
            year=2014,
            url="https://arxiv.org/abs/1409.1556",
            params=claimed,
            top1=top1,
            top5=top5,
            note=note,
        ),
    )


@documented(_record(132_863_336, 7_609_090_048, "vgg11", 133e6, (29.6, 10.4)))
def vgg11(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-11 (configuration A). Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg11", weights)


@documented(_record(132_863_336, 7_609_090_048, None, 133e6, (29.7, 10.5)))
def vgg11_lrn(*, input_size: int = 224, weights: str | None = None) -> Backbone:
    """VGG-11 with response normalisation behind conv1 (A-LRN), which did not help. No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 32.
        weights: a .safetensors file, or None for random ones.
    """
    return _ours("vgg11_lrn", input_size, weights)


@documented(_record(133_047_848, 11_308_466_176, "vgg13", 133e6, (28.7, 9.9)))
def vgg13(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-13 (configuration B). Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg13", weights)


@documented(_record(133_638_952, 11_770_888_192, None, 134e6, (27.3, 8.8)))
def vgg16_1x1(*, input_size: int = 224, weights: str | None = None) -> Backbone:
    """VGG-16 whose last convolution of blocks 3 to 5 is 1x1 (configuration C). No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 32.
        weights: a .safetensors file, or None for random ones.
    """
    return _ours("vgg16_1x1", input_size, weights)


@documented(
    _record(
        138_357_544,
        15_470_264_320,
        "vgg16",
        138e6,
        (25.6, 8.1),
        note=f"{_FROM}; 7.3 % top-5 error in ILSVRC 2014 is that of seven networks",
    )
)
def vgg16(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-16 (configuration D). Its taps are the five poolings, fc6 and fc7; the codes ("pool") are fc7 after ReLU.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg16", weights)


@documented(_record(143_667_240, 19_632_062_464, "vgg19", 144e6, (25.5, 8.0)))
def vgg19(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-19 (configuration E). Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg19", weights)


@documented(_record(132_868_840, 7_609_090_048, "vgg11_bn", note="BatchNorm is not the paper's"))
def vgg11_bn(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-11 with BatchNorm after every convolution. Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg11_bn", weights)


@documented(_record(133_053_736, 11_308_466_176, "vgg13_bn", note="BatchNorm is not the paper's"))
def vgg13_bn(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-13 with BatchNorm after every convolution. Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg13_bn", weights)


@documented(_record(138_365_992, 15_470_264_320, "vgg16_bn", note="BatchNorm is not the paper's"))
def vgg16_bn(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-16 with BatchNorm after every convolution. Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg16_bn", weights)


@documented(_record(143_678_248, 19_632_062_464, "vgg19_bn", note="BatchNorm is not the paper's"))
def vgg19_bn(*, weights: str | None = "pretrained") -> Backbone:
    """VGG-19 with BatchNorm after every convolution. Codes of length 4096.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return _of_timm("vgg19_bn", weights)


def _of_timm(name: str, weights: str | None) -> Backbone:
    # timm leaves the paper's dropout out unless it is asked for.
    return from_timm(name, weights=weights, taps=_taps(name), drop_rate=0.5)


def _taps(name: str) -> dict[str, str]:
    """Return where timm has the poolings and the fully connected layers.

    >>> list(_taps("vgg11").items())[:2], _taps("vgg11_bn")["pool1"]
    ([('pool1', 'features.2'), ('pool2', 'features.5')], 'features.3')
    """
    base, _, norm = name.partition("_")
    taps, layers = {}, 0
    for block, convolutions in enumerate(_CONVOLUTIONS[base], start=1):
        layers += (3 if norm else 2) * convolutions + 1
        taps[f"pool{block}"] = f"features.{layers - 1}"
    return {**taps, "fc6": "pre_logits.act1", "fc7": "pre_logits.act2"}


def _ours(name: str, input_size: int, weights: str | None) -> Backbone:
    from tlkit_plugins.networks.vgg import vgg_2014

    pools = [f"pool{block}" for block in range(1, 6)]
    return from_network(
        vgg_2014(name, input_size),
        name=name,
        weights=weights,
        preprocess=imagenet(input_size),
        spec={"input_size": input_size},
        taps={**{pool: pool for pool in pools}, "fc6": "relu6", "fc7": "relu7"},
    )
