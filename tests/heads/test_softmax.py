"""Softmax regression against scikit-learn's pipeline of StandardScaler and LogisticRegression."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from tlkit.heads import SoftmaxRegression

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.mark.parametrize("weight", [None, "balanced", {1: 4.0}])
@pytest.mark.parametrize("k", [2, 10])
def test_the_objective_is_that_of_the_pipeline(digits: Set, k: int, weight: str | dict[int, float] | None) -> None:
    rows = (digits[1] < k) & ((digits[1] > 0) | (np.arange(500) % 4 == 0))  # fewer zeros, so that weights matter
    codes, labels = digits[0][rows].astype(float), digits[1][rows]
    weights = compute_class_weight(weight, classes=np.arange(k), y=labels)[labels]
    for C in (1e-4, 1e-1):
        logistic = LogisticRegression(C=C, class_weight=weight, tol=1e-9, max_iter=10**4)
        scaler, _ = make_pipeline(StandardScaler(), logistic).fit(codes, labels)
        head = SoftmaxRegression(C=C, class_weight=weight, cv=2).fit(codes, labels)
        scaled = scaler.transform(codes)
        w, b = head.coef_ * scaler.scale_, head.intercept_ + head.coef_ @ scaler.mean_
        penalty = np.sum((w[1] - w[0]) ** 2 if k == 2 else w**2) / 2  # of two classes one row is penalised
        ours = log_loss(labels, softmax(scaled @ w.T + b, axis=1), sample_weight=weights, normalize=False)
        theirs = log_loss(labels, logistic.predict_proba(scaled), sample_weight=weights, normalize=False)
        assert penalty + C * ours <= (np.sum(logistic.coef_**2) / 2 + C * theirs) * (1 + 1e-4)
        expected = logistic.predict_proba(scaled)
        np.testing.assert_allclose(softmax(scaled @ w.T + b, axis=1), expected, atol=0.01)


def test_equals_grid_search(digits: Set) -> None:
    grid = [1e-3, 1e-2, 1.0]
    logistic = LogisticRegression(tol=1e-8, max_iter=10**4)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    search = GridSearchCV(make_pipeline(StandardScaler(), logistic), {"logisticregression__C": grid}, cv=folds)
    search.fit(digits[0].astype(float), digits[1])
    head = SoftmaxRegression(C=grid, random_state=3).fit(*digits)
    # A row may fall on the other side within the tolerance of the solver.
    np.testing.assert_allclose(head.cv_results_["accuracy"], search.cv_results_["mean_test_score"], atol=1.01 / 500)
    chosen = grid.index(head.C_)
    assert search.cv_results_["mean_test_score"][chosen] >= search.best_score_ - 2.01 / 500


def test_it_needs_little_calibration(digits: Set) -> None:
    head = SoftmaxRegression().fit(*digits)
    assert 0.5 < head.temperature_ < 2
    assert head.convergence_["converged"] is True


@pytest.mark.parametrize("scale", ["standard", "none", "l2", "power"])
def test_the_default_grid_encloses_the_best_C(digits: Set, scale: str) -> None:
    head = SoftmaxRegression(scale=scale).fit(*digits)
    assert min(head.cv_results_["C"]) < head.C_ < max(head.cv_results_["C"])
