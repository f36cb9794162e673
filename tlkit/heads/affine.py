"""One-vs-rest linear SVMs as affine maps on raw codes: scaling, class weights and solver behind one function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tlkit.heads.squared_hinge import minimise, principal_axes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Codes = NDArray[np.float32] | NDArray[np.float64]

Scale = Literal["standard", "none"]


def affine_path(
    codes: Codes, labels: NDArray[np.int64], k: int, grid: Sequence[float], *, scale: Scale, balanced: bool
) -> Iterator[tuple[Matrix, Matrix]]:
    """Fit LinearSVC's objective at each C of `grid`, in its order, each started from the solution before.

    Args:
        codes: (n, d), any scale; `labels` are (n,) in 0 .. k-1.
        labels: The class of each row; a class without rows gets the score -inf.
        k: How many classes there are.
        grid: Values of C, smallest first.
        scale: "standard" centres each column and divides it by its standard deviation (a constant one by 1).
        balanced: Weight the positives of each problem by n / (k * their number), as LinearSVC does; in a problem
            of two classes the negatives too.

    Yields:
        coef (k, d) and intercept (k,) with the scaling folded in: scores = codes @ coef.T + intercept. Of two
        classes the first row is the second with the other sign.
    """
    mean, spread = _scaling(codes, scale)
    data = np.ones((codes.shape[0], codes.shape[1] + 1))  # the last column carries the (penalised) intercept
    np.divide(codes - mean, spread, out=data[:, :-1])
    axes = principal_axes(data)
    signs, weights, present = _one_vs_rest(labels, balanced=balanced)
    solution = np.zeros((axes.spread.size, signs.shape[1]))
    for C in grid:
        solution = minimise(axes, signs, C * weights, solution)
        hyperplanes = (axes.vectors @ solution).T
        coef = hyperplanes[:, :-1] / spread
        yield _all_rows(coef, hyperplanes[:, -1] - coef @ mean, present, k)


def _scaling(codes: Codes, scale: Scale) -> tuple[Matrix, Matrix]:
    if scale == "none":
        return np.zeros(codes.shape[1]), np.ones(codes.shape[1])
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(codes)
    return scaler.mean_, scaler.scale_


def _one_vs_rest(labels: NDArray[np.int64], *, balanced: bool) -> tuple[Matrix, Matrix, NDArray[np.int64]]:
    """Return signs (n, m), weights (n, m) and the classes present; of two classes only the second has a problem."""
    present, counts = np.unique(labels, return_counts=True)
    positive = labels[:, None] == (present[1:] if len(present) == 2 else present)
    weight = len(labels) / (len(present) * counts) if balanced else np.ones(len(present))
    others = weight[0] if len(present) == 2 else 1.0
    weights = np.where(positive, weight[-1:] if len(present) == 2 else weight, others)
    return np.where(positive, 1.0, -1.0), weights, present


def _all_rows(rows: Matrix, offsets: Matrix, present: NDArray[np.int64], k: int) -> tuple[Matrix, Matrix]:
    if len(present) == 2:
        rows, offsets = np.vstack([-rows, rows]), np.concatenate([-offsets, offsets])
    coef, intercept = np.zeros((k, rows.shape[1])), np.full(k, -np.inf)
    coef[present], intercept[present] = rows, offsets
    return coef, intercept
