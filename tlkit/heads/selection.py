"""Model selection: folds, and one table of candidates (scaling times regularisation) measured out of fold."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tlkit.heads.rows import blocks
from tlkit.heads.scaling import rowwise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows
    from tlkit.heads.scaling import Scale

    Matrix = NDArray[np.float64]
    Scores = NDArray[np.float32] | NDArray[np.float64]
    Labels = NDArray[np.int64]
    Fold = tuple[Labels, Labels]


@dataclass(frozen=True)
class Training:
    """What a head is fitted on: `codes` (n, d), scaled by row if `scale` says so, `labels` (n,) in 0 .. k-1.

    `weights` (k,) are those of the classes; `groups` (n,) are rows that belong together, if any do; `parts` are the
    widths of parts of a row that weigh the same, if there are several.
    """

    codes: Rows
    labels: Labels
    k: int
    weights: Matrix
    scale: Scale
    groups: NDArray[np.generic] | None = None
    parts: Sequence[int] | None = None

    def scaled(self, scale: Scale) -> Training:
        """Return the same rows, unscaled here, with another scaling."""
        return replace(self, codes=rowwise(self.codes, scale, self.parts), scale=scale)


class Models(Protocol):
    """Models fitted on the same rows, one for each value of a grid."""

    @property
    def convergence(self) -> Sequence[Mapping[str, Any]]:
        """How each was reached; empty if there was nothing to iterate."""

    def scores(self, block: NDArray[Any], which: Iterable[int]) -> Iterator[Scores]:
        """Yield the scores (b, k) of the codes `block` (b, d) by each of the models `which`."""


@dataclass(frozen=True)
class Evaluation:
    """How good each value of a grid is on rows that it was not fitted on.

    `accuracy` and `std` have one entry a value; `scores(which)` returns the out-of-fold scores (n, k) of one of them,
    and `whole(which)` its fit on all rows, where that needs no further work.
    """

    accuracy: Matrix
    std: Matrix
    scores: Callable[[int], NDArray[np.float32]]
    convergence: Sequence[Mapping[str, Any]] = ()
    whole: Callable[[int], Models] | None = None


@dataclass(frozen=True)
class Found:
    """The chosen candidate, its out-of-fold scores (n, k), and the table of all of them.

    `models` is the fit on all rows, if it came with the evaluation.
    """

    training: Training
    value: float
    scores: NDArray[np.float32]
    models: Models | None
    table: dict[str, list[Any]]
    convergence: list[Mapping[str, Any]]


def default_grid(codes: Rows, scale: Scale) -> list[float]:
    """Return eight powers of ten around one over the mean squared length of the (scaled) codes.

    From a thousand times below it, where the head is close to the nearest class mean, to ten thousand times above,
    where the penalty hardly matters: only the product of C and the squared length counts, so that one rule serves
    codes of any width and scale.

    >>> default_grid(np.ones((2, 1000), dtype=np.float32), "standard")
    [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]
    """
    wide = float(codes.shape[1]) if scale == "standard" else _mean_squared_length(codes)
    middle = -round(float(np.log10(wide))) if wide > 0 else 0
    return [float(f"1e{power}") for power in range(middle - 3, middle + 5)]


def _mean_squared_length(codes: Rows) -> float:
    return sum(float(np.square(block, dtype=np.float64).sum()) for _, block in blocks(codes)) / codes.shape[0]


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


def by_folds(training: Training, models: Sequence[Models], folds: Sequence[Fold], size: int) -> Evaluation:
    """Measure each fold's `models` (a grid of `size` values) on its test rows, in one walk over the codes."""
    fold_of = np.empty(len(training.labels), dtype=np.int64)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    right, rows = np.zeros((size, len(folds))), np.bincount(fold_of)

    def walk(which: Sequence[int]) -> Iterator[tuple[int, Labels, Iterator[Scores]]]:
        for numbers, block in blocks(training.codes, width=training.k):
            for fold in np.unique(fold_of[numbers]).tolist():
                inside = fold_of[numbers] == fold
                yield fold, numbers[inside], models[fold].scores(block[inside], which)

    def scores(value: int) -> NDArray[np.float32]:
        result = np.empty((len(fold_of), training.k), dtype=np.float32)
        for _, numbers, found in walk([value]):
            result[numbers] = next(found)
        return result

    for fold, numbers, found in walk(range(size)):
        for value, part in enumerate(found):
            right[value, fold] += np.sum(part.argmax(axis=1) == training.labels[numbers])
    accuracy = right / rows
    convergence = [record for path in models for record in path.convergence]
    return Evaluation(accuracy.mean(axis=1), accuracy.std(axis=1), scores, convergence)


def search(
    trainings: Iterable[Training],
    grid_of: Callable[[Training], list[float]],
    evaluate: Callable[[Training, list[float]], Evaluation],
) -> Found:
    """Evaluate a grid on each of `trainings`, which differ in their scaling, and choose the most accurate candidate.

    Of equal mean accuracies the first in the table wins; it has the scalings in their order, and in each the values
    of its grid, from the strongest regularisation to the weakest. Only the best scores so far are kept.
    """
    best, found = -1.0, None
    table: dict[str, list[Any]] = {"scale": [], "value": [], "accuracy": [], "std": []}
    convergence: list[Mapping[str, Any]] = []
    for training in trainings:
        grid = grid_of(training)
        evaluation = evaluate(training, grid)
        # Rounded, for the same accuracies in another order of folds have means that differ in the last bit.
        accuracy = evaluation.accuracy.round(12)
        if accuracy.max() > best:
            best, which = accuracy.max(), int(accuracy.argmax())
            whole = evaluation.whole(which) if evaluation.whole else None
            found = training, grid[which], evaluation.scores(which), whole
        columns = [training.scale] * len(grid), grid, evaluation.accuracy.tolist(), evaluation.std.tolist()
        for name, column in zip(table, columns, strict=True):
            table[name] += column
        convergence += evaluation.convergence
    if found is None:
        raise ValueError("there is nothing to choose from")
    return Found(*found, table, convergence)
