"""ZFNet (Zeiler and Fergus 2013): AlexNet changed after looking at what its layers react to.

7x7 filters with stride 2 in the first layer, where AlexNet's 11x11 with stride 4 left dead filters and aliasing.
"""

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network

RECIPE = Recipe(
    optimizer="sgd", lr=1e-2, batch_size=128, momentum=0.9, weight_decay=None, schedule="divided by hand on a plateau"
)
_TAPS = {
    **{f"conv{layer}": f"relu{layer}" for layer in range(1, 6)},
    **{f"pool{layer}": f"pool{layer}" for layer in (1, 2, 5)},
    **{"fc6": "relu6", "fc7": "relu7"},
}


def _record(params: int, macs: int, top1_error: float, top5_error: float) -> Record:
    return Record(
        family="zfnet",
        input_size=(3, 224, 224),
        params=params,
        macs=macs,
        recipe=RECIPE,
        reference=Reference(
            paper="Visualizing and Understanding Convolutional Networks",
            authors="Zeiler and Fergus",
            year=2013,
            url="https://arxiv.org/abs/1311.2901",
            top1=100 - top1_error,
            top5=100 - top5_error,
            note="table 2, one network; 14.8 % top-5 error, of six, and 11.7 % are quoted as well",
        ),
    )


@documented(_record(62_357_608, 1_168_032_896, 38.4, 16.5))
def zfnet(*, input_size: int = 224, weights: str | None = None) -> Backbone:
    """ZFNet, eight layers; codes of length 4096. No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 47.
        weights: a .safetensors file, or None for random ones.
    """
    return _zfnet("zfnet", input_size, weights, (384, 384, 256))


@documented(_record(107_627_624, 2_476_704_896, 37.5, 16.0))
def zfnet_512(*, input_size: int = 224, weights: str | None = None) -> Backbone:
    """ZFNet with 512, 1024 and 512 maps in layers 3, 4 and 5; codes of length 4096. No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 47.
        weights: a .safetensors file, or None for random ones.
    """
    return _zfnet("zfnet_512", input_size, weights, (512, 1024, 512))


def _zfnet(name: str, input_size: int, weights: str | None, widths: tuple[int, int, int]) -> Backbone:
    from tlkit_plugins.networks.zfnet import zfnet_2013

    return from_network(
        zfnet_2013(name, input_size, widths),
        name=name,
        weights=weights,
        preprocess=imagenet(input_size),
        spec={"input_size": input_size},
        taps=_TAPS,
    )
