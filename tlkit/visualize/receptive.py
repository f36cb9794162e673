"""Receptive fields: which part of the input a unit of a map sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tlkit.backbones import activations
from tlkit.backbones.taps import evaluating

if TYPE_CHECKING:
    from torch import nn

    from tlkit.backbones import Tap

Size = int | tuple[int, ...]
Box = tuple[int, int, int, int]
"""Top, left, bottom and right of a part of an image, the last two exclusive."""

_SAME = {
    *{"batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "dropout"},
    *{"relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "selu", "silu", "gelu", "mish", "hardswish"},
    *{"softplus", "clamp", "clamp_min", "clamp_max"},
}
_GATES = {"sigmoid", "hardsigmoid", "tanh", "softmax"}


class _Reach(TorchFunctionMode):
    """Everything becomes an average of what it sees: what then has a gradient is what a unit can see.

    In float64, where the corner of a hundred 3x3 averages is not 0 yet.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name in _SAME:
            return args[0]
        if name in _GATES:  # they stay small, but never saturate
            return args[0] / (1 + args[0].detach().abs())
        if name == "max_pool2d":
            return _pooled(*args, **kwargs)
        if name == "conv2d":
            return _averages(*args, **kwargs)
        if name == "linear":
            return args[0].mean(-1, keepdim=True).repeat(*[1] * (args[0].ndim - 1), len(args[1]))
        return func(*args, **kwargs)


def _pooled(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


def _averages(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    kernel = x.new_full((1, 1, *weight.shape[2:]), 1 / weight[0, 0].numel())
    average = F.conv2d(x.mean(1, keepdim=True), kernel, None, stride, padding, dilation)
    return average.repeat(1, len(weight), 1, 1)


def receptive_fields(
    module: nn.Module, tap: Tap, channel: int, input_size: tuple[int, int, int], positions: Sequence[int]
) -> list[Box]:
    """Return what units of a map can see of the input, cut off at its border.

    Maps of one tap may differ: those that a concatenation puts side by side come by different ways.

    A map with other dimensions than channels, height and width, and one behind something global such as a
    squeeze-and-excitation gate, sees all of it. That normalisations see whole maps is passed over.

    Args:
        module: The network.
        tap: Where the map is.
        channel: Its number.
        input_size: Channels, height, width.
        positions: Of the units in the map, counted row by row.
    """
    whole = (0, 0, *input_size[1:])
    if tap.layout != "NCHW" or tap.reduction is None:
        return [whole for _ in positions]
    boxes: dict[int, Box] = {}
    with evaluating(module), torch.enable_grad(), _Reach():
        image = torch.ones(1, *input_size, dtype=torch.float64, requires_grad=True, device=_device(module))
        units = _units(module, tap, channel, image)
        for position in dict.fromkeys(positions):
            (signal,) = torch.autograd.grad(units[position], image, retain_graph=True)
            boxes[position] = _box(signal[0].abs().sum(0) > 0)
    return [boxes[position] for position in positions]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _units(module: nn.Module, tap: Tap, channel: int, image: Tensor) -> Tensor:
    """Return a map, flat; in float64, unlike codes."""
    codes = activations(module, image, [tap], "flatten")[tap.name]
    return codes.reshape(tap.channels, -1)[channel]


def _box(seen: Tensor) -> Box:
    rows, columns = (seen.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
