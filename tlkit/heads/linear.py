"""Linear classifiers along a path of C, for several subsets of the rows: the problems of LinearSVC, LogisticRegression.

All classes are solved at once as matrix products in float32 (`newton`). Subsets of few rows are solved one after the
other, with their Gram matrix at hand and in the space that they span, where that is the smaller one
(`paths.one_by_one`); larger ones side by side on the codes as they are (`paths.side_by_side`), which may be a table
that does not fit in memory.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Labels = NDArray[np.int64]

Loss = Literal["squared_hinge", "softmax"]

_FEW = 8192  # rows of a subset whose Gram matrix is no burden
_SMALL = 2e7  # rows x the smaller of rows and dimensions x classes, below which one core of the processor is fastest
_SHARE_OF_MEMORY = 0.5


class Rows(Protocol):
    """Codes as rows: an array, a memory map, or a table that reads on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the codes."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return the codes of consecutive rows."""


@dataclass(frozen=True)
class Affine:
    """scores = codes @ coef.T + intercept; coef (k, d) and intercept (k,) float32, -inf for a class without rows."""

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]


@dataclass(frozen=True)
class Path:
    """One map and one record of convergence for each value of the grid.

    A record has "steps", the most Newton steps of a class; "gradient", the largest relative gap (objective - minimum)
    / objective of a class: bounded by half the squared gradient, or as the last Newton system predicts; and
    "converged": whether that is at most 2e-6.
    """

    maps: list[Affine]
    convergence: list[dict[str, Any]]


def _silent(done: int) -> None:
    pass


def fit_paths(
    codes: Rows,
    labels: Labels,
    k: int,
    grid: Sequence[float],
    *,
    loss: Loss,
    standard: bool,
    parts: Sequence[int] | None = None,
    weights: NDArray[Any],
    subsets: Sequence[Labels],
    device: str = "auto",
    done: Callable[[int], object] = _silent,
    stream: bool | None = None,
) -> list[Path]:
    """Fit one path of solutions for each subset of the rows.

    "squared_hinge" is LinearSVC's objective: one against the rest, with the scores s = <w, x> + b of a class,
    1/2 (|w|^2 + b^2) + C sum_i c_i max(0, 1 - y_i s_i)^2, where c_i is the class's weight for its own rows and 1 for
    the others. Two classes are one problem, in which the others have their own weight, with the scores (-s, s).
    "softmax" is LogisticRegression's: 1/2 |W|^2 + C sum_i c_i log loss, the bias free. Of two classes the scores are
    (-s / 2, s / 2), and the penalty is on s.

    Args:
        codes: (n, d), finite; anything with a shape and slices of rows.
        labels: (n,) in 0 .. k-1.
        k: How many classes there are; those that a subset lacks get the score -inf there.
        grid: Values of C, ascending: each is solved from where the one before it ended.
        loss: Which objective.
        standard: Centre the columns and divide them by their (population) standard deviation, both of the subset's
            rows; a constant one by 1. The maps that are returned have it folded in.
        parts: Widths of parts of a row that then get the same weight; None for one.
        weights: (k,) class weights.
        subsets: Row numbers, ascending, at least one each.
        device: A torch device; "auto" is the GPU if there is one.
        done: Called with the number of subsets finished so far, or as much work as that.
        stream: Whether to read the codes again in each pass instead of keeping a copy in memory. None: if a float32
            copy would take more than half of the memory that is free.
    """
    import torch

    from tlkit.heads.paths import Task, one_by_one, side_by_side

    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    n, d = codes.shape
    values, class_weights = [float(C) for C in grid], np.asarray(weights, np.float64)
    task = Task(codes, labels, k, values, loss, standard, parts, class_weights, place)
    with _threads(one=n * min(n, d) * k < _SMALL):
        stream = _exceeds_memory(codes) if stream is None else stream
        if stream or max(len(rows) for rows in subsets) > _FEW:
            return side_by_side(task, subsets, done, stream=stream)
        paths = []
        for number, rows in enumerate(subsets):
            paths.append(one_by_one(task, rows))
            done(number + 1)
        return paths


def scores(codes: Rows, affine: Affine, rows: Labels | None = None) -> NDArray[np.float32]:
    """Return the scores (len(rows) or n, k) float32 of all rows, or of `rows` (ascending), in blocks."""
    from tlkit.heads.rows import blocks

    k = len(affine.intercept)
    result = np.empty((codes.shape[0] if rows is None else len(rows), k), dtype=np.float32)
    start = 0
    for _, block in blocks(codes, rows, width=k):
        part = result[start : start + len(block)]
        np.matmul(block.astype(np.float32, copy=False), affine.coef.T, out=part)
        part += affine.intercept
        start += len(block)
    return result


def _exceeds_memory(codes: Rows) -> bool:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not known on this system
        return isinstance(codes, np.memmap)
    return codes.shape[0] * codes.shape[1] * 4 > _SHARE_OF_MEMORY * free


@contextmanager
def _threads(*, one: bool) -> Iterator[None]:
    """Keep small products on one core: handing them round costs more, on a busy machine thirty times as much."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if one else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
