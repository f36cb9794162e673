"""The temperature against scipy's general minimiser and against what it is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tlkit.heads.calibration import fit_temperature, probabilities

Matrix = NDArray[np.float64]


def scored(n: int, k: int, sharpness: float, seed: int) -> tuple[Matrix, NDArray[np.int64]]:
    """Labels drawn from the softmax of sharpness * scores: the right temperature is 1 / sharpness."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, k))
    noise = random.gumbel(size=(n, k))
    return scores, (sharpness * scores + noise).argmax(axis=1)


def loss(scores: Matrix, labels: NDArray[np.int64], temperature: float) -> float:
    """The documented objective: log loss with labels softened by one part in n + 1."""
    logs = log_softmax(scores / temperature, axis=1)
    share = 1 / (len(labels) + 1)
    return float(-((1 - share) * logs[np.arange(len(labels)), labels] + share * logs.mean(axis=1)).mean())


@given(
    n=st.integers(20, 200),
    k=st.integers(2, 12),
    power=st.floats(-1, 1),
    scale=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_equals_scipys_optimum(n: int, k: int, power: float, scale: float, seed: int) -> None:
    scores, labels = scored(n, k, 10**power, seed)
    scores = scores * 10**scale
    ours = fit_temperature(scores, labels)
    middle = scale * np.log(10)
    result = minimize_scalar(
        lambda x: loss(scores, labels, float(np.exp(x))),
        bounds=(middle - np.log(1e4), middle + np.log(1e4)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert loss(scores, labels, ours) <= result.fun + 1e-12
    if abs(result.x - middle) < np.log(100):  # the loss is flat beyond
        assert ours == pytest.approx(np.exp(result.x), rel=1e-4)


def test_finds_the_true_temperature() -> None:
    scores, labels = scored(200_000, 5, 4.0, seed=1)
    assert fit_temperature(scores, labels) == pytest.approx(0.25, rel=0.02)


def test_two_symmetric_classes_are_a_sigmoid() -> None:
    score = np.linspace(-5, 5, 11)
    found = probabilities(np.column_stack([-score, score]), 0.7)[:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-2 * score / 0.7)), rtol=1e-12)


def test_scores_that_are_never_wrong_stay_short_of_certainty() -> None:
    scores = np.array([[1.0, -1.0]] * 10 + [[-1.0, 1.0]] * 10)
    labels = np.repeat([0, 1], 10)
    found = probabilities(scores, fit_temperature(scores, labels))
    # Softened labels: 1 - 1/21 of each row's own class and half of 1/21 of either.
    np.testing.assert_allclose(found.max(axis=1), 1 - 0.5 / 21, rtol=1e-9)


def test_misleading_scores_end_in_even_odds() -> None:
    scores, labels = scored(300, 4, 5.0, seed=2)
    found = probabilities(-scores, fit_temperature(-scores, labels))
    np.testing.assert_allclose(found, 0.25, atol=1e-4)


def test_classes_missing_in_a_fold() -> None:
    scores, labels = scored(300, 4, 2.0, seed=3)
    expected = fit_temperature(scores, labels)
    scores_more = np.vstack([scores, np.full((5, 4), -np.inf)])
    scores_more[-5:, 0] = [3.0, 1.0, 0.0, -1.0, 2.0]
    assert fit_temperature(scores_more, np.append(labels, [1] * 5)) == expected  # nothing to learn from those rows
    scores[labels != 3, 3] = -np.inf
    assert np.isfinite(fit_temperature(scores, labels))


@pytest.mark.parametrize("scores", [np.zeros((3, 2)), np.full((3, 2), [-np.inf, 1.0]), np.empty((0, 2))])
def test_without_evidence_the_temperature_is_one(scores: Matrix) -> None:
    assert fit_temperature(scores, np.zeros(len(scores), dtype=np.int64)) == 1.0
