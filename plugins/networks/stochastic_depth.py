"""Stochastic depth (Huang et al. 2016) for the residual blocks of timm."""

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from tlkit_plugins.networks.leaving_out import without
from tlkit_plugins.networks.resnet import residual_blocks
from torch import Tensor, nn


def stochastic_depth(module: nn.Module, last: float = 0.5) -> None:
    """Let whole residual blocks be left out in training, in place; names and numbers of the network stay.

    The l-th of L blocks survives a mini-batch with probability 1 - l / L (1 - last) (equation 4).

    Args:
        module: The network.
        last: Probability that the last block survives.
    """
    blocks = residual_blocks(module)
    for number, (path, block) in enumerate(blocks.items(), start=1):
        survival = 1 - number / len(blocks) * (1 - last)
        module.set_submodule(path, StochasticBlock(block, survival).train(block.training))


class StochasticBlock(nn.Module):
    """A residual block that survives a mini-batch in training, all images of it, with some probability.

    Otherwise its convolutions do not run, and its shortcut is all that is left (equation 2).

    The paper multiplies what the convolutions add by the probability at test time (equation 5); here it is divided by
    the probability in training. So at test time the block is that of a ResNet, and takes its weights; both are the same
    function of weights that differ by that factor.

    Args:
        block: The block, whose layers this one takes over.
        survival: The probability.
    """

    def __init__(self, block: BasicBlock | Bottleneck, survival: float) -> None:
        super().__init__()
        self.survival = survival
        # The names are those of timm's block, for its weights, and so is the order, in which the layers run.
        for name, layer in block.named_children():
            self.add_module(name, layer)
        *self.added, self.last = (name for name, _ in block.named_children() if name != "downsample")

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, or in training perhaps what its shortcut carries."""
        layers = dict(self.named_children())
        added, last = [layers[name] for name in self.added], layers[self.last]
        shortcut = layers["downsample"](x) if "downsample" in layers else x
        if self.training and float(torch.rand((), device="cpu")) >= self.survival:
            return last(without(shortcut, added))  # type: ignore[no-any-return]
        for layer in added:
            x = layer(x)
        return last((x / self.survival if self.training else x) + shortcut)  # type: ignore[no-any-return]
