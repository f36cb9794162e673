"""Cross-validation against GridSearchCV on the same folds, and awkward classes and groups."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tlkit.heads import LinearSVM
from tlkit.heads.selection import default_grid, make_folds

Rows = NDArray[np.int64]
Matrix = NDArray[np.float64]
Set = tuple[NDArray[np.float32], Rows]
GRID = [1e-6, 1e-4, 1e-3, 1e-2]


def reference(codes: Matrix, labels: Rows, folds: list[tuple[Rows, Rows]], class_weight: str | None) -> GridSearchCV:
    svm = LinearSVC(dual=True, tol=1e-8, max_iter=10**6, random_state=0, class_weight=class_weight)
    pipeline = make_pipeline(StandardScaler(), svm)
    return GridSearchCV(pipeline, {"linearsvc__C": GRID}, cv=folds).fit(codes, labels)


@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("grouped", [False, True])
def test_equals_grid_search(digits: Set, k: int, weight: Literal["balanced"] | None, grouped: bool) -> None:
    codes, labels = digits[0][digits[1] < k], digits[1][digits[1] < k]
    groups = np.arange(len(labels)) // 4 if grouped else None
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(5, shuffle=True, random_state=3)
    search = reference(codes.astype(np.float64), labels, list(splitter.split(codes, labels, groups)), weight)
    head = LinearSVM(C=GRID, class_weight=weight, random_state=3).fit(codes, labels, groups=groups)
    assert head.cv_results_["C"] == GRID
    np.testing.assert_allclose(head.cv_results_["accuracy"], search.cv_results_["mean_test_score"], atol=1e-12)
    np.testing.assert_allclose(head.cv_results_["std"], search.cv_results_["std_test_score"], atol=1e-12)
    assert pytest.approx(head.C_) == search.best_params_["linearsvc__C"]


def test_the_scaling_is_fitted_inside_the_fold() -> None:
    """A column that is 0 but for one row: had the scaling seen that row, its score would be a known other number."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    codes = random.normal(size=(40, 2)) + labels[:, None]
    codes[7] *= 1e6
    head = LinearSVM(C=0.1, cv=4).fit(codes, labels)
    assert head.oof_scores_ is not None
    for train, test in make_folds(labels, None, 4, 0):
        if 7 in test:
            alone = make_pipeline(StandardScaler(), LinearSVC(C=0.1, tol=1e-10, max_iter=10**6))
            expected = alone.fit(codes[train], labels[train]).decision_function(codes[test])
            np.testing.assert_allclose(head.oof_scores_[test, 1], expected, rtol=1e-4, atol=1e-4)


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    cv=st.integers(2, 6),
    grouped=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_any_classes_and_groups_work(counts: list[int], cv: int, grouped: int | None, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    codes = random.normal(size=(len(labels), 3)) + 3 * labels[:, None]
    groups = None if grouped is None else random.integers(grouped, size=len(labels))
    folds = make_folds(labels, groups, cv, seed)
    for train, test in folds:
        assert groups is None or not set(groups[train]) & set(groups[test])
    if folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(labels)))
    head = LinearSVM(cv=cv, random_state=seed).fit(codes, labels, groups=groups)
    assert np.isfinite(head.predict_proba(codes)).all()
    assert (head.cv_accuracy_ is None) == (not folds)
    assert folds or max(counts) == 1 or groups is not None


def test_a_class_with_one_row_is_learned_but_never_found_out_of_fold(digits: Set) -> None:
    codes, labels = digits
    rows = np.concatenate([np.flatnonzero(labels < 3), np.flatnonzero(labels == 9)[:1]])
    head = LinearSVM().fit(codes[rows], labels[rows])
    assert head.predict(codes[rows[-1:]]) == [9]
    assert head.oof_scores_ is not None
    assert head.oof_scores_[-1, 3] == -np.inf
    assert head.cv_accuracy_ is not None
    assert 0.9 < head.cv_accuracy_ < 1


def test_one_row_a_class_takes_the_strongest_regularisation(digits: Set) -> None:
    codes, labels = digits
    rows = np.unique(labels, return_index=True)[1]
    head = LinearSVM(C=[1e-4, 1.0]).fit(codes[rows], labels[rows])
    assert (head.C_, head.temperature_, head.cv_accuracy_, head.oof_scores_) == (1e-4, 1.0, None, None)
    assert head.cv_results_ == {"C": [], "accuracy": [], "std": []}
    assert (head.predict(codes[rows]) == labels[rows]).all()


def test_equal_accuracies_go_to_the_smaller_C() -> None:
    labels = np.arange(40) % 2
    codes = np.column_stack([labels * 10.0, labels * -10.0])
    head = LinearSVM(C=[10.0, 0.1, 1.0]).fit(codes, labels)
    assert head.cv_results_["accuracy"] == [1.0, 1.0, 1.0]
    assert head.cv_results_["C"] == [0.1, 1.0, 10.0]
    assert head.C_ == 0.1


@given(stretch=st.integers(-4, 4), width=st.integers(1, 50))
@settings(deadline=None)
def test_the_default_grid_follows_the_squared_length(stretch: int, width: int) -> None:
    codes = np.random.default_rng(width).normal(size=(20, width))
    plain, stretched = default_grid(codes, "none"), default_grid(codes * 10.0**stretch, "none")
    np.testing.assert_allclose(np.array(plain) * 100.0**-stretch, stretched, rtol=1e-9)
    assert default_grid(codes, "standard") == default_grid(codes * 10.0**stretch, "standard")


def test_the_default_grid_of_empty_codes() -> None:
    assert default_grid(np.zeros((4, 3), dtype=np.float32), "none")[3] == 1.0


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_the_default_grid_encloses_the_best_C(digits: Set, scale: Literal["standard", "none"]) -> None:
    head = LinearSVM(scale=scale).fit(*digits)
    assert min(head.cv_results_["C"]) < head.C_ < max(head.cv_results_["C"])
