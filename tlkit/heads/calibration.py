"""Probabilities from scores: the softmax of the scores divided by one temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. One number leaves the order of the classes
alone. For two classes with scores (-s, s) it is Platt's sigmoid without the shift that could move the decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def probabilities(scores: Matrix, temperature: float) -> Matrix:
    """Return softmax(scores / temperature), float64 (n, k); a score of -inf has probability 0.

    >>> probabilities(np.array([[0.0, np.log(3.0)]]), 1.0).round(2)
    array([[0.25, 0.75]])
    """
    from scipy.special import softmax

    result: Matrix = softmax(scores / temperature, axis=1)
    return result


def fit_temperature(scores: Matrix, labels: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss on held-out `scores` (n, k) and `labels` (n,) in 0 .. k-1.

    The labels are softened by one part in n + 1 towards all classes alike, in the manner of Platt 1999, section 2.2:
    scores that are never wrong would ask for a temperature of 0 otherwise. Rows whose own class has the score -inf
    tell nothing about the temperature and are left out; without any row the answer is 1.

    The loss is convex in 1 / temperature, so that the zero of its slope is the optimum. It is sought within six
    orders of magnitude on both sides of the spread of the scores; scores that mislead end at the upper limit, where
    the probabilities are even.
    """
    from scipy.optimize import brentq

    known = np.isfinite(scores[np.arange(len(labels)), labels])
    scores, labels = scores[known], labels[known]
    if not len(labels):
        return 1.0
    share = 1 / (len(labels) + 1)
    finite = np.isfinite(scores)
    kept = np.where(finite, scores, 0.0)
    target = (1 - share) * kept[np.arange(len(labels)), labels] + share * kept.sum(axis=1) / finite.sum(axis=1)

    def slope(log_temperature: float) -> float:
        expected = (probabilities(scores, np.exp(log_temperature)) * kept).sum(axis=1)
        return float((expected - target).mean())

    spread = np.abs(kept - kept.sum(axis=1, keepdims=True) / finite.sum(axis=1, keepdims=True))[finite].mean()
    if spread == 0:
        return 1.0
    low, high = np.log(spread) - np.log(1e6), np.log(spread) + np.log(1e6)
    if slope(high) >= 0:
        return float(np.exp(high))
    return float(np.exp(brentq(slope, low, high, xtol=1e-12)))
