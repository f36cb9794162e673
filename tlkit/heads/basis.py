"""Samples in the smaller of two spaces: that of their codes, or that which they span.

The optimum lies in the latter. With fewer samples than dimensions, and G = X X' = L L' (Cholesky), the rows of L are
coordinates of the samples in an orthonormal basis of it, and a hyperplane v there is X' a with L' a = v in the codes'
own space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_JITTER = 1e-12


@dataclass(frozen=True)
class Basis:
    """n samples (n, d) float64 and, of fewer than d, their Gram matrix (n, n) and its factor L."""

    samples: torch.Tensor
    known: torch.Tensor | None = None
    factor: torch.Tensor | None = None

    @property
    def coordinates(self) -> torch.Tensor:
        """The samples in the smaller space, (n, min(n, d)) float64."""
        return self.samples if self.factor is None else self.factor

    @cached_property
    def _gram(self) -> torch.Tensor:
        return (gram_matrix(self.samples) if self.known is None else self.known).float()

    def gram(self) -> torch.Tensor:
        """Return the Gram matrix (n, n) float32; computed once."""
        return self._gram

    def coef(self, hyperplanes: torch.Tensor) -> torch.Tensor:
        """Return the hyperplanes (d, m) float64 in the codes' space from those in the smaller one.

        In float64, for directions in which the samples hardly differ are divided by very little.
        """
        import torch

        if self.factor is None:
            return hyperplanes.double()
        mixture = torch.linalg.solve_triangular(self.factor.T, hyperplanes.double(), upper=True)
        coef: torch.Tensor = self.samples.T @ mixture
        return coef


def basis_of(samples: torch.Tensor) -> Basis:
    """Return the basis for `samples` (n, d) float64.

    In float32 the large eigenvalues of the Gram matrix would drown the small ones. What is added to the diagonal lets
    copies of a sample pass, and moves scores by less than float32 can tell.
    """
    import torch

    if len(samples) >= samples.shape[1]:
        return Basis(samples)
    gram = gram_matrix(samples)
    gram.diagonal().add_(_JITTER * gram.diagonal().sum() + 1e-30)
    return Basis(samples, gram, torch.linalg.cholesky(gram))


def gram_matrix(samples: torch.Tensor) -> torch.Tensor:
    """Return samples @ samples.T, of which only the blocks on and below the diagonal are computed.

    >>> import torch
    >>> samples = torch.arange(6.0).reshape(3, 2)
    >>> bool((gram_matrix(samples) == samples @ samples.T).all())
    True
    """
    import torch

    n = len(samples)
    gram = samples.new_empty(n, n)
    size = max(-(-n // 8), 64)
    for start in range(0, n, size):
        part = slice(start, start + size)
        torch.mm(samples[part], samples[: start + size].T, out=gram[part, : start + size])
        gram[:start, part] = gram[part, :start].T
    return gram
