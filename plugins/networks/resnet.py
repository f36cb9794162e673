"""ResNets that timm does not have: those for CIFAR, those without shortcuts, and the paper's place of the stride."""

from collections import OrderedDict

from timm.layers.conv_bn_act import ConvNormAct
from timm.models.resnet import BasicBlock, Bottleneck
from tlkit_plugins.networks.interface import Network
from torch import Tensor, nn
from torch.nn import functional


class CifarResNet(Network):  # type: ignore[misc]
    """A ResNet of 6n + 2 layers for 32 x 32 pixels (He et al. 2015, section 4.2).

    A 3x3 convolution, then n blocks of two with 16 maps of 32 x 32, n with 32 of 16 x 16 and n with 64 of 8 x 8, the
    mean of each map, and a fully connected layer. Shortcuts learn nothing (option A).

    Args:
        n: Blocks of each size.
        num_classes: Outputs.
    """

    def __init__(self, n: int, num_classes: int = 10) -> None:
        super().__init__()
        self.num_features, self.num_classes = 64, num_classes
        self.stem = ConvNormAct(3, 16, 3)
        self.stages = nn.Sequential(_stage(16, 16, n, 1), _stage(16, 32, n, 2), _stage(32, 64, n, 2))
        self.fc = nn.Linear(64, num_classes)
        initialise(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last 64 maps."""
        return self.stages(self.stem(x))  # type: ignore[no-any-return]


class PaddedShortcut(nn.Module):
    """Every second pixel, and zeros for the maps that are new: option A of section 3.3.

    Args:
        new: How many maps are added.
    """

    def __init__(self, new: int) -> None:
        super().__init__()
        self.new = new

    def forward(self, x: Tensor) -> Tensor:
        """Return half the height and width."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new))


def _stage(inputs: int, maps: int, n: int, stride: int) -> nn.Sequential:
    shortcut = PaddedShortcut(maps - inputs) if stride == 2 else None
    first = BasicBlock(inputs, maps, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(maps, maps) for _ in range(n - 1)))


def initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. 2015 ("Delving deep into rectifiers") do."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def residual_blocks(module: nn.Module) -> dict[str, BasicBlock | Bottleneck]:
    """Return timm's residual blocks in a network, by path, from input to output."""
    return {path: part for path, part in module.named_modules() if isinstance(part, BasicBlock | Bottleneck)}


def without_shortcuts(module: nn.Module) -> None:
    """Make a plain network of a residual one in place; what remains keeps its names.

    Blocks become chains. timm registers the layers of a block in the order in which they run.
    """
    for path, block in residual_blocks(module).items():
        layers = OrderedDict(block.named_children())
        layers.pop("downsample", None)
        module.set_submodule(path, nn.Sequential(layers).train(block.training))


def stride_on_1x1(module: nn.Module) -> None:
    """Move the stride of bottlenecks, in place, from the 3x3 convolution to the 1x1 before it, as in table 1."""
    for block in residual_blocks(module).values():
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
