"""The network as engines see it: uint8 pixels in, the pooled codes of each tap out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.backbones.taps import activations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Tap
    from tlkit.backbones.taps import Pooling
    from tlkit.data import Preprocess


class Frozen(nn.Module):
    """From (n, H, W, C) uint8 to a tuple of (n, d) float32, one for each tap."""

    def __init__(self, module: nn.Module, preprocess: Preprocess, taps: Sequence[Tap], pooling: Pooling) -> None:
        super().__init__()
        self.module, self.preprocess, self.taps, self.pooling = module, preprocess, tuple(taps), pooling

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Normalise, run up to the deepest tap, pool."""
        batch = self.preprocess.normalise(pixels)
        return tuple(activations(self.module, batch, self.taps, self.pooling).values())

    def codes(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Do the same from array to arrays, as it is, in eager float32: the reference for everything faster."""
        with torch.inference_mode():
            return [codes.numpy() for codes in self(torch.from_numpy(pixels))]


def noise(preprocess: Preprocess, n: int) -> NDArray[np.uint8]:
    """Pixels of n images of nothing, (n, H, W, C), always the same: to see whether two networks are one."""
    channels, height, width = preprocess.input_size
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def gap(found: Sequence[NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]]) -> float:
    """The largest relative error of a tap, in the norm over all its codes; infinite if there is no number for it.

    >>> gap([np.ones((2, 3), np.float32)], [np.full((2, 3), 2, np.float32)])
    0.5
    """
    pairs = zip(found, wanted, strict=True)
    gaps = [np.linalg.norm(ours - theirs) / np.maximum(np.linalg.norm(theirs), 1e-30) for ours, theirs in pairs]
    return float(np.nan_to_num(np.max(gaps), nan=np.inf))
