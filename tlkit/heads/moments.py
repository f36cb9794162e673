"""Sums over rows of codes from which means, variances and least squares follow, and which add up over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tlkit.heads.rows import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """Sums over some rows, of the codes minus `shift` (d,), a point near their mean that keeps the sums exact.

    `counts` (k,) rows of each class, `sums` (k, d) by class, `squares` (d,), and, if asked for, the `scatter` (d, d)
    of the rows with the weights of their classes.
    """

    shift: Matrix
    counts: Matrix
    sums: Matrix
    squares: Matrix
    scatter: Matrix | None

    def without(self, other: Moments) -> Moments:
        """Return the moments of the rows that are not among those of `other`."""
        scatter = None if self.scatter is None or other.scatter is None else self.scatter - other.scatter
        counts, sums, squares = self.counts - other.counts, self.sums - other.sums, self.squares - other.squares
        return Moments(self.shift, counts, sums, squares, scatter)

    def column_scale(self) -> tuple[Matrix, Matrix]:
        """Return mean (d,) and standard deviation (d,) of the columns; 1 for one that is constant but for rounding."""
        n = self.counts.sum()
        offset, square = self.sums.sum(axis=0) / n, self.squares / n
        mean, variance = self.shift + offset, square - offset**2
        constant = variance <= 1e-14 * mean**2 + 1e-12 * square
        return mean, np.sqrt(np.where(constant, 1, variance))


def class_moments(
    codes: Rows, labels: Labels, k: int, subsets: Sequence[Labels], weights: Matrix | None = None
) -> Iterator[Moments]:
    """Yield the moments of each subset of rows; with `weights` (k,) of the classes, the scatter too.

    All rows are summed once; of a subset with more than half of them, only the rest is summed again.
    """
    shift = _near_the_mean(codes)
    total = None
    for rows in subsets:
        if 2 * len(rows) <= codes.shape[0]:
            yield _moments(codes, labels, k, rows, shift, weights)
            continue
        total = total or _moments(codes, labels, k, None, shift, weights)
        rest = np.setdiff1d(np.arange(codes.shape[0]), rows, assume_unique=True)
        yield total.without(_moments(codes, labels, k, rest, shift, weights)) if len(rest) else total


def _near_the_mean(codes: Rows) -> Matrix:
    _, first = next(blocks(codes))
    mean: Matrix = first.mean(axis=0, dtype=np.float64)
    return mean


def _moments(
    codes: Rows, labels: Labels, k: int, rows: Labels | None, shift: Matrix, weights: Matrix | None
) -> Moments:
    d = codes.shape[1]
    counts, sums, squares = np.zeros(k), np.zeros((k, d)), np.zeros(d)
    scatter = None if weights is None else np.zeros((d, d))
    for numbers, block in blocks(codes, rows):
        moved, own = block - shift, labels[numbers]
        counts += np.bincount(own, minlength=k)
        sums += _by_class(moved, own, k)
        squares += np.einsum("ij,ij->j", moved, moved)
        if weights is not None and scatter is not None:
            moved *= np.sqrt(weights[own])[:, None]
            scatter += moved.T @ moved
    return Moments(shift, counts, sums, squares, scatter)


def _by_class(block: Matrix, labels: Labels, k: int) -> Matrix:
    from scipy.sparse import csr_array

    member = csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(k, len(labels)))
    return np.asarray(member @ block)
