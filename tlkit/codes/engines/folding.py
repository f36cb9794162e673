"""BatchNorm in eval mode is a scale and a shift: both fit into the weights of the convolution before it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tlkit.codes.engines.frozen import Frozen


def fold_batch_norms(frozen: Frozen, pixels: Tensor) -> None:
    """Fold each BatchNorm that follows a convolution into it, in place; its activation, if it has one, stays.

    What follows what is seen in a pass over some images, (n, H, W, C) uint8. Whether the output of a convolution is
    used anywhere else is not seen: compare the codes with those of before.
    """
    paths = {module: path for path, module in frozen.named_modules()}
    for convolution, norm in _pairs(frozen, pixels):
        _fold(convolution, norm)
        parent, _, name = paths[norm].rpartition(".")
        setattr(frozen.get_submodule(parent), name, getattr(norm, "act", nn.Identity()))


def _pairs(frozen: Frozen, pixels: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and BatchNorms that take nothing but their output; each is called once a pass."""
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.norm_act import BatchNormAct2d

    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, for its id to stay its own
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: list[nn.Module] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(module)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    kinds = (nn.Conv2d, Conv2dSame, nn.BatchNorm2d, BatchNormAct2d)
    handles = [part.register_forward_hook(note) for part in frozen.modules() if type(part) in kinds]
    try:
        with torch.inference_mode():
            frozen(pixels)
    finally:
        for handle in handles:
            handle.remove()
    once = [part for part, number in Counter(calls).items() if number == 1]
    read = Counter(convolution for convolution, _ in pairs)
    return [pair for pair in pairs if all(part in once for part in pair) and read[pair[0]] == 1]


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """In float64, so that nothing but the last rounding is lost."""
    mean, variance = (buffer.double() for buffer in (norm.running_mean, norm.running_var) if buffer is not None)
    scale = (variance + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight.double())
    bias = -mean if convolution.bias is None else convolution.bias.double() - mean
    shift = bias * scale + (0.0 if norm.bias is None else norm.bias.double())
    kind = convolution.weight.dtype
    convolution.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
    convolution.bias = nn.Parameter(shift.to(kind), requires_grad=False)
