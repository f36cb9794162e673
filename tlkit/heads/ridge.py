"""The ridge classifier on CNN codes: least squares, every regularisation and leave-one-out from one decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.heads.affine_head import AffineHead, AffineModels
from tlkit.heads.linear import Affine
from tlkit.heads.moments import class_moments
from tlkit.heads.rows import blocks
from tlkit.heads.scaling import column_weights
from tlkit.heads.selection import Evaluation, Training, default_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.moments import Moments
    from tlkit.heads.selection import Fold

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Back = Callable[[Matrix], Matrix]
    Turn = Callable[[Labels, NDArray[Any]], Matrix]
    Axes = tuple[Matrix, Matrix, Back, Turn]  # the first fields of Decomposition


_TORCH_PAYS = 500  # rows of a matrix
_THREADS_PAY = 4096  # below, threads mostly wait for each other: on a busy machine ten times as long


class Ridge(AffineHead):
    """One-vs-rest least squares on targets of +1 and -1 with an L2 penalty, as scikit-learn's RidgeClassifier.

    One eigendecomposition serves all values of alpha, and gives exact leave-one-out predictions for each of them
    (Allen 1974, PRESS; Rifkin and Lippert 2007, "Notes on regularized least squares", section 4). They replace the
    folds wherever they are honest: not for grouped rows, whose neighbours would stay in, and not for scale "standard"
    (and so "auto"), as the row that is left out would have had its part in the scale. `cv_results_["std"]` is then
    the standard error of the accuracy.

    Args:
        alpha: Strength of the penalty, or several to choose from; None is eight powers of ten that suit the codes,
            the inverse of `default_grid`.
        scale: See `Head`, as are class_weight, parts, cv, random_state and what there is after a fit. The intercept is
            not penalised, so that codes are always centred.
        class_weight: The weight of the rows of each class.
        cv: Number of folds.
        random_state: Seed of the folds.

    Attributes:
        alpha_: The chosen alpha.
        coef_: (k, d) float32 and `intercept_` (k,): see `AffineHead`.

    >>> codes = np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]], dtype=np.float32)
    >>> Ridge(alpha=1.0).fit(codes, ["cat", "cat", "dog", "dog"]).predict(codes[:1])
    array(['cat'], dtype='<U3')
    """

    parameter = "alpha"

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] | None = None,
        scale: str = "none",
        class_weight: str | Mapping[Any, float] | None = "auto",
        parts: Sequence[int] | None = None,
        cv: int = 5,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.scale = scale
        self.class_weight = class_weight
        self.parts = parts
        self.cv = cv
        self.random_state = random_state

    def _default_grid(self, training: Training) -> list[float]:
        return [float(f"{1 / C:.0e}") for C in default_grid(training.codes, training.scale)]

    def _models(
        self, training: Training, grid: Sequence[float], subsets: Sequence[Labels], done: Callable[[int], object]
    ) -> list[AffineModels]:
        models = []
        for number, axes in enumerate(decompositions(training, subsets)):
            models.append(AffineModels(axes.maps(grid)))
            done(number + 1)
        return models

    def _evaluate(
        self, training: Training, grid: list[float], folds: Sequence[Fold], done: Callable[[int], object]
    ) -> Evaluation:
        if training.groups is not None or self.scale in ("standard", "auto"):
            return super()._evaluate(training, grid, folds, done)
        evaluation = leave_one_out(training, grid)
        done(len(folds))
        return evaluation


@dataclass(frozen=True)
class Decomposition:
    """Weighted, centred and scaled rows Z (n, d) in their principal axes V (d, r).

    `spread` (r,) are the eigenvalues of Z'Z, `moment` (r, k) is V'Z'T with the weighted targets T, `back` takes
    (r, m) to the codes' own columns, `rows(numbers, block)` returns those rows of ZV (b, r). `centre` and `scale` (d,)
    belong to the columns; `level` (k,) is the mean target; `weight` is the sum of the rows' weights.
    """

    spread: Matrix
    moment: Matrix
    back: Back
    rows: Turn
    centre: Matrix
    level: Matrix
    weight: float
    present: NDArray[np.bool_]

    def solution(self, alpha: float) -> Matrix:
        """Return the minimiser (r, k) in the axes."""
        solution: Matrix = self.moment / (self.spread + alpha)[:, None]
        return solution

    def maps(self, grid: Sequence[float]) -> list[Affine]:
        """Return the affine map of each alpha; the score of a class without rows is -inf."""
        coefs = np.split(self.back(np.hstack([self.solution(alpha) for alpha in grid])).T, len(grid))
        intercepts = [np.where(self.present, self.level - coef @ self.centre, -np.inf) for coef in coefs]
        return [Affine(w.astype(np.float32), b.astype(np.float32)) for w, b in zip(coefs, intercepts, strict=True)]


def decompositions(training: Training, subsets: Sequence[Labels]) -> Iterator[Decomposition]:
    """Decompose each subset of rows: in the space of the rows where there are fewer of them than columns."""
    wide = max(map(len, subsets)) < training.codes.shape[1]
    weights = None if wide else training.weights
    found = class_moments(training.codes, training.labels, training.k, subsets, weights)
    for rows, moments in zip(subsets, found, strict=True):
        yield _decompose(training, rows, moments)


def _decompose(training: Training, rows: Labels, moments: Moments) -> Decomposition:
    weight = training.weights @ moments.counts
    offset = training.weights @ moments.sums / weight
    standard = training.scale == "standard"
    scale = moments.column_scale()[1] / column_weights(training.parts) if standard else np.ones(len(offset))
    centre = moments.shift + offset
    make = _of_rows if moments.scatter is None else _of_columns
    spread, moment, back, turned = make(training, rows, moments, centre, scale)
    level = 2 * training.weights * moments.counts / weight - 1
    return Decomposition(spread, moment, back, turned, centre, level, float(weight), moments.counts > 0)


def _of_columns(training: Training, rows: Labels, moments: Moments, centre: Matrix, scale: Matrix) -> Axes:
    """Decompose the scatter matrix (d, d)."""
    offset = centre - moments.shift
    scatter = np.asarray(moments.scatter) - training.weights @ moments.counts * np.outer(offset, offset)
    scatter /= np.outer(scale, scale)
    spread, vectors = _eigh(scatter)
    sums = 2 * training.weights[:, None] * (moments.sums - moments.counts[:, None] * offset) / scale

    def turned(numbers: Labels, block: NDArray[Any]) -> Matrix:
        return np.asarray(_weighted(training, numbers, (block - centre) / scale) @ vectors)

    return np.maximum(spread, 0), vectors.T @ sums.T, lambda inner: (vectors @ inner) / scale[:, None], turned


def _of_rows(training: Training, rows: Labels, moments: Moments, centre: Matrix, scale: Matrix) -> Axes:
    """Decompose the Gram matrix (n, n) of the rows, which are few."""
    parts = [_weighted(training, n, (block - centre) / scale) for n, block in blocks(training.codes, rows)]
    data = np.concatenate(parts)
    spread, vectors = _eigh(data @ data.T)
    kept = spread > 1e-13 * spread[-1]  # along the others the codes do not differ
    spread, vectors = spread[kept], vectors[:, kept]
    length = np.sqrt(spread)
    targets = np.where(training.labels[rows, None] == np.arange(training.k), 2.0, 0.0)
    moment = length[:, None] * (vectors.T @ _weighted(training, rows, targets))

    def turned(numbers: Labels, block: NDArray[Any]) -> Matrix:
        rotated: Matrix = vectors[np.searchsorted(rows, numbers)] * length
        return rotated

    return spread, moment, lambda inner: data.T @ (vectors @ (inner / length[:, None])) / scale[:, None], turned


def _eigh(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return eigenvalues, rising, and eigenvectors; torch's LAPACK is twice as fast, but has to be imported."""
    if len(matrix) < _TORCH_PAYS:
        from scipy.linalg import eigh

        spread, vectors = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
        return spread, vectors
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(threads if len(matrix) >= _THREADS_PAY else 1)
    try:
        values, columns = torch.linalg.eigh(torch.from_numpy(matrix))
    finally:
        torch.set_num_threads(threads)
    return values.numpy(), columns.numpy()


