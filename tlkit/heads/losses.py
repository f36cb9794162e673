"""The two losses on blocks of scores, all columns at once: value, first and second derivative.

A column of scores belongs to one class in one subset of the rows. Rows outside the subset cost nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


@dataclass(frozen=True)
class Columns:
    """The m columns of scores, those of a subset side by side; all tensors (m,).

    subset, label: Which subset of the rows, and which class. problem: Columns of the same number are minimised
    together; numbers ascend from 0. positive, negative: Weight of the rows of the class, and of the others.
    """

    subset: torch.Tensor
    label: torch.Tensor
    problem: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor

    def name(self, column: int) -> tuple[int, int]:
        """Return subset and class of a column."""
        return int(self.subset[column]), int(self.label[column])

    def take(self, kept: torch.Tensor) -> Columns:
        """Return some of the columns, with their problems numbered from 0 again."""
        problem = self.problem[kept]
        problem = (problem.diff(prepend=problem[:1]) != 0).cumsum(0)
        return Columns(self.subset[kept], self.label[kept], problem, self.positive[kept], self.negative[kept])

    def groups(self) -> list[tuple[int, slice]]:
        """Return each subset with its columns."""
        counts = self.subset.bincount()
        ends = counts.cumsum(0)
        spans = zip((ends - counts).tolist(), ends.tolist(), strict=True)
        return [(subset, slice(*span)) for subset, span in enumerate(spans) if span[0] < span[1]]


@dataclass(frozen=True)
class Hessian:
    """Second derivatives by the scores (b, m) of a block: `bend` multiplies changes by them, and overwrites these.

    diagonal: Returns (b, m), all of it for the squared hinge, whose scores do not mix; else None. It keeps a byte each.
    """

    bend: Callable[[torch.Tensor], torch.Tensor]
    diagonal: Callable[[], torch.Tensor] | None = None


@dataclass(frozen=True)
class Expansion:
    """A loss near some scores (b, m).

    loss: (m,) summed over the rows; the values of one problem's columns add up to its loss. slope: (b, m) first
    derivatives. curvature: (m,) sums of the second derivatives by the column's own scores. hessian:
    Returns all second derivatives.
    """

    loss: torch.Tensor
    slope: torch.Tensor
    curvature: torch.Tensor
    hessian: Callable[[], Hessian]


def squared_hinge(scores: torch.Tensor, labels: torch.Tensor, members: torch.Tensor, columns: Columns) -> Expansion:
    """Expand c max(0, 1 - y s)^2, one against the rest: y is 1 for rows of the column's class and -1 for the others.

    Args:
        scores: (b, m), overwritten.
        labels: (b,) classes.
        members: (b, f) 1 where a row is in a subset, else 0.
        columns: What the m columns are.
    """
    rows, own = _own_columns(labels, columns)
    positive = (scores[rows, own] - 1).clamp_(max=0)
    signed = scores.add_(1).clamp_(min=0)  # nearly all are negatives
    signed[rows, own] = positive
    for subset, span in columns.groups():
        signed[:, span] *= members[:, subset, None]
    positive = signed[rows, own]
    slope = signed * (2 * columns.negative)
    slope[rows, own] = 2 * columns.positive[own] * positive
    curvature = 2 * columns.negative * signed.count_nonzero(0)
    curvature.index_add_(0, own, 2 * (columns.positive - columns.negative)[own] * (positive != 0))

    def hessian() -> Hessian:
        bent, ratio = signed != 0, (columns.positive / columns.negative)[own]
        bent[rows, own] = positive != 0
        otherwise = (rows, own, ratio) if (ratio != 1).any() else None  # is kept for all blocks

        def bend(change: torch.Tensor) -> torch.Tensor:
            change.mul_(bent).mul_(2 * columns.negative)
            if otherwise is not None:
                change[otherwise[:2]] *= otherwise[2]
            return change

        return Hessian(bend, lambda: bend(bent.to(columns.negative.dtype)))

    return Expansion((slope * signed).sum(0) / 2, slope, curvature, hessian)


def softmax(scores: torch.Tensor, labels: torch.Tensor, members: torch.Tensor, columns: Columns) -> Expansion:
    """Expand c log(sum_j exp(s_j) / exp(s_y)) over the columns of a subset; arguments as for `squared_hinge`."""
    import torch

    rows, own = _own_columns(labels, columns)
    loss = torch.zeros_like(columns.positive)
    share, cost = torch.empty_like(scores), torch.zeros_like(members)
    for _, span in columns.groups():
        torch.log_softmax(scores[:, span], dim=1, out=share[:, span])
    subsets = columns.subset[own]
    cost[rows, subsets] = members[rows, subsets] * columns.positive[own]
    loss.index_add_(0, own, -share[rows, own] * cost[rows, subsets])
    slope = share.exp_().clone()
    slope[rows, own] -= 1
    for subset, span in columns.groups():
        slope[:, span] *= cost[:, subset, None]
    curvature = torch.cat([cost[:, f] @ (share[:, s] * (1 - share[:, s])) for f, s in columns.groups()])

    def bend(change: torch.Tensor) -> torch.Tensor:
        change *= share
        for subset, span in columns.groups():
            part = change[:, span]
            part -= share[:, span] * part.sum(dim=1, keepdim=True)
            part *= cost[:, subset, None]
        return change

    return Expansion(loss, slope, curvature, lambda: Hessian(bend))


LOSSES = {"squared_hinge": squared_hinge, "softmax": softmax}


def _own_columns(labels: torch.Tensor, columns: Columns) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs (row, column) of each row with its own class in each subset that has a column for it."""
    import torch

    column = torch.full((int(columns.subset[-1]) + 1, int(labels.max().maximum(columns.label.max())) + 1), -1)
    column = column.to(labels.device)
    column[columns.subset, columns.label] = torch.arange(len(columns.label), device=labels.device)
    own = column[:, labels]
    subset, rows = (own >= 0).nonzero(as_tuple=True)
    return rows, own[subset, rows]
