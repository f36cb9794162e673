"""A table of codes that stays on disk: columns of several spaces side by side, read by slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tlkit.codes.space import Space


class Rows:
    """Rows of codes, float32 (n, d), that are read when they are indexed.

    Args:
        parts: spaces side by side, each with the n row numbers that `Space.find` gave; NaN is read for a row of -1.
            `Space.check` them first: reading finds damaged blocks too, but where no one can compute them again.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, parts: Sequence[tuple[Space, NDArray[np.int64]]]) -> None:
        self._parts = list(parts)
        self._widths = [space.width or 0 for space, _ in parts]

    @staticmethod
    def beside(tables: Sequence[Rows]) -> Rows:
        """Put tables with the same rows side by side."""
        return Rows([part for table in tables for part in table._parts])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), sum(self._widths)

    def __len__(self) -> int:
        return len(self._parts[0][1])

    def select(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows, still unread."""
        return Rows([(space, numbers[rows]) for space, numbers in self._parts])

    def __getitem__(self, item: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        numbers = [part[item] for _, part in self._parts]
        out = np.empty((len(numbers[0]), self.shape[1]), dtype=np.float32)
        left = 0
        for (space, _), wanted, width in zip(self._parts, numbers, self._widths, strict=True):
            columns, known = out[:, left : left + width], wanted >= 0
            columns[~known] = np.nan
            columns[known] = space.read(wanted[known])
            left += width
        return out

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float32]:
        return np.asarray(self[:], dtype=dtype)  # type: ignore[call-overload, no-any-return]
