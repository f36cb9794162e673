"""Newton steps without iterations, for a column that few rows bend: the squared hinge far along its path.

There the rows with a slack are a small and special part of all, and conjugate gradients take long. The step follows
from a system no larger than their number (Woodbury), or than the number of dimensions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch


def costs(active: torch.Tensor, d: int, *, gram: bool) -> torch.Tensor:
    """Return about the multiplications of `direct_step`, as those of iterations count, for `active` rows (m,)."""
    small = active.double().clamp(max=d)
    products = small * active * d
    if gram:
        products *= active > d
    return products + small**3 / 6


def direct_step(codes: torch.Tensor, bends: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Solve (I + X'DX) step = -gradient.

    Args:
        codes: X, (a, d + 1), the active rows with their constant column.
        bends: The diagonal of D, (a,), above 0.
        gradient: (d + 1,).
    """
    import torch

    if len(codes) > codes.shape[1]:
        return -solved(codes.T @ (codes * bends[:, None]), torch.ones_like(gradient), gradient)
    return codes.T @ solved(codes @ codes.T, 1 / bends, codes @ gradient) - gradient


def mixture_step(gram: torch.Tensor, rows: torch.Tensor, bends: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return m (a,) for which X'm - gradient is the step of `direct_step`, from the inner products of all rows.

    Args:
        gram: (n, n), without the constant column.
        rows: (a,) the active ones, ascending.
        bends: (a,) as there.
        scores: (a,) X @ gradient.
    """
    size = -(-len(rows) // 8)
    system = gram.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), size):  # half of it will do
        end = start + size
        system[start:end, :end] = gram[rows[start:end, None], rows[:end]]
    return solved(system.add_(1), 1 / bends, scores)


def solved(matrix: torch.Tensor, ridge: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve (M + diag(ridge)) x = right (a,), M (a, a) positive semidefinite, of which the lower half is used.

    In float64 where a factorisation in float32 might lose the ridge: its error is about the last bit of the trace.
    """
    import torch

    kept = float(ridge.min()) >= torch.finfo(matrix.dtype).eps * float(matrix.trace())
    factor, failed = torch.linalg.cholesky_ex(_raised(matrix, ridge, matrix.dtype)) if kept else (matrix, True)
    if failed:
        factor = torch.linalg.cholesky(_raised(matrix, ridge, torch.float64))
    return torch.cholesky_solve(right[:, None].to(factor.dtype), factor)[:, 0].to(right.dtype)


def _raised(matrix: torch.Tensor, ridge: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    raised = matrix.to(dtype, copy=True)
    raised.diagonal().add_(ridge)
    return raised


def each_alone(work: Callable[[int], None], columns: Sequence[int]) -> None:
    """Do the work for each column on one processor, several at once: one right side does not keep more busy."""
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        for column in columns:
            work(column)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            list(pool.map(work, columns))
    finally:
        torch.set_num_threads(threads)  # the setting is that of threads to come, too