def _weighted(training: Training, rows: Labels, values: Matrix) -> Matrix:
    return values * np.sqrt(training.weights[training.labels[rows]])[:, None]


def leave_one_out(training: Training, grid: Sequence[float]) -> Evaluation:
    """Measure each alpha on each row, as predicted by the fit on all the others."""
    n, k = len(training.labels), training.k
    (axes,) = decompositions(training, [np.arange(n)])
    alone = np.bincount(training.labels, minlength=k) == 1

    def walk(which: Sequence[int]) -> Iterator[tuple[Labels, int, Matrix]]:
        for numbers, block in blocks(training.codes, width=k):
            turned, own = axes.rows(numbers, block), training.labels[numbers]
            for value in which:
                left_out = _left_out(axes, turned, own, training.weights[own], grid[value])
                left_out[np.flatnonzero(alone[own]), own[alone[own]]] = -np.inf  # no row of the class is left
                yield numbers, value, left_out

    def scores(which: int) -> NDArray[np.float32]:
        result = np.empty((n, k), dtype=np.float32)
        for numbers, _, left_out in walk([which]):
            result[numbers] = left_out
        return result

    right = np.zeros(len(grid))
    for numbers, value, left_out in walk(range(len(grid))):
        right[value] += np.sum(left_out.argmax(axis=1) == training.labels[numbers])
    accuracy = right / n
    error = np.sqrt(accuracy * (1 - accuracy) / n)
    return Evaluation(accuracy, error, scores, whole=lambda which: AffineModels(axes.maps([grid[which]])))


def _left_out(axes: Decomposition, turned: Matrix, labels: Labels, weights: Matrix, alpha: float) -> Matrix:
    """Return the scores (b, k) of rows (b, r) by the fits without each: the residual grows by 1 / (1 - leverage)."""
    targets = np.where(labels[:, None] == np.arange(len(axes.level)), 1.0, -1.0)
    leverage = turned**2 @ (1 / (axes.spread + alpha)) + weights / axes.weight
    fitted = turned @ axes.solution(alpha) / np.sqrt(weights)[:, None] + axes.level
    scores: Matrix = targets - (targets - fitted) / (1 - leverage)[:, None]
    return scores
