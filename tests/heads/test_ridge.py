"""Ridge against scikit-learn's RidgeClassifier and RidgeCV, and against refits without each row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as Reference
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlkit.heads import Ridge

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
Matrix = NDArray[np.float64]
GRID = [0.1, 10.0, 1e3, 1e5]


def imbalanced(digits: Set, k: int, wide: bool) -> tuple[Matrix, NDArray[np.int64]]:
    """Fewer zeros than others, and either more rows than columns or fewer."""
    codes, labels = digits
    rows = (labels < k) & ((labels > 0) | (np.arange(500) % 4 == 0))
    rows &= np.arange(500) < (30 if wide and k > 2 else 200 if wide else 500)
    return codes[rows].astype(float), labels[rows]


@pytest.mark.parametrize("weight", [None, "balanced", {1: 5.0}])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_decisions_equal_ridge_classifier(
    digits: Set, k: int, wide: bool, weight: str | dict[int, float] | None, scale: str
) -> None:
    codes, labels = imbalanced(digits, k, wide)
    assert (len(codes) < 64) == wide
    for alpha in (1.0, 300.0):
        plain = RidgeClassifier(alpha=alpha, class_weight=weight)
        reference = make_pipeline(StandardScaler(), plain) if scale == "standard" else plain
        expected = reference.fit(codes, labels).decision_function(digits[0].astype(float))
        head = Ridge(alpha=alpha, class_weight=weight, scale=scale, cv=2).fit(codes, labels)
        np.testing.assert_allclose(head.decision_function(digits[0]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_leave_one_out_equals_refits(digits: Set, wide: bool, weighted: bool) -> None:
    codes, labels = imbalanced(digits, 10 if wide else 3, wide)
    k = int(labels.max()) + 1
    weights = np.linspace(0.5, 3, k) if weighted else np.ones(k)
    head = Ridge(alpha=50.0, class_weight=dict(enumerate(weights))).fit(codes, labels)
    assert head.oof_scores_ is not None
    targets = np.where(labels[:, None] == np.arange(k), 1.0, -1.0)
    for row in range(0, len(codes), 3):
        rest = np.arange(len(codes)) != row
        refit = Reference(alpha=50.0).fit(codes[rest], targets[rest], sample_weight=weights[labels[rest]])
        expected = refit.predict(codes[row : row + 1])[0]
        known = np.isfinite(head.oof_scores_[row])
        np.testing.assert_allclose(head.oof_scores_[row][known], expected[known], atol=1e-4)
        assert known.sum() == k - (np.sum(labels == labels[row]) == 1)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("k", [2, 10])
def test_leave_one_out_chooses_as_ridge_classifier_cv_does(digits: Set, k: int, wide: bool) -> None:
    codes, labels = imbalanced(digits, k, wide)
    labels = np.unique(labels, return_inverse=True)[1]
    head = Ridge(alpha=GRID, class_weight=None).fit(codes, labels)
    # Of several outputs it can only tell the error of each; of two classes there is one output.
    reference = RidgeClassifierCV(alphas=GRID, scoring="accuracy" if k == 2 else None, store_cv_results=k > 2)
    reference.fit(codes, labels)
    if k == 2:
        assert max(head.cv_results_["accuracy"]) == pytest.approx(reference.best_score_)
        assert reference.alpha_ in np.array(GRID)[::-1][np.isclose(head.cv_results_["accuracy"], reference.best_score_)]
        return
    targets = np.where(labels[:, None] == np.arange(labels.max() + 1), 1.0, -1.0)
    for place, alpha in enumerate(GRID):
        scores = Ridge(alpha=alpha, class_weight=None).fit(codes, labels).oof_scores_
        assert scores is not None
        known = np.isfinite(scores)
        squares = (np.where(known, scores, 0) - targets) ** 2
        np.testing.assert_allclose(squares[known], reference.cv_results_[:, :, place][known], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("k", [2, 10])
def test_folds_with_the_scaling_inside_equal_grid_search(digits: Set, k: int) -> None:
    codes, labels = digits[0][digits[1] < k].astype(float), digits[1][digits[1] < k]
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier())
    search = GridSearchCV(pipeline, {"ridgeclassifier__alpha": GRID[::-1]}, cv=folds).fit(codes, labels)
    head = Ridge(alpha=GRID, scale="standard", random_state=3).fit(codes, labels)
    assert head.cv_results_["alpha"] == GRID[::-1]
    np.testing.assert_allclose(head.cv_results_["accuracy"], search.cv_results_["mean_test_score"], atol=1e-12)
    np.testing.assert_allclose(head.cv_results_["std"], search.cv_results_["std_test_score"], atol=1e-12)
    assert head.alpha_ == search.best_params_["ridgeclassifier__alpha"]


def test_grouped_rows_are_never_left_out_alone(digits: Set) -> None:
    groups = np.arange(500) // 5
    grouped = Ridge(alpha=1.0).fit(*digits, groups=groups)
    alone = Ridge(alpha=1.0).fit(*digits)
    assert grouped.cv_results_["std"][0] != pytest.approx(alone.cv_results_["std"][0])
    accuracy = alone.cv_results_["accuracy"][0]
    assert alone.cv_results_["std"][0] == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 500))


@pytest.mark.parametrize("scale", ["standard", "none", "l2", "power"])
def test_the_default_grid_encloses_the_best_alpha(digits: Set, scale: str) -> None:
    head = Ridge(scale=scale).fit(*digits)
    assert len(head.cv_results_["alpha"]) == 8
    assert head.cv_results_["alpha"] == sorted(head.cv_results_["alpha"], reverse=True)
    assert min(head.cv_results_["alpha"]) < head.alpha_ < max(head.cv_results_["alpha"])


@given(n=st.integers(4, 30), d=st.integers(1, 30), seed=st.integers(0, 99), offset=st.sampled_from([0, 1e3, 1e5]))
@settings(deadline=None, max_examples=30)
def test_any_shape_and_offset(n: int, d: int, seed: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    codes = random.normal(size=(n, d))
    labels = np.arange(n) % 2
    head = Ridge(alpha=1.0, class_weight=None, cv=2).fit(codes + offset, labels)
    expected = RidgeClassifier(alpha=1.0).fit(codes, labels).decision_function(codes)
    found = codes @ head.coef_[1].astype(float)
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-4)


def test_both_eigensolvers_agree(digits: Set, more_digits: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Ridge(alpha=10.0).fit(*digits).decision_function(more_digits[0])
    monkeypatch.setattr("tlkit.heads.ridge._TORCH_PAYS", 0)
    np.testing.assert_allclose(
        Ridge(alpha=10.0).fit(*digits).decision_function(more_digits[0]), expected, rtol=1e-5, atol=1e-5
    )
