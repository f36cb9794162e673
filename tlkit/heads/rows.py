"""Codes as rows, in memory or not: which of the two they are, and a walk over them block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from scipy.sparse import issparse

from tlkit.errors import TlkitError, some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from tlkit.heads.linear import Rows

    Codes: TypeAlias = ArrayLike | Rows
    Block = tuple[NDArray[np.int64], NDArray[Any]]

_BLOCK = 2**22  # numbers read, or computed, at a time
_SMALL = 2**28  # bytes: what is on disk and no larger than this is read once instead


class UnusableCodesError(TlkitError, ValueError):
    """Codes that no head can be fitted on or applied to; a ValueError too, as scikit-learn's users expect."""


def is_table(X: object) -> TypeGuard[Rows]:
    """Whether `X` is a table to be read in slices: a memory map, or anything with a shape, a dtype and slices.

    >>> is_table(np.zeros((3, 2))), is_table([[1.0, 2.0]])
    (False, False)
    """
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap)
    known = isinstance(getattr(X, "dtype", None), np.dtype) and len(getattr(X, "shape", ())) == 2
    return known and hasattr(X, "__getitem__") and not issparse(X)


def loaded(X: Codes) -> Codes:
    """Return a table of up to 256 MiB as an array, anything else as it is."""
    if is_table(X) and X.shape[0] * X.shape[1] * X.dtype.itemsize <= _SMALL:
        return np.array(X[0 : X.shape[0]])
    return X


def row_blocks(n: int, width: int) -> Iterator[slice]:
    """Yield slices that cover `n` rows; each block holds about four million numbers at `width` a row.

    >>> list(row_blocks(5, 2_000_000))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, _BLOCK // max(width, 1))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def blocks(codes: Rows, rows: NDArray[np.int64] | None = None, width: int = 0) -> Iterator[Block]:
    """Yield (row numbers, their codes), in order, for all rows or for `rows` (ascending).

    About four million numbers at a time, if no more than `width` are computed for each row.
    """
    n, d = codes.shape[0], max(codes.shape[1], width)
    if rows is not None and isinstance(codes, np.ndarray) and not is_table(codes):
        for part in row_blocks(len(rows), d):
            yield rows[part], codes[rows[part]]
        return
    for part in row_blocks(n, d):
        inside = np.arange(part.start, part.stop)
        if rows is not None:
            inside = rows[slice(*np.searchsorted(rows, (part.start, part.stop)))]
        if len(inside):
            block = np.asarray(codes[part])
            yield inside, block if len(inside) == len(block) else block[inside - part.start]


def require_finite(codes: Rows) -> None:
    """Stop at codes that contain NaN or infinities.

    Raises:
        UnusableCodesError: It names the rows.
    """
    found = [numbers[~np.isfinite(block).all(axis=1)] for numbers, block in blocks(codes)]
    bad = np.concatenate([*found, np.empty(0, dtype=np.int64)])
    if len(bad):
        raise UnusableCodesError(
            f"{len(bad)} of {codes.shape[0]} rows of codes contain NaN or inf (rows {some(bad)}): the network"
            " overflowed or its weights are damaged. Extract those codes again, in float32."
        )
