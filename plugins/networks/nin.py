"""Network in Network (Lin, Chen and Yan 2014): small perceptrons as filters, no fully connected layer at the end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from .layers import Chain, initialise


@final
class NetworkInNetwork(Chain):
    """mlpconv layers (section 3.1); the last 1x1 convolution of the last has a map for each class, which is averaged.

    So the classifier is a 1x1 convolution, rectification and global average pooling (section 3.2). Codes are the mean
    of the map that it sees.

    Args:
        maps: All layers before the classifier, by name.
        num_features: Channels of the last of them.
        num_classes: Outputs.
    """

    def __init__(self, maps: Mapping[str, nn.Module], num_features: int, num_classes: int) -> None:
        super().__init__(maps)
        self.num_features = num_features
        self.reset_classifier(num_classes)
        initialise(self)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (n, num_classes) of a last map, or its codes."""
        return self.pool(x if pre_logits or not self.num_classes else self.classifier(x).relu())

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new 1x1 convolution for so many classes, or none for 0."""
        self.classifier = nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()
        self.num_classes = num_classes


def nin_cifar_2014() -> NetworkInNetwork:
    """Build the network for 32x32 pixels of section 4: three mlpconv layers, widths as in the authors' files."""
    maps = {
        "mlpconv1": _mlpconv(nn.Conv2d(3, 192, 5, padding=2), 160, 96),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop1": nn.Dropout(0.5),
        "mlpconv2": _mlpconv(nn.Conv2d(96, 192, 5, padding=2), 192, 192),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop2": nn.Dropout(0.5),
        "mlpconv3": _mlpconv(nn.Conv2d(192, 192, 3, padding=1), 192),
    }
    return NetworkInNetwork(maps, num_features=192, num_classes=10)


def nin_imagenet() -> NetworkInNetwork:
    """Build the authors' network for ImageNet: four mlpconv layers, the first three shaped as AlexNet's."""
    maps = {
        "mlpconv1": _mlpconv(nn.Conv2d(3, 96, 11, stride=4), 96, 96),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "mlpconv2": _mlpconv(nn.Conv2d(96, 256, 5, padding=2), 256, 256),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "mlpconv3": _mlpconv(nn.Conv2d(256, 384, 3, padding=1), 384, 384),
        "pool3": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "drop3": nn.Dropout(0.5),
        "mlpconv4": _mlpconv(nn.Conv2d(384, 1024, 3, padding=1), 1024),
    }
    return NetworkInNetwork(maps, num_features=1024, num_classes=1000)


def _mlpconv(convolution: nn.Conv2d, *widths: int) -> nn.Sequential:
    """A convolution and a perceptron on the channels of each position: 1x1 convolutions with `widths` maps."""
    layers: dict[str, nn.Module] = {"conv": convolution, "relu": nn.ReLU()}
    channels = convolution.out_channels
    for number, width in enumerate(widths, start=1):
        layers |= {f"mlp{number}": nn.Conv2d(channels, width, 1), f"relu{number}": nn.ReLU()}
        channels = width
    return nn.Sequential(OrderedDict(layers))
