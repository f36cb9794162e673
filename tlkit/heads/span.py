"""Fewer samples than dimensions: the same problem in the space that the samples span.

The optimum lies in that space. With G = X X' = L L' (Cholesky), the rows of L are coordinates of the samples in an
orthonormal basis of it, and a hyperplane v there is X' a with L' a = v in the codes' own space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_JITTER = 1e-12


@dataclass(frozen=True)
class Span:
    """n samples (n, d), their Gram matrix (n, n), and their coordinates L (n, n), lower triangular; all float64."""

    samples: torch.Tensor
    gram: torch.Tensor
    coordinates: torch.Tensor

    def coef(self, hyperplanes: torch.Tensor) -> torch.Tensor:
        """Return the hyperplanes (d, m) float64 in the codes' space from those in the span (n, m).

        In float64, for directions in which the samples hardly differ are divided by very little.
        """
        import torch

        mixture = torch.linalg.solve_triangular(self.coordinates.T, hyperplanes.double(), upper=True)
        coef: torch.Tensor = self.samples.T @ mixture
        return coef


def span(samples: torch.Tensor) -> Span:
    """Return the span of `samples` (n, d) float64.

    In float32 the large eigenvalues of the Gram matrix would drown the small ones. What is added to the diagonal lets
    copies of a sample pass, and moves scores by less than float32 can tell.
    """
    import torch

    gram = gram_matrix(samples)
    gram.diagonal().add_(_JITTER * gram.diagonal().sum() + 1e-30)
    return Span(samples, gram, torch.linalg.cholesky(gram))


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
