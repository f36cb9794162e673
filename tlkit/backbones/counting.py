"""Parameters and multiply-adds of a network, counted by torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlkit.backbones.taps import evaluating, without_numbers

if TYPE_CHECKING:
    from torch import nn


def count_params(module: nn.Module) -> int:
    """Return how many numbers a network learns, its classifier included."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Return the multiply-adds of one forward pass of one image: those of convolutions and matrix products.

    `torch.utils.flop_counter` counts a multiplication and an addition as two; biases, norms, activations and pooling
    are left out, as papers do.

    >>> from torch import nn
    >>> count_macs(nn.Conv2d(3, 64, 7, stride=2, padding=3), (3, 224, 224))  # 112 x 112 x 64 x 3 x 7 x 7
    118013952
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shell = without_numbers(module)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(shell):
        shell(torch.zeros(1, *input_size, device="meta"))
    return int(counter.get_total_flops()) // 2
