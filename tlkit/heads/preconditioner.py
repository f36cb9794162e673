"""The Hessian as it would be if every row counted the same: what conjugate gradients divide by.

The Hessian of one problem is P + sum_i h_i x_i x_i'. With the mean h in the place of each h_i it is P + s M, where M is
the second moment of all rows: one matrix for all classes, subsets and values of C but for the number s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tlkit.heads.samples import Samples

_BASE = 4.0  # columns whose s differ by less share a factorisation
_MOST_KEPT = 4


@dataclass(frozen=True)
class Preconditioner:
    """Solves with P + s M for any s > 0.

    moment: M, float32 (d + 1, d + 1), of the codes and the constant column. free_bias: Whether P is 0 instead of 1 for
    the latter. kept: Cholesky factors of P + 4^p M by p.
    """

    moment: torch.Tensor
    free_bias: bool
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def solve(self, gradient: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
        """Return the inverse of P + s M times `gradient` (d + 1, m), with s the `curvature` (m,) of each column."""
        import torch

        result = torch.empty_like(gradient)
        powers = (curvature.clamp(min=1e-30).log() / math.log(_BASE)).round().long()
        for power in set(powers.tolist()):
            inside = powers == power
            result[:, inside] = torch.cholesky_solve(gradient[:, inside], self._factor(power))
        return result

    def _factor(self, power: int) -> torch.Tensor:
        if power not in self.kept:
            if len(self.kept) >= _MOST_KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[power] = self._cholesky(_BASE**power)
        return self.kept[power]

    def _cholesky(self, s: float) -> torch.Tensor:
        """Return the factor in float32, by way of float64 where rounding spoils it."""
        import torch

        for dtype, more in ((torch.float32, 0.0), (torch.float64, 0.0), (torch.float64, 1e-6)):
            matrix = s * self.moment.to(dtype)
            matrix.diagonal().add_(1 + more * matrix.diagonal().max())
            if self.free_bias:
                matrix[-1, -1] -= 1
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not failed:
                break
        result: torch.Tensor = factor.float()
        return result


def second_moment(samples: Samples, *, centred: bool) -> torch.Tensor:
    """Return the second moment (d + 1, d + 1) of the codes and a constant column, or of the centred codes."""
    import torch

    n, d = samples.shape
    moment = torch.zeros(d + 1, d + 1, device=samples.labels.device)
    for _, codes in samples.blocks(d):
        moment[:-1, :-1].addmm_(codes.T, codes)
        moment[-1, :-1] += codes.sum(0)
    moment /= n
    mean = moment[-1, :-1].clone()
    if centred:
        moment[:-1, :-1].addr_(mean, mean, alpha=-1)
        mean.zero_()
    moment[-1, :-1], moment[:-1, -1], moment[-1, -1] = mean, mean, 1
    return moment
