"""Two numbers of half precision in the room of one float32: how large maps are kept that were computed that way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


def packed(values: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Round (n, d) float32 to "bf16" or "float16", two in each float32 of the result, (n, ceil(d / 2)).

    >>> pairs = packed(np.array([[1, -2.5, 3]], np.float32), "bf16")
    >>> pairs.shape, unpacked(pairs, "bf16", 3)
    ((1, 2), tensor([[ 1.0000, -2.5000,  3.0000]]))
    """
    import torch

    if values.shape[1] % 2:
        values = np.pad(values, ((0, 0), (0, 1)))
    return torch.from_numpy(values).to(_kind(precision)).view(torch.float32).numpy()


def unpacked(pairs: NDArray[np.float32], precision: str, width: int) -> Tensor:
    """Undo `packed`: (n, width) float32."""
    import torch

    return torch.from_numpy(pairs).view(_kind(precision))[:, :width].float()


def _kind(precision: str) -> torch.dtype:
    import torch

    return {"bf16": torch.bfloat16, "float16": torch.float16}[precision]
