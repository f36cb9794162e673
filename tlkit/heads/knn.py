"""The nearest neighbours on CNN codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tlkit.heads.head import Head, require_arrays
from tlkit.heads.moments import class_moments
from tlkit.heads.rows import blocks
from tlkit.heads.scaling import column_weights, standardise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.linear import Rows
    from tlkit.heads.selection import Found, Models, Training

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]

_QUERIES = 1024  # rows whose distances to a block of codes are held at a time
_PRIOR = 1e-3  # of a vote for each class, so that weights decide where a class has no vote


class KNN(Head):
    """A vote of the k nearest rows (Euclidean; with scale "l2" or "power" that is the order of the cosine).

    The score of a class is its share in the vote, weighed by class; equal votes go to the first class. The softmax of
    shares, not of their logarithms: calibrated, it is nearer the truth where k is small. Every k is measured on one
    list of neighbours.

    Args:
        k: Number of neighbours, or several to choose from; None is 1 to 100 in seven steps, up to half of the rows.
        scale: See `Head`, as are class_weight, parts, cv, random_state and what there is after a fit.
        class_weight: The weight of a vote for each class.
        cv: Number of folds.
        random_state: Seed of the folds.

    Attributes:
        k_: The chosen k.
        neighbours_: The rows to compare with: see `Neighbours`. What was a table on disk is read from there again.

    >>> codes = np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]], dtype=np.float32)
    >>> KNN(k=1, cv=2).fit(codes, ["cat", "cat", "dog", "dog"]).predict(codes[:1])
    array(['cat'], dtype='<U3')
    """

    parameter = "k"
    whole = True

    def __init__(
        self,
        *,
        k: int | Sequence[int] | None = None,
        scale: str = "standard",
        class_weight: str | Mapping[Any, float] | None = "auto",
        parts: Sequence[int] | None = None,
        cv: int = 5,
        random_state: int = 0,
    ) -> None:
        self.k = k
        self.scale = scale
        self.class_weight = class_weight
        self.parts = parts
        self.cv = cv
        self.random_state = random_state

    def _default_grid(self, training: Training) -> list[float]:
        return [k for k in (100, 50, 20, 10, 5, 3, 1) if k == 1 or 2 * k <= len(training.labels)]

    def _models(
        self, training: Training, grid: Sequence[float], subsets: Sequence[Labels], done: Callable[[int], object]
    ) -> list[Neighbours]:
        models = []
        for number, (rows, (mean, spread)) in enumerate(zip(subsets, _column_scales(training, subsets), strict=True)):
            codes = standardise(training.codes, mean, spread)
            every = None if len(rows) == len(training.labels) else rows
            ks = [int(k) for k in grid]
            models.append(Neighbours(codes, training.labels, training.weights, mean, spread, every, ks))
            done(number + 1)
        return models

    def _keep(self, models: Models, found: Found | None) -> None:
        self.neighbours_ = cast("Neighbours", models)

    def _score(self, block: NDArray[Any]) -> Matrix:
        return next(self.neighbours_.scores(block, [0]))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = self.neighbours_
        whole = np.ascontiguousarray(own.codes[0 : own.codes.shape[0]])
        return {"codes": whole, "labels": own.labels, "weights": own.weights, "mean": own.mean, "spread": own.spread}

    def _take_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        k, d, n = len(self.classes_), self.n_features_in_, len(arrays.get("codes", ()))
        shapes = {"codes": (n, d), "labels": (n,), "weights": (k,), "mean": (d,), "spread": (d,)}
        require_arrays(arrays, shapes, {"labels": "int64", "weights": "float64"})
        if not np.array_equal(np.unique(arrays["labels"]), np.arange(k)):
            raise ValueError(f"holds labels that are not 0 to {k - 1}")
        if not all((arrays[name] > 0).all() for name in ("weights", "spread")):
            raise ValueError("holds weights or a spread that are not above 0")
        self.neighbours_ = Neighbours(rows=None, ks=[self.k_], **arrays)


@dataclass(frozen=True)
class Neighbours:
    """Rows to compare with, and several numbers of neighbours, as `Models`.

    `codes` (n, d) float32 are standardised by `mean` and `spread` (d,), which queries are not yet; `labels` (n,) are
    their classes, `weights` (k,) those of a vote for each. Only `rows` of them count; None is all.
    """

    codes: Rows
    labels: Labels
    weights: Matrix
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    rows: Labels | None
    ks: Sequence[int]

    @property
    def convergence(self) -> Sequence[Mapping[str, Any]]:
        """Nothing was iterated."""
        return ()

    def scores(self, block: NDArray[Any], which: Iterable[int]) -> Iterator[Matrix]:
        """Yield the scores (b, k) of the raw codes `block` (b, d) by each of the numbers of neighbours `which`."""
        chosen = [self.ks[number] for number in which]
        queries = np.asarray(standardise(block, self.mean, self.spread)[0 : len(block)], dtype=np.float64)
        parts = [queries[start : start + _QUERIES] for start in range(0, len(queries), _QUERIES)]
        nearest = np.concatenate([self._nearest(part, max(chosen)) for part in parts])
        counts = np.bincount(self.labels if self.rows is None else self.labels[self.rows], minlength=len(self.weights))
        for k in chosen:
            yield _shares(nearest[:, :k], self.weights, counts)

    def _nearest(self, queries: Matrix, most: int) -> Labels:
        """Return the classes (b, most) of the nearest rows, the nearest first; fewer if there are fewer rows."""
        distances: Matrix = np.empty((len(queries), 0))
        classes: Labels = np.empty((len(queries), 0), dtype=np.int64)
        for numbers, block in blocks(self.codes, self.rows, _QUERIES):
            known = block.astype(np.float64)
            # Without the square of the query, which does not change the order.
            further = np.einsum("ij,ij->i", known, known) - 2 * queries @ known.T
            distances = np.hstack([distances, further])
            classes = np.hstack([classes, np.broadcast_to(self.labels[numbers], further.shape)])
            if distances.shape[1] > most:
                kept = np.argpartition(distances, most - 1, axis=1)[:, :most]
                distances, classes = np.take_along_axis(distances, kept, 1), np.take_along_axis(classes, kept, 1)
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(classes, order, axis=1)


def _shares(classes: Labels, weights: Matrix, counts: Labels) -> Matrix:
    """Return each class's share (b, k) in the votes `classes` (b, most); -inf for one without rows."""
    n, k = len(classes), len(weights)
    votes = np.bincount((np.arange(n)[:, None] * k + classes).ravel(), minlength=n * k).reshape(n, k)
    weighed = np.where(counts > 0, weights * (votes + _PRIOR), 0)
    return np.where(counts > 0, weighed / weighed.sum(axis=1, keepdims=True), -np.inf)


def _column_scales(
    training: Training, subsets: Sequence[Labels]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    if training.scale != "standard":
        d = training.codes.shape[1]
        yield from [(np.zeros(d, np.float32), np.ones(d, np.float32))] * len(subsets)
        return
    for moments in class_moments(training.codes, training.labels, training.k, subsets):
        mean, spread = moments.column_scale()
        spread /= column_weights(training.parts)
        yield mean.astype(np.float32), spread.astype(np.float32)
