"""The network that is trained: a backbone up to its "pool" codes, and a linear head on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.backbones import activations
from tlkit.training.freezing import freeze
from tlkit.training.splitting import begun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone
    from tlkit.training.splitting import Split


class Network(nn.Module):
    """From (n, C, H, W) float32, normalised, to logits (n, k); the frozen part is in eval mode whatever is called.

    Args:
        backbone: Its module is copied; its original classifier is neither used nor trained.
        classes: k.
        keep_statistics: Whether BatchNorm uses, and leaves as they are, the backbone's statistics where it is trained
            too, so that the network starts from the very codes that a probe was fitted on.
    """

    def __init__(self, backbone: Backbone, classes: int, *, keep_statistics: bool = False) -> None:
        super().__init__()
        self.tap = backbone.tap("pool")
        self.stages = backbone.stages
        self.input_size = backbone.preprocess.input_size
        self.module = deepcopy(backbone.module)
        self.head = nn.Linear(self.tap.channels, classes)
        norms = [part for part in self.module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self._norms = norms if keep_statistics else []
        self.first = 0
        self.split: Split | None = None  # where the pass begins, if the frozen part has run before
        self.fast: Callable[[Tensor], Tensor] | None = None  # `codes` in training mode, if they are compiled
        self._still: tuple[nn.Module, ...] = ()
        self.freeze(0)

    def freeze(self, first: int) -> None:
        """Train the stages from `first` on, and the head; `len(stages)` for the head alone."""
        self.first = first
        self._still = freeze(self.module, self.stages, first, self.input_size)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Change the mode of what is not frozen."""
        super().train(mode)
        self._hold_still()
        return self

    def forward(self, batch: Tensor) -> Tensor:
        """Return the logits (n, k) float32 of a batch, of images or, with a `split`, of activations there."""
        if self.training:
            self._hold_still()  # somebody may have called train() on a part
        split = self.split
        codes = self.fast if self.fast is not None and self.training else self.codes
        with begun(self.module, split, batch, self.input_size) if split else nullcontext(batch) as images:
            logits: Tensor = self.head(codes(images))
        return logits

    def codes(self, images: Tensor) -> Tensor:
        """Return what the head sees of images."""
        return activations(self.module, images, [self.tap])[self.tap.name]

    def _hold_still(self) -> None:
        for part in (*self._still, *self._norms):
            part.training = False

    @property
    def least(self) -> int:
        """How many images it learns from at least: of a single one BatchNorm may have no statistics."""
        norms = (part for part in self.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
        return 2 if any(norm.training for norm in norms) else 1

    def start_from(self, coef: NDArray[np.float32], intercept: NDArray[np.float32], temperature: float) -> None:
        """Let the head compute the calibrated scores of a fitted affine head: (coef @ codes + intercept) / temperature.

        Args:
            coef: (k, d).
            intercept: (k,).
            temperature: What scores are divided by.
        """
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(coef / temperature))
            self.head.bias.copy_(torch.from_numpy(intercept / temperature))
