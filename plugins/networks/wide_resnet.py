"""Wide ResNets for CIFAR (Zagoruyko and Komodakis 2016); those for ImageNet are timm's."""

from timm.layers.norm_act import BatchNormAct2d
from tlkit_plugins.networks.interface import Network
from tlkit_plugins.networks.resnet import initialise
from torch import Tensor, nn


class WideResNet(Network):  # type: ignore[misc]
    """WRN-(6n + 4)-k for 32 x 32 pixels: table 1, with blocks B(3, 3).

    A 3x3 convolution, then n blocks of two with 16k maps of 32 x 32, n with 32k of 16 x 16 and n with 64k of 8 x 8,
    BatchNorm and ReLU, the mean of each map, and a fully connected layer.

    Args:
        n: Blocks of each size.
        k: How many times wider than a CIFAR ResNet.
        num_classes: Outputs.
    """

    def __init__(self, n: int, k: int, num_classes: int = 10) -> None:
        super().__init__()
        self.num_features, self.num_classes = 64 * k, num_classes
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        last = _group(32 * k, 64 * k, n, 2).append(BatchNormAct2d(64 * k))
        self.stages = nn.Sequential(_group(16, 16 * k, n, 1), _group(16 * k, 32 * k, n, 2), last)
        self.fc = nn.Linear(64 * k, num_classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last 64k maps, after ReLU."""
        return self.stages(self.stem(x))  # type: ignore[no-any-return]


class WideBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice; what it adds to is its input, or a 1x1 convolution of that.

    Args:
        inputs: Maps that come in.
        maps: Maps that go out.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.norm1 = BatchNormAct2d(inputs)
        self.conv1 = nn.Conv2d(inputs, maps, 3, stride, padding=1, bias=False)
        self.norm2 = BatchNormAct2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.downsample = nn.Conv2d(inputs, maps, 1, stride, bias=False) if inputs != maps or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways."""
        ready = self.norm1(x)
        added: Tensor = self.conv2(self.norm2(self.conv1(ready)))
        return added + (x if self.downsample is None else self.downsample(ready))


def _group(inputs: int, maps: int, n: int, stride: int) -> nn.Sequential:
    return nn.Sequential(WideBlock(inputs, maps, stride), *(WideBlock(maps, maps, 1) for _ in range(n - 1)))
