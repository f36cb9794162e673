"""Votes: from the probabilities that m classifiers give to n images, (m, n, k), to one opinion, (n, k).

Whatever is fitted is fitted on probabilities that the classifiers gave to images which they have not learned from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]

Voting = Literal["hard", "soft", "weighted", "greedy", "stacking"]
VOTINGS: tuple[str, ...] = get_args(Voting)
FITTED = ("weighted", "greedy", "stacking")  # need probabilities of images that no member has learned from

_TIE = 1e-6  # what the winner of a tie gets more than the others
_STEPS = 10_000
_ROUNDS = 100


def soft(probabilities: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Return the weighted mean of the members' probabilities, (n, k); rows sum to 1.

    >>> soft([[[0.9, 0.1]], [[0.4, 0.6]]]).round(2)
    array([[0.65, 0.35]])
    """
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    mean: Matrix = np.average(np.asarray(probabilities, dtype=np.float64), axis=0, weights=w)
    return mean


def hard(probabilities: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Return the share of the members that vote for each class, (n, k); the largest one is the winner.

    A member votes for its most probable class, the first of equal ones. A tie is won by the class with the largest
    (weighted) sum of probabilities, of equal ones by the first; its share is raised by one part in a million.

    >>> hard([[[0.9, 0.1]], [[0.4, 0.6]]])  # one vote each, but the first is surer
    array([[0.5000005, 0.4999995]])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    m, n, k = p.shape
    w = np.ones(m) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = np.zeros((n, k))
    for member, weight in zip(p, w / w.sum(), strict=True):
        shares[np.arange(n), member.argmax(axis=1)] += weight
    best = np.isclose(shares, shares.max(axis=1, keepdims=True), rtol=0, atol=1e-9)
    tied = best.sum(axis=1) > 1
    sums = np.where(best, soft(p, w), -1.0)
    close = np.isclose(sums, sums.max(axis=1, keepdims=True), rtol=0, atol=1e-9)
    winner = close.argmax(axis=1)
    shares[tied, winner[tied]] += _TIE
    result: Matrix = shares / shares.sum(axis=1, keepdims=True)
    return result


def mixture_weights(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Return the weights (m,), none negative, sum 1, whose weighted mean has the least log loss on `labels` (n,).

    The loss is convex in the weights; this is the EM algorithm for the weights of a mixture (Dempster et al. 1977,
    section 4.3), which ends within 1e-9 of the optimum by the duality gap, or after ten thousand steps.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    likelihood = np.maximum(p[:, np.arange(len(y)), y], 1e-12)  # (m, n)
    weights = np.full(len(p), 1 / len(p))
    for _ in range(_STEPS):
        gain = (likelihood / (weights @ likelihood)).mean(axis=1)
        if gain.max() - 1 < 1e-9:
            break
        weights *= gain
    result: NDArray[np.float64] = weights / weights.sum()
    return result


def greedy_weights(probabilities: ArrayLike, labels: ArrayLike, rounds: int = _ROUNDS) -> NDArray[np.float64]:
    """Return the weights (m,) of an ensemble selected with replacement: multiples of one over its size, sum 1.

    Caruana et al. 2004, "Ensemble Selection from Libraries of Models", sections 2.1 and 2.2: the best member starts,
    then the member is added, again and again, that makes the mean most accurate; of equal ones that with the least log
    loss, which also decides between sizes. The best size within `rounds` is kept, of equal ones the smallest.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    rows = np.arange(len(y))
    total, counts = np.zeros(p.shape[1:]), np.zeros(len(p))
    best, best_rank = counts, (-1.0, -np.inf)
    for size in range(1, rounds + 1):
        ranks = []
        for member in p:
            mean = (total + member) / size
            ranks.append((float(np.mean(mean.argmax(axis=1) == y)), _log_likelihood(mean, rows, y)))
        chosen = max(range(len(p)), key=ranks.__getitem__)
        total, counts = total + p[chosen], counts + np.eye(len(p))[chosen]
        if ranks[chosen] > best_rank:
            best, best_rank = counts, ranks[chosen]
    weights: NDArray[np.float64] = best / best.sum()
    return weights


def _log_likelihood(mean: Matrix, rows: Labels, labels: Labels) -> float:
    return round(float(np.log(np.maximum(mean[rows, labels], 1e-12)).mean()), 12)


def stacking_codes(probabilities: ArrayLike) -> NDArray[np.float32]:
    """Return what a stacking head learns from: the log probabilities of all members side by side, (n, m k)."""
    p = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(np.maximum(p, 1e-6))
    return np.concatenate(list(logs - logs.mean(axis=2, keepdims=True)), axis=1).astype(np.float32)


def reordered(probabilities: ArrayLike, names: Sequence[str], classes: Sequence[str]) -> Matrix:
    """Return probabilities (n, k) with the columns `names` in the order of `classes`, which are the same names.

    >>> reordered([[0.9, 0.1]], ["bee", "ant"], ["ant", "bee"])
    array([[0.1, 0.9]])
    """
    column = {name: number for number, name in enumerate(names)}
    result: Matrix = np.asarray(probabilities, dtype=np.float64)[:, [column[name] for name in classes]]
    return result
