"""Scaling of codes before a head: by column, fitted on training rows, or by row, which needs no fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows

    Function = Callable[[NDArray[Any]], NDArray[np.float32]]

Scale = Literal["standard", "none", "l2", "power"]
SCALES: tuple[Scale, ...] = ("standard", "none", "l2", "power")


def rowwise(codes: Rows, scale: Scale, parts: Sequence[int] | None = None) -> Rows:
    """Scale each row by itself: (n, d) to (n, d) float32.

    "l2" gives it the length 1. "power" takes the signed square root first, which calms the few large activations
    (Perronnin, Sánchez and Mensink 2010, "Improving the Fisher kernel for large-scale image classification",
    section 3). A row of zeros stays. "standard" and "none" leave the codes as they are.

    With several `parts`, the widths of codes that stand side by side, each of them is scaled by itself, to an equal
    share of the squared length: no part drowns the others because it is wider or louder.

    An array gives an array; a table that is read in slices gives another one, scaled as it is read.

    >>> rowwise(np.array([[9.0, -16.0]]), "power")
    array([[ 0.6, -0.8]], dtype=float32)
    """
    functions: dict[str, Function] = {"l2": _unit, "power": _power}
    if scale not in functions:
        return codes
    return changed(codes, functions[scale] if parts is None else _each_part(functions[scale], parts))


def column_weights(parts: Sequence[int] | None) -> NDArray[np.float64] | float:
    """Return what standardised columns (d,) are multiplied by, for all parts of a row to have equal squared lengths.

    >>> column_weights([1, 3]).round(3)
    array([1.414, 0.816, 0.816, 0.816])
    """
    if parts is None:
        return 1.0
    widths = np.asarray(parts)
    weights: NDArray[np.float64] = np.repeat(np.sqrt(widths.sum() / (len(widths) * widths)), widths)
    return weights


def standardise(codes: Rows, mean: NDArray[Any], spread: NDArray[Any]) -> Rows:
    """Return (codes - mean) / spread, float32, with `mean` and `spread` (d,); a table stays one."""
    return changed(codes, lambda block: ((block - mean) / spread).astype(np.float32))


def changed(codes: Rows, function: Function) -> Rows:
    """Apply `function`, which treats rows alone, to an array now, or to a table when it is read."""
    if not isinstance(codes, np.ndarray) or isinstance(codes, np.memmap):
        return _Changed(codes, function)
    return function(codes)


@dataclass(frozen=True)
class _Changed:
    codes: Rows
    function: Function

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        return self.function(np.asarray(self.codes[rows]))


def _each_part(function: Function, parts: Sequence[int]) -> Function:
    ends = np.cumsum(parts)[:-1]
    share = np.float32(len(parts) ** -0.5)
    return lambda block: np.concatenate([share * function(part) for part in np.split(block, ends, axis=1)], axis=1)


def _unit(block: NDArray[Any]) -> NDArray[np.float32]:
    length = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))  # a square may overflow in float32
    length[length == 0] = 1
    return np.asarray(block / length[:, None], dtype=np.float32)


def _power(block: NDArray[Any]) -> NDArray[np.float32]:
    return _unit(np.copysign(np.sqrt(np.abs(block)), block))
