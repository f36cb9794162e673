"""Affine maps against scikit-learn's pipeline of StandardScaler and LinearSVC."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tlkit.heads.affine import Scale, affine_path

Matrix = NDArray[np.float64]


def ours(codes: Matrix, labels: NDArray[np.int64], C: float, *, scale: Scale, balanced: bool) -> tuple[Matrix, Matrix]:
    ((coef, intercept),) = affine_path(codes, labels, int(labels.max()) + 1, [C], scale=scale, balanced=balanced)
    return coef, intercept


def theirs(codes: Matrix, labels: NDArray[np.int64], C: float, *, scale: Scale, balanced: bool) -> Matrix:
    weight = "balanced" if balanced else None
    svm = LinearSVC(C=C, class_weight=weight, tol=1e-9, dual=True, max_iter=10**6, random_state=0)
    pipeline = make_pipeline(StandardScaler(), svm) if scale == "standard" else make_pipeline(svm)
    scores: Matrix = pipeline.fit(codes, labels).decision_function(codes)
    return scores


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("scale", ["standard", "none"])
@pytest.mark.parametrize("C", [1e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("k", [2, 3, 10])
def test_scores_equal_the_pipeline(
    digits: tuple[Matrix, NDArray[np.int64]], k: int, C: float, scale: Scale, balanced: bool
) -> None:
    codes, labels = digits
    rows = (labels < k) & ((labels > 0) | (np.arange(len(labels)) % 4 == 0))  # fewer zeros, so that weights matter
    codes, labels = codes[rows].astype(np.float64), labels[rows]
    coef, intercept = ours(codes, labels, C, scale=scale, balanced=balanced)
    scores = codes @ coef.T + intercept
    expected = theirs(codes, labels, C, scale=scale, balanced=balanced)
    np.testing.assert_allclose(scores[:, 1] if k == 2 else scores, expected, atol=1e-4)
    if k == 2:
        np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])


@given(
    shift=st.floats(-100, 100), stretch=st.floats(0.01, 100), constant=st.floats(-1e3, 1e3), seed=st.integers(0, 999)
)
@settings(deadline=None, max_examples=50)
def test_the_scaling_is_folded_in(shift: float, stretch: float, constant: float, seed: int) -> None:
    """Fitted on moved and stretched codes, the map gives them the scores that the original codes have."""
    random = np.random.default_rng(seed)
    labels = np.arange(30) % 3
    codes = random.normal(size=(30, 5)) + labels[:, None]
    codes[:, 4] = constant
    moved = codes * stretch + shift
    scores = [
        data @ coef.T + intercept
        for data in (codes, moved)
        for coef, intercept in [ours(data, labels, 0.1, scale="standard", balanced=False)]
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_a_path_equals_separate_fits(digits: tuple[Matrix, NDArray[np.int64]]) -> None:
    codes, labels = digits
    grid = [1e-4, 1e-2, 1.0]
    path = list(affine_path(codes, labels, 10, grid, scale="standard", balanced=False))
    for C, (coef, intercept) in zip(grid, path, strict=True):
        alone, offset = ours(codes, labels, C, scale="standard", balanced=False)
        np.testing.assert_allclose(codes @ coef.T + intercept, codes @ alone.T + offset, atol=1e-4)


@pytest.mark.parametrize("present", [[0], [0, 2], [0, 2, 3]])
def test_a_class_without_rows_scores_lowest(digits: tuple[Matrix, NDArray[np.int64]], present: list[int]) -> None:
    codes, labels = digits
    rows = np.isin(labels, present)
    ((coef, intercept),) = affine_path(codes[rows], labels[rows], 5, [0.01], scale="standard", balanced=True)
    scores = codes @ coef.T + intercept
    missing = np.setdiff1d(range(5), present)
    assert (scores[:, missing] == -np.inf).all()
    assert np.isfinite(scores[:, present]).all()
    assert np.mean(scores[rows].argmax(axis=1) == labels[rows]) > 0.98
