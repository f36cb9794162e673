"""Cross-validation of the regularisation: which C, and the out-of-fold scores that calibration needs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tlkit.heads.affine import affine_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.affine import Codes, Scale

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class CrossValidation:
    """What the folds say: `accuracy` (len(grid), folds) and the scores (n, k) of every row by the C that was `best`."""

    accuracy: Matrix
    best: int
    scores: Matrix


def default_grid(codes: Codes, scale: Scale) -> list[float]:
    """Return eight powers of ten around one over the mean squared length of the (scaled) codes.

    From a thousand times below it, where the head is close to the nearest class mean, to ten thousand times above,
    where the penalty hardly matters: only the product of C and the squared length counts, so that one rule serves
    codes of any width and scale.

    >>> default_grid(np.ones((2, 1000), dtype=np.float32), "standard")
    [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]
    """
    wide = float(codes.shape[1]) if scale == "standard" else float(np.square(codes, dtype=np.float64).sum(1).mean())
    middle = -round(float(np.log10(wide))) if wide > 0 else 0
    return [float(f"1e{power}") for power in range(middle - 3, middle + 5)]


def make_folds(labels: Labels, groups: NDArray[np.generic] | None, cv: int, seed: int) -> list[Fold]:
    """Split rows into at most `cv` shuffled, stratified folds (train rows, test rows); no group is on two sides.

    Fewer folds when no class has `cv` rows, or there are fewer groups; none when not even two are possible.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    count = min(cv, int(np.bincount(labels).max()), len(labels) if groups is None else len(np.unique(groups)))
    if count < 2:
        return []
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # small classes are expected here: they miss in some folds
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = list(splitter.split(np.empty((len(labels), 0)), labels, groups))
    return [(train, test) for train, test in folds if len(train) and len(test)]


def cross_validate(
    codes: Codes,
    labels: Labels,
    grid: Sequence[float],
    folds: Sequence[Fold],
    *,
    scale: Scale,
    balanced: bool,
    done: Callable[[int], object],
) -> CrossValidation:
    """Fit the whole `grid` in every fold (scaling and class weights included) and choose the most accurate C.

    The mean of the folds' accuracies decides; of equal ones the smaller C wins. `done` is called with the number of
    finished folds.
    """
    k = int(labels.max()) + 1
    scores = np.empty((len(grid), len(labels), k))
    accuracy = np.empty((len(grid), len(folds)))
    for fold, (train, test) in enumerate(folds):
        path = affine_path(codes[train], labels[train], k, grid, scale=scale, balanced=balanced)
        for row, (coef, intercept) in enumerate(path):
            scores[row, test] = codes[test] @ coef.T + intercept
            accuracy[row, fold] = np.mean(scores[row, test].argmax(axis=1) == labels[test])
        done(fold + 1)
    # Rounded, for the same accuracies in another order of folds have means that differ in the last bit.
    best = int(accuracy.mean(axis=1).round(12).argmax())
    return CrossValidation(accuracy, best, scores[best])
