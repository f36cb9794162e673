"""The network that is trained: a backbone up to its "pool" codes, and a linear head on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.backbones import activations
from tlkit.backbones.taps import hooked
from tlkit.training.freezing import freeze
from tlkit.training.splitting import begun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone
    from tlkit.training.splitting import Split


class Network(nn.Module):
    """From (n, C, H, W) float32, normalised, to logits (n, k); the frozen part is in eval mode whatever is called.

    Auxiliary classifiers, if the backbone's module offers any, are beside it and see what some of its parts put out.

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
        auxiliary = _auxiliary_classifiers(self.module, classes)
        self.auxiliary, self._auxiliary_at = nn.ModuleList(auxiliary.values()), tuple(auxiliary)
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
        for path, classifier in zip(self._auxiliary_at, self.auxiliary, strict=True):
            behind = self.module.get_submodule(path).parameters()
            classifier.requires_grad_(any(parameter.requires_grad for parameter in behind))
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Change the mode of what is not frozen."""
        super().train(mode)
        self._hold_still()
        return self

    def forward(self, batch: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Return the logits (n, k) float32 of a batch, of images or, with a `split`, of activations there.

        Args:
            batch: As above.
            auxiliary: Return a tuple of these and the logits of each auxiliary classifier that learns.
        """
        if self.training:
            self._hold_still()  # somebody may have called train() on a part
        split = self.split
        codes = self.fast if self.fast is not None and self.training else self.codes
        sides = self._learning() if auxiliary else {}
        seen: dict[str, Tensor] = {}
        calls: list[tuple[str, Any]] = [(path, partial(seen.__setitem__, path)) for path in sides]
        beginning = begun(self.module, split, batch, self.input_size) if split else nullcontext(batch)
        with beginning as images, hooked(self.module, calls):
            logits: Tensor = self.head(codes(images))
        return (logits, *(classifier(seen[path]) for path, classifier in sides.items())) if auxiliary else logits

    def _learning(self) -> dict[str, nn.Module]:
        """Return the auxiliary classifiers that something which is trained leads to; the others would teach nothing."""
        pairs = zip(self._auxiliary_at, self.auxiliary, strict=True)
        return {path: part for path, part in pairs if any(p.requires_grad for p in part.parameters())}

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


def _auxiliary_classifiers(module: Any, classes: int) -> dict[str, nn.Module]:  # noqa: ANN401
    offer = getattr(module, "auxiliary_classifiers", None)
    return offer(classes) if offer else {}
