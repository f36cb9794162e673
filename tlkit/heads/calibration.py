"""Probabilities from scores: the softmax of the scores divided by one temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. One number leaves the order of the classes
alone. For two classes with scores (-s, s) it is Platt's sigmoid without the shift that could move the decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlkit.heads.rows import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Scores = NDArray[np.float32] | Matrix

_STEP, _LIMIT = 1.5, 14.0  # of the logarithm; the limit is six orders of magnitude


def probabilities(scores: Scores, temperature: float) -> Matrix:
    """Return softmax(scores / temperature), float64 (n, k); a score of -inf has probability 0.

    >>> probabilities(np.array([[0.0, np.log(3.0)]]), 1.0).round(2)
    array([[0.25, 0.75]])
    """
    from scipy.special import softmax

    result: Matrix = softmax(scores / temperature, axis=1)
    return result


def fit_temperature(scores: Scores, labels: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss on held-out `scores` (n, k) and `labels` (n,) in 0 .. k-1.

    The labels are softened by one part in n + 1 towards all classes alike, in the manner of Platt 1999, section 2.2:
    scores that are never wrong would ask for a temperature of 0 otherwise. Rows whose own class has the score -inf
    tell nothing about the temperature and are left out; without any row the answer is 1.

    The loss is convex in 1 / temperature, so that the zero of its slope is the optimum. It is sought within six
    orders of magnitude on both sides of the spread of the scores; scores that mislead end at the upper limit, where
    the probabilities are even. The scores are walked through in blocks, in float64.
    """
    rows = np.flatnonzero(np.isfinite(scores[np.arange(len(labels)), labels]))
    softened, deviation = _targets(scores, labels, rows)
    if deviation == 0:
        return 1.0

    def slope(log_temperature: float) -> float:
        expected = sum(
            float((probabilities(block, np.exp(log_temperature)) * np.where(finite, block, 0)).sum())
            for _, block, finite in _blocks(scores, rows)
        )
        return expected - softened

    return float(np.exp(_zero(slope, float(np.log(deviation)))))


def _targets(scores: Scores, labels: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[float, float]:
    """Return the sum of the softened labels' scores, and the mean deviation of scores from their row's mean."""
    share = 1 / (len(rows) + 1)
    softened = deviation = 0.0
    count = 0
    for part, block, finite in _blocks(scores, rows):
        kept = np.where(finite, block, 0.0)
        mean = kept.sum(axis=1) / finite.sum(axis=1)
        softened += float(((1 - share) * kept[np.arange(len(part)), labels[part]] + share * mean).sum())
        deviation += float(np.abs(kept - mean[:, None])[finite].sum())
        count += int(finite.sum())
    return softened, deviation / max(count, 1)


def _blocks(scores: Scores, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Matrix, NDArray[np.bool_]]]:
    """Yield row numbers, their scores in float64, and which of these are finite."""
    for part in row_blocks(len(rows), scores.shape[1]):
        block = scores[rows[part]].astype(np.float64)
        yield rows[part], block, np.isfinite(block)


def _zero(slope: Callable[[float], float], start: float) -> float:
    """Return the zero of a falling function near `start`, or the limit on the side where it is."""
    from scipy.optimize import brentq

    step = _STEP if slope(start) > 0 else -_STEP
    here = start
    while abs(here - start) < _LIMIT:
        if (slope(here + step) > 0) != (step > 0):
            return float(brentq(slope, here, here + step, xtol=1e-10))
        here += step
    return here
