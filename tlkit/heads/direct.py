"""Newton steps without iterations, for a column that few rows bend: the squared hinge far along its path.

There the rows with a slack are a small and special part of all, and conjugate gradients take long. The step follows
from a system no larger than their number (Woodbury), or than the number of dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WORTH = 1.0  # a multiplication in float64, in those of an iteration and all that goes with it


def costs(active: torch.Tensor, d: int, *, gram: bool) -> torch.Tensor:
    """Return about the multiplications of `direct_step`, as those of iterations count, for `active` rows (m,)."""
    small = active.double().clamp(max=d)
    products = small * active * d
    if gram:
        products *= active > d
    return _WORTH * (products + small**3 / 6)


def direct_step(
    codes: torch.Tensor, bends: torch.Tensor, gradient: torch.Tensor, gram: torch.Tensor | None
) -> torch.Tensor:
    """Solve (I + X'DX) step = -gradient in float64.

    Args:
        codes: X, (a, d + 1), the active rows with their constant column.
        bends: The diagonal of D, (a,), above 0.
        gradient: (d + 1,).
        gram: X X' (a, a) float64, where it is known and of use, which is for a <= d + 1.
    """
    import torch

    codes, bends, gradient = codes.double(), bends.double(), gradient.double()
    if len(codes) > codes.shape[1]:
        system = codes.T @ (codes * bends[:, None])
        system.diagonal().add_(1)
        return -torch.cholesky_solve(gradient[:, None], torch.linalg.cholesky(system))[:, 0]
    gram = codes @ codes.T if gram is None else gram
    inner = torch.cholesky_solve((codes @ gradient)[:, None], torch.linalg.cholesky(gram + torch.diag(1 / bends)))
    return codes.T @ inner[:, 0] - gradient
