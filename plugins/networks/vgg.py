"""The two configurations of VGG (Simonyan and Zisserman 2014, table 1) that timm does not have."""

from torch import nn

from .layers import Layers, imagenet_network, response_norm

# Kernel sizes of each block; blocks have 64, 128, 256, 512 and 512 maps and end with a pooling.
_BLOCKS = {
    "vgg11_lrn": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "vgg16_1x1": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
}


def vgg_2014(name: str, input_size: int) -> Layers:
    """Build `vgg11_lrn`, configuration A-LRN, or `vgg16_1x1`, configuration C."""
    maps: dict[str, nn.Module] = {}
    channels = 3
    for block, (kernels, width) in enumerate(zip(_BLOCKS[name], (64, 128, 256, 512, 512), strict=True), start=1):
        for layer, kernel in enumerate(kernels, start=1):
            maps[f"conv{block}_{layer}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
            maps[f"relu{block}_{layer}"] = nn.ReLU()
            channels = width
        if name == "vgg11_lrn" and block == 1:
            maps["norm1"] = response_norm()
        maps[f"pool{block}"] = nn.MaxPool2d(2)
    return imagenet_network(name, maps, input_size)
