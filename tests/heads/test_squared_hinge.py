"""The solver against liblinear and against the optimality condition itself."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from tlkit.heads.squared_hinge import minimise, principal_axes

Matrix = NDArray[np.float64]


def problem(n: int, d: int, m: int, seed: int) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(seed)
    data = random.normal(size=(n, d)) * random.lognormal(size=d)
    return data, np.where(data @ random.normal(size=(d, m)) + random.normal(size=(n, m)) > 0, 1.0, -1.0)


def solve(data: Matrix, signs: Matrix, costs: Matrix) -> Matrix:
    axes = principal_axes(data)
    solution: Matrix = axes.vectors @ minimise(axes, signs, costs, np.zeros((axes.spread.size, signs.shape[1])))
    return solution


def gradient(data: Matrix, signs: Matrix, costs: Matrix, weights: Matrix) -> Matrix:
    slack = np.maximum(1 - signs * (data @ weights), 0)
    slope: Matrix = weights - 2 * data.T @ (costs * signs * slack)
    return slope


@given(
    n=st.integers(1, 60), d=st.integers(1, 60), m=st.integers(1, 4), power=st.floats(-6, 3), seed=st.integers(0, 999)
)
@settings(deadline=None, max_examples=150)
def test_the_gradient_vanishes(n: int, d: int, m: int, power: float, seed: int) -> None:
    data, signs = problem(n, d, m, seed)
    costs = 10**power * np.random.default_rng(seed).uniform(0.2, 5, size=signs.shape)
    weights = solve(data, signs, costs)
    distance = np.linalg.norm(gradient(data, signs, costs, weights), axis=0)
    assert (distance <= 1e-5 * np.linalg.norm(weights, axis=0)).all()


@pytest.mark.parametrize(("n", "d"), [(80, 20), (30, 90)])
@pytest.mark.parametrize("C", [1e-5, 1e-2, 1.0])
def test_equals_liblinear(n: int, d: int, C: float) -> None:
    data, signs = problem(n, d, 1, seed=3)
    reference = LinearSVC(C=C, tol=1e-9, fit_intercept=False, dual=False, max_iter=10**4)
    expected = reference.fit(data, signs[:, 0]).coef_[0]
    np.testing.assert_allclose(solve(data, signs, np.full_like(signs, C))[:, 0], expected, rtol=1e-4, atol=1e-7)


def test_both_inner_solvers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data, signs = problem(120, 40, 3, seed=5)
    costs = np.full_like(signs, 0.1)
    found = []
    for worth in (0.0, np.inf):  # always by conjugate gradients, always exactly
        monkeypatch.setattr("tlkit.heads.squared_hinge._INNER_WORTH", worth)
        found.append(solve(data, signs, costs))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-8)
    assert not np.array_equal(found[0], found[1])


def test_one_problem_does_not_depend_on_the_others() -> None:
    data, signs = problem(100, 30, 4, seed=7)
    costs = np.full_like(signs, 0.01)
    alone = np.hstack([solve(data, signs[:, [column]], costs[:, [column]]) for column in range(4)])
    np.testing.assert_allclose(solve(data, signs, costs), alone, rtol=1e-5, atol=1e-8)


@given(n=st.integers(1, 30), d=st.integers(1, 30), seed=st.integers(0, 99), duplicated=st.booleans())
@settings(deadline=None)
def test_principal_axes_only_rotate(n: int, d: int, seed: int, duplicated: bool) -> None:
    data = problem(n, d, 1, seed)[0]
    if duplicated:
        data = np.vstack([data, data])
    axes = principal_axes(data)
    rank = axes.spread.size
    assert rank <= min(n, d)
    np.testing.assert_allclose(axes.codes @ axes.vectors.T, data, atol=1e-6 * np.abs(data).max())
    np.testing.assert_allclose(axes.vectors.T @ axes.vectors, np.eye(rank), atol=1e-3)
    np.testing.assert_allclose((axes.codes**2).sum(axis=0), axes.spread, rtol=1e-3)


@pytest.mark.parametrize("C", [1e8, 1e12])
def test_a_penalty_that_all_but_vanishes_ends(C: float) -> None:
    data, signs = problem(60, 10, 2, seed=11)
    weights: Any = solve(data, signs, np.full_like(signs, C))
    assert np.isfinite(weights).all()
