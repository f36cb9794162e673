"""ZFNet (Zeiler and Fergus 2013): AlexNet with smaller filters and strides in the first layers."""

from torch import nn

from .layers import Layers, imagenet_network, response_norm


def zfnet_2013(name: str, input_size: int, widths: tuple[int, int, int]) -> Layers:
    """Build the network of figure 3, with `widths` maps in layers 3, 4 and 5.

    Maps of 110, 55, 26, 13, 13, 13 and 6 pixels a side follow where poolings keep an incomplete last window. As its
    caption says, maps are rectified, pooled, and only then normalised.
    """
    third, fourth, fifth = widths
    maps = {
        "conv1": nn.Conv2d(3, 96, 7, stride=2, padding=1),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "norm1": response_norm(),
        "conv2": nn.Conv2d(96, 256, 5, stride=2),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "norm2": response_norm(),
        "conv3": nn.Conv2d(256, third, 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(third, fourth, 3, padding=1),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(fourth, fifth, 3, padding=1),
        "relu5": nn.ReLU(),
        "pool5": nn.MaxPool2d(3, stride=2, ceil_mode=True),
    }
    return imagenet_network(name, maps, input_size)
