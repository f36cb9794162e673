"""BN-Inception (Ioffe and Szegedy 2015, "Batch Normalization", appendix, figure 5), also known as Inception v2."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from .googlenet import Branches
from .interface import Network

# Figure 5, of each module: maps in, 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool projection. Modules
# without a 1x1 halve the map, and pass it through their pool. The figure prints projections of 128 maps for 4c and
# 4d, and totals of 576, which need 96; these are the totals, as in the authors' own code.
MODULES: dict[str, tuple[int, int, int, int, int, int, int]] = {
    "inception3a": (192, 64, 64, 64, 64, 96, 32),
    "inception3b": (256, 64, 64, 96, 64, 96, 64),
    "inception3c": (320, 0, 128, 160, 64, 96, 0),
    "inception4a": (576, 224, 64, 96, 96, 128, 128),
    "inception4b": (576, 192, 96, 128, 96, 128, 128),
    "inception4c": (576, 160, 128, 160, 128, 160, 96),
    "inception4d": (576, 96, 128, 192, 160, 192, 96),
    "inception4e": (576, 0, 128, 192, 192, 256, 0),
    "inception5a": (1024, 352, 192, 320, 160, 224, 128),
    "inception5b": (1024, 352, 192, 320, 192, 224, 128),
}


def convolution(channels: int, maps: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, BatchNorm, and a ReLU."""
    conv = nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(maps, eps=1e-3), relu=nn.ReLU(inplace=True)))


def inception(
    pool: nn.Module, channels: int, one: int, reduce3: int, three: int, reduce5: int, double: int
) -> Branches:
    """Return an inception module in which two 3x3 convolutions stand for the 5x5; without a 1x1 it has stride 2."""
    stride = 1 if one else 2
    branches: dict[str, nn.Module] = {"branch1": convolution(channels, one, 1)} if one else {}
    return Branches(
        **branches,
        branch3=nn.Sequential(convolution(channels, reduce3, 1), convolution(reduce3, three, 3, stride)),
        double3=nn.Sequential(
            convolution(channels, reduce5, 1), convolution(reduce5, double, 3), convolution(double, double, 3, stride)
        ),
        branch_pool=pool,
    )


def _pool(name: str, channels: int, projection: int) -> nn.Module:
    if not projection:
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    pool = nn.MaxPool2d(3, 1, padding=1) if name == "inception5b" else nn.AvgPool2d(3, 1, padding=1)
    return nn.Sequential(pool, convolution(channels, projection, 1))


class InceptionV2(Network):
    """For 224 pixels; the first convolution is separable, with 8 maps of each colour (appendix)."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 1024
        self.conv1 = nn.Sequential(
            OrderedDict(
                depthwise=nn.Conv2d(3, 24, 7, 2, padding=3, groups=3, bias=False), pointwise=convolution(24, 64, 1)
            )
        )
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Sequential(OrderedDict(reduce=convolution(64, 64, 1), conv=convolution(64, 192, 3)))
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, (*widths, projection) in MODULES.items():
            pool = _pool(name, widths[0], projection)
            self.add_module(name, inception(pool, *widths))
        self.fc = nn.Linear(1024, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) into (n, 1024, 7, 7)."""
        for name, part in self.named_children():
            if name == "fc":
                break
            x = part(x)
        return x
