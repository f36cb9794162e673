"""The rows that the solver sees: held in memory where they fit, read again block by block in every pass otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.heads.blocks import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows


@dataclass(frozen=True)
class Samples:
    """Rows of codes with their labels and the subsets they belong to.

    codes: float32 tensor (n, d) on the device, or a table that each pass reads again. shift, scale: (d,) float64, or
    None; what comes out of a table is (codes - shift) / scale. labels: (n,) int64 tensor. members: (n, f) float32
    tensor of 0 and 1. gram: Returns the Gram matrix (n, n) float32, where it is small enough to have.
    """

    codes: torch.Tensor | Rows
    labels: torch.Tensor
    members: torch.Tensor
    shift: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    gram: Callable[[], torch.Tensor] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.codes.shape[0], self.codes.shape[1]

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the rows of each block and its float32 codes; `width` numbers are computed for each row."""
        n, d = self.shape
        for rows in row_blocks(n, max(width, d), gpu=self.labels.is_cuda):
            yield rows, self.block(rows)

    def block(self, rows: slice) -> torch.Tensor:
        """Return the codes of `rows`, float32 on the device."""
        import torch

        if isinstance(self.codes, torch.Tensor):
            return self.codes[rows]
        block = torch.from_numpy(_read(self.codes, rows)).to(self.labels.device)
        if self.shift is None or self.scale is None:
            return block.float()
        # In the precision of the codes: a float32 table loses nothing by it, a float64 one keeps what it has.
        moved = block - self.shift.to(block.dtype)
        return moved.div_(self.scale.to(block.dtype)).float()

    def pick(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the codes of single rows, where these are in memory."""
        import torch

        if not isinstance(self.codes, torch.Tensor):
            raise TypeError("single rows are only taken from codes in memory")
        return self.codes[rows]

    def held(self) -> Samples:
        """Return the same with all codes in memory."""
        return self if self.in_memory else replace(self.every(1), members=self.members)

    @property
    def in_memory(self) -> bool:
        """Whether a pass reads nothing."""
        import torch

        return isinstance(self.codes, torch.Tensor)

    def every(self, step: int) -> Samples:
        """Return each `step`-th row, in memory; the very same samples where that is all of them, held already."""
        import torch

        if step == 1 and self.in_memory:
            return self
        n, d = self.shape
        codes = torch.empty(-(-n // step), d, device=self.labels.device)
        for rows in row_blocks(n, d):
            first = -(-rows.start // step)
            part = self.block(rows)[first * step - rows.start :: step]
            codes[first : first + len(part)] = part
        return Samples(codes, self.labels[::step], self.members[::step])


def _read(codes: Rows, rows: slice) -> NDArray[Any]:
    """Return a block as a writable array that torch takes: float64 stays, everything else becomes float32."""
    block = np.asarray(codes[rows])
    dtype = np.float64 if block.dtype == np.float64 else np.float32
    return np.require(block, dtype=dtype, requirements=["C", "W"])
