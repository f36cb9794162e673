"""Codes block by block: how many rows at a time, and what one walk over them says about subsets of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows

    Matrix = NDArray[np.float64]

_NUMBERS = 2**21  # 8 MB of float32: a block stays in the cache of the processor
_ON_GPU = 64  # times as many, for a few large products are what is fast there
_FEWEST = 256  # rows, so that products stay worth their while


def row_blocks(n: int, width: int, *, gpu: bool = False) -> Iterator[slice]:
    """Yield slices that cover `n` rows; a block has about two million numbers at `width` a row, or else 256 rows.

    On a GPU it has 64 times as many.

    >>> list(row_blocks(1100, 4096))
    [slice(0, 512, None), slice(512, 1024, None), slice(1024, 1100, None)]
    """
    size = max(_FEWEST, _NUMBERS * (_ON_GPU if gpu else 1) // max(width, 1))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def subset_moments(codes: Rows, members: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
    """Return mean and standard deviation (f, d) of the rows of each of f subsets; of a constant column the latter is 1.

    `members` (n, f) has a 1 where a row is in a subset. The codes are read once for all subsets, whose sums of the
    differences to the first row are in float64.
    """
    n, d = codes.shape
    first = np.asarray(codes[0:1], dtype=np.float64)
    sums, squares = np.zeros((2, members.shape[1], d))
    for rows in row_blocks(n, d):
        moved = codes[rows] - first
        mask = members[rows].T.astype(np.float64)
        sums += mask @ moved
        squares += mask @ np.square(moved, out=moved)
    count = members.sum(axis=0, dtype=np.float64)[:, None]
    offset, square = sums / count, squares / count
    mean, variance = first + offset, square - offset**2
    constant = variance <= 1e-14 * mean**2 + 1e-12 * square  # rounding leaves as much
    return mean, np.sqrt(np.where(constant, 1, variance))
