"""The estimator: probabilities, settings, errors, scikit-learn's own checks."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from tlkit.errors import TlkitError, UsageError
from tlkit.heads import LinearSVM, UnusableCodesError

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
KNOWN = {"check_class_weight_classifiers": "a dict of weights is no setting of ours"}


@parametrize_with_checks([LinearSVM()], expected_failed_checks=lambda estimator: KNOWN)  # type: ignore[untyped-decorator]
def test_scikit_learns_checks(estimator: LinearSVM, check: Callable[[LinearSVM], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("k", [2, 10])
def test_decisions_equal_the_pipeline(digits: Set, more_digits: Set, k: int) -> None:
    codes, labels = digits[0][digits[1] < k], digits[1][digits[1] < k]
    svm = LinearSVC(C=0.005, dual=True, tol=1e-9, max_iter=10**6, random_state=0)
    reference = make_pipeline(StandardScaler(), svm).fit(codes.astype(float), labels)
    head = LinearSVM(C=0.005).fit(codes, labels)
    expected = reference.decision_function(more_digits[0].astype(float))
    np.testing.assert_allclose(head.decision_function(more_digits[0]), expected, atol=1e-4)
    np.testing.assert_array_equal(head.predict(more_digits[0]), reference.predict(more_digits[0].astype(float)))


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_three_answers_agree(digits: Set, more_digits: Set, k: int) -> None:
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    head = LinearSVM().fit(digits[0][digits[1] < k], names[digits[1][digits[1] < k]])
    probabilities, scores = head.predict_proba(more_digits[0]), head.decision_function(more_digits[0])
    rows = np.column_stack([-scores, scores]) if k == 2 else scores
    assert scores.shape == ((500,) if k == 2 else (500, k))
    assert head.coef_.shape == (k, 64)
    assert list(head.classes_) == sorted(names[:k])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(head.predict(more_digits[0]), head.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_array_equal(probabilities.argmax(axis=1), rows.argmax(axis=1))
    np.testing.assert_allclose(more_digits[0] @ head.coef_.T + head.intercept_, rows, atol=1e-9)


@pytest.mark.parametrize("k", [2, 10])
def test_calibration_beats_the_softmax_of_raw_scores(digits: Set, more_digits: Set, k: int) -> None:
    random = np.random.default_rng(0)
    codes, labels = digits[0][digits[1] < k], digits[1][digits[1] < k]
    test, truth = more_digits[0][more_digits[1] < k], more_digits[1][more_digits[1] < k]
    noisy, hard = (x + random.normal(size=x.shape) * 6 for x in (codes, test))  # to be wrong at times
    head = LinearSVM().fit(noisy, labels)
    raw = softmax(hard @ head.coef_.T + head.intercept_, axis=1)
    assert log_loss(truth, head.predict_proba(hard)) < 0.9 * log_loss(truth, raw)


def test_the_temperature_comes_from_out_of_fold_scores(digits: Set) -> None:
    """On its own training rows an SVM with little regularisation is always right; a temperature from them is 0."""
    codes = digits[0] + np.random.default_rng(1).normal(size=digits[0].shape) * 6
    head = LinearSVM(C=10.0).fit(codes, digits[1])
    assert head.score(codes, digits[1]) > 0.95
    assert head.cv_accuracy_ is not None
    assert head.cv_accuracy_ < 0.85
    assert head.predict_proba(codes).max(axis=1).mean() == pytest.approx(head.cv_accuracy_, abs=0.12)


def test_the_same_seed_gives_the_same_bits(digits: Set) -> None:
    heads = [LinearSVM(random_state=seed).fit(*digits) for seed in (4, 4, 5)]
    for name in ("coef_", "intercept_", "oof_scores_", "temperature_"):
        np.testing.assert_array_equal(getattr(heads[0], name), getattr(heads[1], name))
    assert heads[0].cv_results_ == heads[1].cv_results_
    assert not np.array_equal(heads[0].oof_scores_, heads[2].oof_scores_)  # type: ignore[arg-type]


def test_constant_columns_do_not_matter(digits: Set) -> None:
    codes, labels = digits
    plain = LinearSVM(C=0.01).fit(codes, labels)
    wider = np.hstack([codes, np.full((len(codes), 2), 7.3, dtype=np.float32)])
    padded = LinearSVM(C=0.01).fit(wider, labels)
    np.testing.assert_allclose(padded.decision_function(wider), plain.decision_function(codes), atol=1e-5)


def test_auto_balances_when_the_largest_class_is_over_three_times_the_smallest(digits: Set) -> None:
    def fitted(zeros: int, weight: Literal["auto", "balanced"] | None) -> NDArray[np.float64]:
        rows = np.concatenate([np.flatnonzero(digits[1] == 0)[:zeros], np.flatnonzero(digits[1] == 8)[:30]])
        return LinearSVM(C=1e-4, class_weight=weight).fit(digits[0][rows], digits[1][rows]).coef_

    np.testing.assert_array_equal(fitted(9, "auto"), fitted(9, "balanced"))
    np.testing.assert_array_equal(fitted(10, "auto"), fitted(10, None))
    assert not np.allclose(fitted(9, "balanced"), fitted(9, None))
    assert not np.allclose(fitted(10, "balanced"), fitted(10, None))


def test_progress_counts_every_fold_and_the_end(digits: Set) -> None:
    seen: list[tuple[int, int]] = []
    LinearSVM(C=0.01, cv=3).fit(*digits, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_codes_that_are_not_finite_are_explained(digits: Set, bad: float) -> None:
    codes = digits[0].copy()
    codes[[3, 77], 5] = bad
    message = r"2 of 500 rows of codes contain NaN or inf \(rows 3, 77\).*Extract those codes again"
    with pytest.raises(UnusableCodesError, match=message):
        LinearSVM().fit(codes, digits[1])
    with pytest.raises(UnusableCodesError, match=message):
        LinearSVM(C=0.01).fit(*digits).predict(codes)


def test_one_class_is_explained(digits: Set) -> None:
    with pytest.raises(TlkitError, match=r"all 500 rows belong to one class, 'cat'.*needs two"):
        LinearSVM().fit(digits[0], ["cat"] * 500)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"C": -1.0}, r"C=-1.0: give one number or several, each above 0"),
        ({"C": [1.0, 0.0]}, "each above 0"),
        ({"C": []}, "one number or several"),
        ({"C": np.inf}, "finite"),
        ({"cv": 1}, "cv=1: cross-validation needs at least 2 folds"),
        ({"scale": "standart"}, "scale='standart' is not one of 'standard', 'none'. Did you mean 'standard'"),
        ({"class_weight": "balance"}, "class_weight='balance'.*Did you mean 'balanced'"),
    ],
)
def test_wrong_settings_are_explained(digits: Set, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LinearSVM(**wrong).fit(*digits)


def test_groups_must_fit_the_rows(digits: Set) -> None:
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearSVM().fit(*digits, groups=["a", "b"])


def test_settings_survive_a_clone() -> None:
    assert clone(LinearSVM(C=[0.1, 1.0], cv=3)).get_params() == LinearSVM(C=[0.1, 1.0], cv=3).get_params()


@given(n=st.integers(4, 40), d=st.integers(1, 60), k=st.integers(2, 4), power=st.integers(-12, 12))
@settings(deadline=None, max_examples=40)
def test_any_scale_of_codes_works(n: int, d: int, k: int, power: int) -> None:
    random = np.random.default_rng(n * d)
    codes = (random.normal(size=(n, d)) * 10.0**power).astype(np.float32)
    labels = np.arange(n) % k
    for scale in ("standard", "none"):
        found = LinearSVM(scale=scale).fit(codes, labels).predict_proba(codes)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)
