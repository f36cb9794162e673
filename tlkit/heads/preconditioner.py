"""What conjugate gradients divide by: the Hessian of a problem, P + sum_i h_i x_i x_i', or nearly that.

With the mean h in the place of each h_i it is P + s M, where M is the second moment of all rows: one matrix for all
classes, subsets and values of C but for the number s. Where the rows are very many, passes over them are what costs,
and for the squared hinge a matrix for each column pays, from a sample of the rows that bend its loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tlkit.heads.direct import each_alone
from tlkit.heads.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from tlkit.heads.losses import Columns
    from tlkit.heads.problems import Problems
    from tlkit.heads.samples import Samples

_ENOUGH = 8  # rows for each dimension
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
            self.kept[power] = _cholesky(_BASE**power * self.moment, self.free_bias)
        return self.kept[power]


def divider(
    problems: Problems, columns: Columns, theta: torch.Tensor, curvature: torch.Tensor, C: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what multiplies gradients (d + 1, m) by about the inverse of the Hessian at `theta` (d + 1, m)."""
    import torch

    if problems.sample is problems.rows:
        return lambda gradient: problems.preconditioner.solve(gradient, curvature)
    factors = _own_factors(problems, columns, theta, curvature, C)
    return lambda gradient: torch.cholesky_solve(gradient.T[:, :, None], factors)[:, :, 0].T


def _own_factors(
    problems: Problems, columns: Columns, theta: torch.Tensor, curvature: torch.Tensor, C: float
) -> torch.Tensor:
    """Return the Cholesky factors (m, d + 1, d + 1) of the columns' own Hessians, as a sample of the rows tells them.

    Where it has few rows that bend a column, what they tell counts less, and the second moment of all rows more.
    """
    import torch

    sample, moment = problems.sample, problems.preconditioner.moment
    coef, offset = problems.maps(theta, columns)
    blocks = []
    for span, codes in sample.blocks(len(offset)):
        scores = torch.addmm(offset, codes, coef)
        found = LOSSES[problems.loss](scores, sample.labels[span], sample.members[span], columns)
        diagonal = found.hessian().diagonal
        blocks += [] if diagonal is None else [diagonal()]
    bends = torch.cat(blocks) * (C / problems.sample_share[columns.subset])
    factors = theta.new_empty(len(curvature), *moment.shape)

    def work(column: int) -> None:
        active = bends[:, column].nonzero()[:, 0]
        rows = active[:: max(1, len(active) // (_ENOUGH * len(moment)))]
        told = len(rows) / (len(rows) + len(moment))
        codes = problems.augmented(rows, columns.subset[column])
        weights = bends[rows, column] * (told * len(active) / max(1, len(rows)))
        matrix = torch.addmm(moment, codes.T, codes * weights[:, None], beta=(1 - told) * float(curvature[column]))
        factors[column] = _cholesky(matrix, problems.free_bias)

    each_alone(work, range(len(curvature)))
    return factors


def _cholesky(matrix: torch.Tensor, free_bias: bool) -> torch.Tensor:
    """Return the factor of P + matrix in float32, by way of float64 where rounding spoils it."""
    import torch

    for dtype, more in ((torch.float32, 0.0), (torch.float64, 0.0), (torch.float64, 1e-6)):
        raised = matrix.to(dtype, copy=True)
        raised.diagonal().add_(1 + more * raised.diagonal().max())
        if free_bias:
            raised[-1, -1] -= 1
        factor, failed = torch.linalg.cholesky_ex(raised)
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
