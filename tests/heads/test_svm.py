"""The linear SVM against scikit-learn's pipeline of StandardScaler and LinearSVC, alone and in GridSearchCV."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight

from tlkit.heads import LinearSVM
from tlkit.heads.selection import make_folds

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
Matrix = NDArray[np.float64]
GRID = [1e-6, 1e-4, 1e-3, 1e-2]


def pipeline(C: float = 1.0, class_weight: str | dict[int, float] | None = None) -> Pipeline:
    svm = LinearSVC(C=C, class_weight=class_weight, dual=True, tol=1e-8, max_iter=10**6, random_state=0)
    return make_pipeline(StandardScaler(), svm)


def objective(scores: Matrix, squares: Matrix, labels: NDArray[np.int64], C: float, weights: Matrix) -> Matrix:
    """LinearSVC's, of each one-vs-rest problem (of two classes: of the only one); squares are those of the weights."""
    k = len(weights)
    sign = np.where(labels[:, None] == np.arange(k)[-scores.shape[1] :], 1.0, -1.0)
    cost = np.where(sign > 0, weights[-scores.shape[1] :], weights[0] if k == 2 else 1.0)
    loss: Matrix = squares / 2 + C * (cost * np.maximum(1 - sign * scores, 0) ** 2).sum(axis=0)
    return loss


@pytest.mark.parametrize("weight", [None, "balanced", {1: 4.0}])
@pytest.mark.parametrize("k", [2, 10])
def test_the_objective_is_that_of_the_pipeline(digits: Set, k: int, weight: str | dict[int, float] | None) -> None:
    rows = (digits[1] < k) & ((digits[1] > 0) | (np.arange(500) % 4 == 0))  # fewer zeros, so that weights matter
    codes, labels = digits[0][rows].astype(float), digits[1][rows]
    weights = compute_class_weight(weight, classes=np.arange(k), y=labels)
    for C in (1e-4, 0.1):
        scaler, svm = pipeline(C=C, class_weight=weight).fit(codes, labels)
        head = LinearSVM(C=C, class_weight=weight, cv=2).fit(codes, labels)
        w = (head.coef_ * scaler.scale_)[-len(svm.coef_) :]
        b = (head.intercept_ + head.coef_ @ scaler.mean_)[-len(svm.coef_) :]
        scaled = scaler.transform(codes)
        ours = objective(scaled @ w.T + b, (w**2).sum(axis=1) + b**2, labels, C, weights)
        squares = (svm.coef_**2).sum(axis=1) + svm.intercept_**2
        theirs = objective(scaled @ svm.coef_.T + svm.intercept_, squares, labels, C, weights)
        assert (ours <= theirs * (1 + 1e-4)).all()
        expected = svm.decision_function(scaled)
        np.testing.assert_allclose(head.decision_function(codes), expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("grouped", [False, True])
def test_equals_grid_search(digits: Set, k: int, weighted: bool, grouped: bool) -> None:
    codes, labels = digits[0][digits[1] < k], digits[1][digits[1] < k]
    weight = {label: 1 + label / 2 for label in range(k)} if weighted else None
    groups = np.arange(len(labels)) // 4 if grouped else None
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(5, shuffle=True, random_state=3)
    folds = list(splitter.split(codes, labels, groups))
    search = GridSearchCV(pipeline(class_weight=weight), {"linearsvc__C": GRID}, cv=folds)
    search.fit(codes.astype(np.float64), labels)
    head = LinearSVM(C=GRID, class_weight=weight, random_state=3).fit(codes, labels, groups=groups)
    assert head.cv_results_["C"] == GRID
    assert head.cv_results_["scale"] == ["standard"] * 4
    one = 1 / len(labels)  # a row may fall on the other side within the tolerance of the solver
    np.testing.assert_allclose(head.cv_results_["accuracy"], search.cv_results_["mean_test_score"], atol=1.01 * one)
    np.testing.assert_allclose(head.cv_results_["std"], search.cv_results_["std_test_score"], atol=5 * one)
    chosen = GRID.index(head.C_)
    assert search.cv_results_["mean_test_score"][chosen] >= search.best_score_ - 2.01 * one


def test_the_scaling_is_fitted_inside_the_fold() -> None:
    """A row that is far off: had the scaling seen it, the scores of its fold would be known other numbers."""
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
            np.testing.assert_allclose(head.oof_scores_[test, 1], expected, rtol=0.02, atol=0.02)


def test_constant_columns_do_not_matter(digits: Set) -> None:
    codes, labels = digits
    plain = LinearSVM(C=0.01).fit(codes, labels)
    wider = np.hstack([codes, np.full((len(codes), 2), 7.3, dtype=np.float32)])
    padded = LinearSVM(C=0.01).fit(wider, labels)
    np.testing.assert_allclose(padded.decision_function(wider), plain.decision_function(codes), atol=0.02)


def test_equal_accuracies_go_to_the_smaller_C() -> None:
    labels = np.arange(40) % 2
    codes = np.column_stack([labels * 10.0, labels * -10.0])
    head = LinearSVM(C=[10.0, 0.1, 1.0, 1.0]).fit(codes, labels)
    assert head.cv_results_["accuracy"] == [1.0, 1.0, 1.0]
    assert head.cv_results_["C"] == [0.1, 1.0, 10.0]
    assert head.C_ == 0.1


def test_the_temperature_comes_from_out_of_fold_scores(digits: Set) -> None:
    """On its own training rows an SVM with little regularisation is always right; a temperature from them is 0."""
    codes = digits[0] + np.random.default_rng(1).normal(size=digits[0].shape) * 6
    head = LinearSVM(C=10.0).fit(codes, digits[1])
    assert head.score(codes, digits[1]) > 0.95
    assert head.cv_accuracy_ is not None
    assert head.cv_accuracy_ < 0.85
    assert head.predict_proba(codes).max(axis=1).mean() == pytest.approx(head.cv_accuracy_, abs=0.12)


def test_convergence_is_reported(digits: Set) -> None:
    convergence = LinearSVM(C=[1e-4, 1e-3], cv=3, scale="auto").fit(*digits).convergence_
    assert convergence["converged"] is True
    assert convergence["steps"] >= 1
    assert 0 <= convergence["gradient"] < 1e-2
    assert (convergence["search_fits"], convergence["search_unconverged"]) == (24, 0)


@pytest.mark.parametrize("scale", ["standard", "none", "l2", "power"])
def test_the_default_grid_encloses_the_best_C(digits: Set, scale: str) -> None:
    head = LinearSVM(scale=scale).fit(*digits)
    assert min(head.cv_results_["C"]) < head.C_ < max(head.cv_results_["C"])
