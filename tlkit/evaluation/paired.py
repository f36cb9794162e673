"""Two classifiers on the same images: what one gets right and the other wrong tells which is better, if either is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_DRAWS = 10_000


class Paired(NamedTuple):
    """How much better the first of two classifiers is on the images that both were shown.

    Attributes:
        difference: Of the accuracies, the first minus the second.
        interval: The 95 % interval of it, [low, high].
        p: How often chance alone parts two equally good classifiers as far as this (McNemar's exact test).
    """

    difference: float
    interval: list[float]
    p: float


def paired_interval(right_a: ArrayLike, right_b: ArrayLike, seed: int) -> Paired:
    """Compare two classifiers on the same images.

    The interval is the percentile interval of the paired bootstrap (Efron and Tibshirani 1993, chapter 13): images are
    drawn with replacement, each with what both classifiers made of it. Only how many one alone gets right counts, so
    these numbers are drawn, and the order of the images does not matter; swapping the classifiers swaps the signs.

    Args:
        right_a: (n,) bool, which images the first gets right.
        right_b: (n,) bool, the same images, the second.
        seed: Of the draws.

    Raises:
        ValueError: The two are not about the same images, or there are none.

    >>> paired_interval([True] * 9 + [False], [True] * 6 + [False] * 4, seed=1)
    Paired(difference=0.3, interval=[0.0, 0.6], p=0.25)
    """
    a, b = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"right_a {a.shape} and right_b {b.shape} do not say the same images, at least one")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    drawn = _bootstrap(max(only_a, only_b), min(only_a, only_b), len(a), seed)
    if only_a == only_b:
        drawn = np.concatenate([drawn, -drawn])  # nothing but the draws would favour one of them
    low, high = np.quantile(drawn if only_a >= only_b else -drawn, [0.025, 0.975])
    if only_a == only_b:
        low, high = (low - high) / 2, (high - low) / 2  # alike but for rounding
    return Paired((only_a - only_b) / len(a), [float(low) + 0.0, float(high) + 0.0], mcnemar(only_a, only_b))


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947; Dietterich 1998, section 3.1).

    Args:
        only_a: How many images the first classifier alone gets right.
        only_b: How many the second alone.

    >>> mcnemar(3, 0)  # 2 * (1/2)^3
    0.25
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values (m,) for being many: Holm 1979, in their order, at most 1.

    Of all that are below 0.05 then, the chance that even one is so by chance is below 0.05.

    >>> holm([0.04, 0.01, 0.5]).round(3).tolist()
    [0.08, 0.03, 0.5]
    """
    values = np.asarray(p, dtype=np.float64)
    order = values.argsort(kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(raised, 1)
    return corrected


def _bootstrap(more: int, fewer: int, n: int, seed: int) -> NDArray[np.float64]:
    """Draw n images again and again: the differences of the accuracies (draws,)."""
    shares = np.array([more, fewer, n - more - fewer]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=_DRAWS)
    return np.asarray((counts[:, 0] - counts[:, 1]) / n)
