"""The nearest class mean against scikit-learn's NearestCentroid and against its formula."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlkit.heads import Prototype

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture
def scattered(digits: Set) -> Set:
    """Digits under a little noise: NearestCentroid warns of constant columns."""
    return digits[0] + np.random.default_rng(0).normal(size=digits[0].shape).astype(np.float32), digits[1]


@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_predictions_equal_nearest_centroid(scattered: Set, more_digits: Set, scale: str, k: int) -> None:
    codes, labels = scattered[0][scattered[1] < k].astype(float), scattered[1][scattered[1] < k]
    reference = make_pipeline(StandardScaler(), NearestCentroid()) if scale == "standard" else NearestCentroid()
    head = Prototype(scale=scale).fit(codes, labels)
    expected = reference.fit(codes, labels).predict(more_digits[0].astype(float))
    np.testing.assert_array_equal(head.predict(more_digits[0]), expected)


def test_out_of_fold_predictions_equal_cross_val_predict(scattered: Set) -> None:
    codes, labels = scattered
    reference = make_pipeline(StandardScaler(), NearestCentroid())
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_predict(reference, codes.astype(float), labels, cv=folds)
    head = Prototype(random_state=3).fit(codes, labels)
    assert head.oof_scores_ is not None
    np.testing.assert_array_equal(head.oof_scores_.argmax(axis=1), expected)
    assert head.cv_results_.keys() == {"scale", "accuracy", "std"}
    assert head.cv_accuracy_ == np.mean(expected == labels)


@pytest.mark.parametrize("weight", [None, {3: 50.0}])
def test_scores_are_the_formula(digits: Set, more_digits: Set, weight: dict[int, float] | None) -> None:
    codes, labels = digits[0].astype(float), digits[1]
    means = np.array([codes[labels == c].mean(axis=0) for c in range(10)])
    variance = np.mean((codes - means[labels]) ** 2)
    expected = -cdist(more_digits[0].astype(float), means, "sqeuclidean") / (2 * variance)
    expected[:, 3] += np.log(50) if weight else 0
    found = Prototype(scale="none", class_weight=weight).fit(codes, labels).decision_function(more_digits[0])
    np.testing.assert_allclose(found, expected - expected.mean(axis=1, keepdims=True), rtol=1e-4, atol=1e-3)


def test_one_row_a_class_has_no_variance(digits: Set) -> None:
    rows = np.unique(digits[1], return_index=True)[1]
    head = Prototype(scale="none").fit(digits[0][rows], digits[1][rows])
    assert np.isfinite(head.coef_).all()
    assert (head.predict(digits[0][rows]) == digits[1][rows]).all()
