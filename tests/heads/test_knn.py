"""Nearest neighbours against scikit-learn's, and their votes as probabilities."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from tlkit.heads import KNN

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture
def scattered(digits: Set) -> Set:
    """Digits under noise, so that no two distances are equal and neighbours disagree."""
    return digits[0] + np.random.default_rng(0).normal(size=digits[0].shape).astype(np.float32) * 6, digits[1]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("scale", ["standard", "l2"])
def test_equals_grid_search(scattered: Set, scale: str, grouped: bool) -> None:
    codes, labels = scattered
    groups = np.arange(500) // 4 if grouped else None
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(5, shuffle=True, random_state=3)
    first = StandardScaler() if scale == "standard" else Normalizer()
    pipeline = make_pipeline(first, KNeighborsClassifier(algorithm="brute"))
    grid = [30, 4]
    folds = list(splitter.split(codes, labels, groups))
    search = GridSearchCV(pipeline, {"kneighborsclassifier__n_neighbors": grid}, cv=folds)
    search.fit(codes.astype(float), labels)
    head = KNN(k=grid, scale=scale, random_state=3, class_weight=None).fit(codes, labels, groups=groups)
    assert head.cv_results_["k"] == grid
    np.testing.assert_allclose(head.cv_results_["accuracy"], search.cv_results_["mean_test_score"], atol=1e-12)
    assert head.k_ == search.best_params_["kneighborsclassifier__n_neighbors"]


@pytest.mark.parametrize("k", [1, 5, 20])
def test_shares_of_votes_equal_scikit_learns(scattered: Set, more_digits: Set, k: int) -> None:
    reference = KNeighborsClassifier(k).fit(*scattered).predict_proba(more_digits[0])
    scores = KNN(k=k, scale="none", class_weight=None, cv=2).fit(*scattered).decision_function(more_digits[0])
    np.testing.assert_allclose(scores, (reference * k + 0.001) / (k + 0.01), rtol=1e-9)


def test_the_cosine_is_the_order_of_l2(scattered: Set, more_digits: Set) -> None:
    reference = KNeighborsClassifier(7, metric="cosine").fit(*scattered)
    head = KNN(k=7, scale="l2", class_weight=None, cv=2).fit(*scattered)
    np.testing.assert_array_equal(head.predict(more_digits[0]), reference.predict(more_digits[0]))


def test_blocks_of_rows_and_queries_change_nothing(
    scattered: Set, more_digits: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = KNN(k=[3, 9], cv=3).fit(*scattered)
    monkeypatch.setattr("tlkit.heads.knn._QUERIES", 70)
    monkeypatch.setattr("tlkit.heads.rows._BLOCK", 70 * 30)
    found = KNN(k=[3, 9], cv=3).fit(*scattered)
    np.testing.assert_array_equal(found.oof_scores_, expected.oof_scores_)
    np.testing.assert_array_equal(found.predict(more_digits[0]), expected.predict(more_digits[0]))


def test_more_neighbours_than_rows_are_all_rows(digits: Set) -> None:
    rows = np.r_[np.flatnonzero(digits[1] == 1)[:6], np.flatnonzero(digits[1] == 2)[:3]]
    head = KNN(k=1000, cv=3, class_weight=None).fit(digits[0][rows], digits[1][rows])
    assert (head.predict(digits[0]) == 1).all()


def test_a_vote_weighs_what_its_class_does(scattered: Set) -> None:
    scores = [
        KNN(k=9, scale="none", class_weight=weight, cv=2).fit(*scattered).decision_function(scattered[0])
        for weight in (None, {4: 6.0})
    ]
    weighed = scores[0] * np.where(np.arange(10) == 4, 6.0, 1.0)
    np.testing.assert_allclose(scores[1], weighed / weighed.sum(axis=1, keepdims=True), rtol=1e-9)


def test_the_default_grid_is_at_most_half_of_the_rows(digits: Set) -> None:
    assert KNN().fit(*digits).cv_results_["k"] == [100, 50, 20, 10, 5, 3, 1]
    assert KNN().fit(digits[0][:30], digits[1][:30]).cv_results_["k"] == [10, 5, 3, 1]


def test_an_array_that_changes_later_does_not_change_the_head(digits: Set, more_digits: Set) -> None:
    codes = digits[0].copy()
    head = KNN(k=3, scale="none").fit(codes, digits[1])
    expected = head.predict(more_digits[0])
    codes[:] = 0
    np.testing.assert_array_equal(head.predict(more_digits[0]), expected)
