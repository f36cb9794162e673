"""Votes against scikit-learn's VotingClassifier, hand-made ties, and an independent optimiser."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import LabelEncoder

from tlkit.ensembles.voting import greedy_weights, hard, mixture_weights, reordered, soft, stacking_codes

Matrix = NDArray[np.float64]


def random_probabilities(seed: int, m: int, n: int, k: int) -> Matrix:
    drawn: Matrix = np.random.default_rng(seed).dirichlet(np.ones(k), (m, n))
    return drawn


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose probabilities are given, by row number."""

    def __init__(self, table: Matrix) -> None:
        self.table = table

    def fit(self, X: Matrix, y: Any) -> "Given":  # noqa: ANN401
        self.classes_ = np.arange(self.table.shape[1])
        return self

    def predict_proba(self, X: Matrix) -> Matrix:
        rows: Matrix = self.table[X[:, 0].astype(int)]
        return rows

    def predict(self, X: Matrix) -> Any:  # noqa: ANN401
        return self.predict_proba(X).argmax(axis=1)


def sklearn_votes(p: Matrix, voting: str, weights: list[float] | None) -> VotingClassifier:
    vote = VotingClassifier([(str(i), Given(table)) for i, table in enumerate(p)], voting=voting, weights=weights)
    vote.estimators_ = [Given(table).fit(table, None) for table in p]
    vote.le_ = LabelEncoder().fit(np.arange(p.shape[2]))
    vote.classes_ = vote.le_.classes_
    return vote


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 7), k=st.integers(2, 6), weighted=st.booleans())
@settings(deadline=None)
def test_votes_are_those_of_scikit_learn(seed: int, m: int, k: int, weighted: bool) -> None:
    p = random_probabilities(seed, m, 50, k)
    weights = np.random.default_rng(seed + 1).uniform(0.1, 2, m).tolist() if weighted else None
    rows = np.arange(50.0)[:, None]
    np.testing.assert_allclose(soft(p, weights), sklearn_votes(p, "soft", weights).predict_proba(rows), atol=1e-12)
    shares = hard(p, weights)
    best = np.sort(shares, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-5  # scikit-learn gives a tie to the first class
    np.testing.assert_array_equal(shares.argmax(1)[clear], sklearn_votes(p, "hard", weights).predict(rows)[clear])
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("members", "weights", "winner"),
    [
        ([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1]], None, 1),  # one vote each; the sums are 0.6, 1.3, 0.1
        ([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0]], None, 0),  # one vote each; 1.2 to 0.8
        ([[0.0, 0.7, 0.3], [0.0, 0.3, 0.7]], None, 1),  # equal votes and sums: the first
        ([[0.4, 0.3, 0.3], [0.1, 0.5, 0.4], [0.1, 0.4, 0.5]], None, 1),  # three ways; 0.6, 1.2, 1.2: the first of two
        ([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6]], None, 2),  # who cannot decide votes for the first; 0.5, 0.9, 0.6
        ([[1.0, 0.0, 0.0], [0.0, 0.51, 0.49], [0.0, 0.51, 0.49]], None, 1),  # the majority, however unsure
        ([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.1, 0.6, 0.3]], [0.3, 0.1, 0.2], 0),  # 0.3 to 0.1 + 0.2: a tie; .29 .23
        ([[0.55, 0.45, 0.0], [0.0, 0.8, 0.2], [0.1, 0.6, 0.3]], [0.3, 0.1, 0.2], 1),
        ([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], [1.0, 2.0], 1),  # no tie: weights decide
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], None, 0),
    ],
)
def test_a_table_of_ties(members: list[list[float]], weights: list[float] | None, winner: int) -> None:
    p = np.array(members)[:, None]
    shares = hard(p, weights)
    assert shares.argmax() == winner
    assert shares.astype(np.float32).argmax() == winner  # as it is kept
    assert (shares >= 0).all()


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(2, 6))
@settings(deadline=None, max_examples=20)
def test_the_order_of_members_does_not_matter(seed: int, m: int) -> None:
    p = random_probabilities(seed, m, 40, 3)
    weights = np.random.default_rng(seed).uniform(0.1, 1, m)
    order = np.random.default_rng(seed).permutation(m)
    for vote in (soft, hard):
        np.testing.assert_allclose(vote(p, weights), vote(p[order], weights[order]), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_mixture_weights_are_the_optimum(seed: int) -> None:
    p = random_probabilities(seed, 4, 200, 3)
    y = np.random.default_rng(seed).integers(0, 3, 200)
    p[1] = 0.7 * p[1] + 0.3 * np.eye(3)[y]  # one that knows something
    rows = np.arange(200)

    def loss(weights: Matrix) -> float:
        return float(-np.log(weights @ p[:, rows, y]).mean())

    start = np.full(4, 0.25)
    reference: Any = minimize(  # type: ignore[call-overload]
        loss, start, bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}
    )
    found = mixture_weights(p, y)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert loss(found) <= reference.fun + 1e-8


def test_greedy_selection_by_hand() -> None:
    """Two members that are right about different images complete each other; the third is worse than chance."""
    y = np.array([0, 0, 1, 1])
    a = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]
    b = [[0.45, 0.55], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]]
    c = [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]
    weights = greedy_weights([a, b, c], y)
    assert weights[2] == 0
    assert weights[0] > 0
    assert weights[1] > 0
    assert (soft([a, b, c], weights).argmax(1) == y).all()
    assert greedy_weights([a, c], y, rounds=1).tolist() == [1, 0]


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_greedy_selection_is_never_worse_than_the_best_member(seed: int) -> None:
    p, y = random_probabilities(seed, 4, 60, 3), np.random.default_rng(seed).integers(0, 3, 60)
    own = (p.argmax(2) == y).mean(axis=1).max()
    assert (soft(p, greedy_weights(p, y)).argmax(1) == y).mean() >= own


def test_what_stacking_learns_from() -> None:
    p = random_probabilities(0, 3, 5, 4)
    p[0, 0] = [1, 0, 0, 0]
    codes = stacking_codes(p)
    assert codes.shape == (5, 12)
    assert codes.dtype == np.float32
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes.reshape(5, 3, 4).sum(axis=2), 0, atol=1e-4)


@given(names=st.lists(st.text(min_size=1), min_size=2, max_size=12, unique=True), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=1000)
def test_names_are_never_misaligned(names: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    order = random.permutation(len(names)).tolist()
    p = random.dirichlet(np.ones(len(names)), 3)
    shuffled = reordered(p, names, [names[i] for i in order])
    for row in range(3):
        assert {names[i]: p[row, i] for i in range(len(names))} == {
            names[i]: shuffled[row, place] for place, i in enumerate(order)
        }
