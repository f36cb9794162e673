"""What all heads share: scikit-learn's own checks, settings, errors, groups, weights, tables on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from tlkit.errors import TlkitError, UsageError
from tlkit.heads import (
    HEADS,
    KNN,
    Head,
    LinearSVM,
    Prototype,
    Ridge,
    SoftmaxRegression,
    UnusableCodesError,
)
from tlkit.heads.scaling import SCALES

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
Kind = type[Head]
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])

# Two values each, for tests of what does not depend on the grid.
FEW: dict[Kind, dict[str, Any]] = {
    HEADS["svm"]: {"C": [1e-4, 1e-3]},
    HEADS["softmax"]: {"C": [1e-4, 1e-3]},
    HEADS["ridge"]: {"alpha": [100.0, 1000.0]},
    HEADS["knn"]: {"k": [5, 9]},
    HEADS["prototype"]: {},
}

every_kind = pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)


# Few values of C: the checks fit hundreds of heads.
CHECKED = [LinearSVM(C=[0.1, 1.0]), SoftmaxRegression(C=[0.1, 1.0]), Ridge(), KNN(), Prototype()]


@parametrize_with_checks(CHECKED)  # type: ignore[untyped-decorator]
def test_scikit_learns_checks(estimator: Head, check: Callable[[Head], None]) -> None:
    check(estimator)


@every_kind
@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_three_answers_agree(kind: Kind, digits: Set, more_digits: Set, k: int) -> None:
    head = kind(**FEW[kind]).fit(digits[0][digits[1] < k], NAMES[digits[1][digits[1] < k]])
    probabilities, scores = head.predict_proba(more_digits[0]), head.decision_function(more_digits[0])
    rows = np.column_stack([-scores, scores]) if k == 2 else scores
    assert scores.shape == ((500,) if k == 2 else (500, k))
    assert list(head.classes_) == sorted(NAMES[:k])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(head.predict(more_digits[0]), head.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_array_equal(probabilities.argmax(axis=1), rows.argmax(axis=1))


@pytest.mark.parametrize("name", ["svm", "softmax", "ridge", "prototype"])
@pytest.mark.parametrize("k", [2, 10])
def test_affine_heads_apply_to_raw_codes(name: str, digits: Set, more_digits: Set, k: int) -> None:
    head = HEADS[name](**FEW[HEADS[name]], scale="standard", cv=2).fit(
        digits[0][digits[1] < k], digits[1][digits[1] < k]
    )
    scores = head.decision_function(more_digits[0])
    coef, intercept = head.coef_, head.intercept_
    assert (coef.shape, coef.dtype, intercept.dtype) == ((k, 64), np.float32, np.float32)
    expected = more_digits[0] @ coef.T + intercept
    np.testing.assert_allclose(expected[:, 1] if k == 2 else expected, scores, rtol=1e-3, atol=1e-3)
    if k == 2:
        np.testing.assert_allclose(expected[:, 0], -expected[:, 1], rtol=1e-3, atol=1e-3)


@every_kind
def test_calibration_beats_the_softmax_of_raw_scores(kind: Kind, digits: Set, more_digits: Set) -> None:
    codes, labels = np.concatenate([digits[0], more_digits[0]]), np.concatenate([digits[1], more_digits[1]])
    codes = codes + np.random.default_rng(0).normal(size=codes.shape) * 6  # to be wrong at times
    train, test = np.split(np.random.default_rng(1).permutation(1000), 2)
    head = kind(**FEW[kind]).fit(codes[train], labels[train])
    raw = softmax(head.decision_function(codes[test]), axis=1)
    found = head.predict_proba(codes[test])
    assert log_loss(labels[test], found) < log_loss(labels[test], raw)
    assert found.max(axis=1).mean() == pytest.approx(head.score(codes[test], labels[test]), abs=0.04)


@every_kind
def test_the_same_seed_gives_the_same_bits(kind: Kind, digits: Set, more_digits: Set) -> None:
    heads = [kind(**FEW[kind], scale="standard", cv=3, random_state=seed).fit(*digits) for seed in (4, 4, 5)]
    first, second, other = heads
    np.testing.assert_array_equal(first.predict_proba(more_digits[0]), second.predict_proba(more_digits[0]))
    scores = [np.asarray(head.oof_scores_) for head in (first, second, other)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert first.cv_results_ == second.cv_results_
    assert not np.array_equal(scores[0], scores[2])


@every_kind
def test_auto_compares_all_scalings(kind: Kind, digits: Set) -> None:
    head = kind(**FEW[kind], scale="auto", cv=3).fit(*digits)
    size = len(head.cv_results_["scale"]) // 4
    assert head.cv_results_["scale"] == [scale for scale in SCALES for _ in range(size)]
    accuracy = np.round(head.cv_results_["accuracy"], 12)
    assert head.cv_results_["scale"][int(accuracy.argmax())] == head.scale_
    for scale in SCALES:  # each as if it were alone, apart from the ridge's leave-one-out
        if kind is HEADS["ridge"] and scale != "standard":
            continue
        alone = kind(**FEW[kind], scale=scale, cv=3).fit(*digits)
        rows = slice(SCALES.index(scale) * size, (SCALES.index(scale) + 1) * size)
        assert alone.cv_results_["accuracy"] == head.cv_results_["accuracy"][rows]
        if scale == head.scale_:
            np.testing.assert_array_equal(alone.predict_proba(digits[0]), head.predict_proba(digits[0]))


@every_kind
def test_scaling_by_row_is_what_scikit_learn_does_before(kind: Kind, digits: Set, more_digits: Set) -> None:
    from sklearn.preprocessing import normalize

    powered = [normalize(np.sqrt(codes)).astype(np.float32) for codes in (digits[0], more_digits[0])]
    inside = kind(**FEW[kind], scale="power", cv=3).fit(*digits).predict_proba(more_digits[0])
    before = kind(**FEW[kind], scale="none", cv=3).fit(powered[0], digits[1]).predict_proba(powered[1])
    np.testing.assert_allclose(inside, before, atol=1e-3)


@every_kind
def test_groups_are_never_on_two_sides(kind: Kind, digits: Set) -> None:
    """Each scan four times, in a group: without groups the copies would make the neighbour and the fit too good."""
    codes, labels = np.repeat(digits[0][:150], 4, axis=0), np.repeat(digits[1][:150], 4)
    codes = codes + np.random.default_rng(0).normal(size=codes.shape).astype(np.float32) * 4
    plain = kind(**FEW[kind], scale="none").fit(codes, labels)
    grouped = kind(**FEW[kind], scale="none").fit(codes, labels, groups=np.repeat(np.arange(150), 4))
    assert grouped.cv_accuracy_ is not None
    assert plain.cv_accuracy_ is not None
    assert grouped.cv_accuracy_ < plain.cv_accuracy_ - 0.02


@every_kind
def test_class_weights(kind: Kind, digits: Set, more_digits: Set) -> None:
    """A dict equal to "balanced" gives the same head; a class of great weight is found more often."""
    rows = np.concatenate([np.flatnonzero(digits[1] == 3)[:40], np.flatnonzero(digits[1] == 8)[:8]])
    codes, labels = digits[0][rows], NAMES[digits[1][rows]]
    balanced = {"eight": 48 / 16, "three": 48 / 80}
    fixed = {name: values[0] for name, values in FEW[kind].items()}
    found = {
        str(weight): kind(**fixed, class_weight=weight, cv=2).fit(codes, labels).predict_proba(more_digits[0])
        for weight in ("auto", "balanced", None, {"eight": 5.0})
    }
    np.testing.assert_array_equal(found["auto"], found["balanced"])
    assert (found["{'eight': 5.0}"] > 0.5)[:, 0].mean() > (found["None"] > 0.5)[:, 0].mean()
    if kind is not HEADS["prototype"]:  # there a dict is something else
        dictionary = kind(**fixed, class_weight=balanced, cv=2).fit(codes, labels)
        np.testing.assert_allclose(dictionary.predict_proba(more_digits[0]), found["auto"], atol=1e-9)
        assert not np.allclose(found["auto"], found["None"])


def test_auto_balances_when_the_largest_class_is_over_three_times_the_smallest(digits: Set) -> None:
    def fitted(zeros: int, weight: str | None) -> NDArray[np.float32]:
        rows = np.concatenate([np.flatnonzero(digits[1] == 0)[:zeros], np.flatnonzero(digits[1] == 8)[:30]])
        return LinearSVM(C=1e-4, class_weight=weight).fit(digits[0][rows], digits[1][rows]).coef_

    np.testing.assert_array_equal(fitted(9, "auto"), fitted(9, "balanced"))
    np.testing.assert_array_equal(fitted(10, "auto"), fitted(10, None))
    assert not np.allclose(fitted(9, "balanced"), fitted(9, None))
    assert not np.allclose(fitted(10, "balanced"), fitted(10, None))


class Slices:
    """Codes that can only be had in slices, and counts the most rows anybody took."""

    def __init__(self, codes: NDArray[Any]) -> None:
        self.codes, self.shape, self.dtype, self.most = codes, codes.shape, codes.dtype, 0

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        block = self.codes[rows]
        self.most = max(self.most, len(block))
        return block


@every_kind
@pytest.mark.parametrize("scale", SCALES)
def test_a_table_is_read_in_blocks_and_gives_the_same(
    kind: Kind, scale: str, digits: Set, more_digits: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = kind(**FEW[kind], scale=scale, cv=3).fit(*digits)
    monkeypatch.setattr("tlkit.heads.rows._SMALL", 0)
    monkeypatch.setattr("tlkit.heads.rows._BLOCK", 64 * 100)
    table, query = Slices(digits[0]), Slices(more_digits[0])
    head = kind(**FEW[kind], scale=scale, cv=3).fit(table, digits[1])
    assert head.cv_results_ == expected.cv_results_
    np.testing.assert_allclose(head.oof_scores_, expected.oof_scores_, rtol=1e-3, atol=1e-3)  # type: ignore[arg-type]
    np.testing.assert_allclose(head.predict_proba(query), expected.predict_proba(more_digits[0]), atol=1e-3)
    assert query.most == 100
    np.testing.assert_array_equal(head.predict(query), expected.predict(more_digits[0]))


@every_kind
def test_a_memory_map_works(kind: Kind, digits: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "codes.npy", digits[0])
    stored = np.load(tmp_path / "codes.npy", mmap_mode="r")
    expected = kind(**FEW[kind], cv=2).fit(*digits).predict_proba(digits[0])
    np.testing.assert_array_equal(kind(**FEW[kind], cv=2).fit(stored, digits[1]).predict_proba(stored), expected)
    monkeypatch.setattr("tlkit.heads.rows._SMALL", 0)
    np.testing.assert_allclose(
        kind(**FEW[kind], cv=2).fit(stored, digits[1]).predict_proba(stored), expected, atol=1e-3
    )


def test_a_table_of_another_width_is_refused(digits: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlkit.heads.rows._SMALL", 0)
    head = LinearSVM(C=0.01).fit(Slices(digits[0]), digits[1])
    with pytest.raises(UnusableCodesError, match="X has 9 features, but the head expects 64"):
        head.predict(Slices(digits[0][:, :9]))
    with pytest.raises(UnusableCodesError, match="at least one row of floats"):
        head.predict(Slices(digits[0].astype(np.int64)))


@every_kind
@pytest.mark.parametrize("scale", ["standard", "auto"])
def test_progress_counts_every_fold_and_the_end(kind: Kind, scale: str, digits: Set) -> None:
    seen: list[tuple[int, int]] = []
    kind(**FEW[kind], scale=scale, cv=3).fit(*digits, progress=lambda done, total: seen.append((done, total)))
    total = (12 if scale == "auto" else 3) + 1
    assert {last for _, last in seen} == {total}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})  # folds solved at once finish at once
    assert {3, total} <= {done for done, _ in seen}
    assert seen[-1] == (total, total)


@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_codes_that_are_not_finite_are_explained(kind: Kind, digits: Set, bad: float) -> None:
    codes = digits[0].copy()
    codes[[3, 77], 5] = bad
    message = r"2 of 500 rows of codes contain NaN or inf \(rows 3, 77\).*Extract those codes again"
    with pytest.raises(UnusableCodesError, match=message):
        kind(**FEW[kind]).fit(codes, digits[1])
    head = kind(**FEW[kind], cv=2).fit(*digits)
    with pytest.raises(UnusableCodesError, match=message):
        head.predict(codes)


def test_one_class_is_explained(digits: Set) -> None:
    with pytest.raises(TlkitError, match=r"all 500 rows belong to one class, 'cat'.*needs two"):
        LinearSVM().fit(digits[0], ["cat"] * 500)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cv": 1}, "cv=1: cross-validation needs at least 2 folds"),
        ({"cv": "five"}, "cv='five'"),
        ({"scale": "standart"}, "scale='standart' is not one of 'auto', 'standard', .*Did you mean 'standard'"),
        ({"scale": None}, "scale=None is not one of"),
        ({"class_weight": "balance"}, "class_weight='balance'.*Did you mean 'balanced'"),
        ({"class_weight": {1: 0.0}}, "class_weight: 1 has the weight 0.0; give a number above 0"),
        ({"class_weight": {"cat": 2.0}}, r"class_weight: 'cat': no such class. The classes are 0, 1, 2"),
    ],
)
@every_kind
def test_wrong_settings_are_explained(kind: Kind, digits: Set, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**wrong).fit(*digits)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("svm", {"C": -1.0}, r"C=-1.0: give one number or several, each above 0"),
        ("svm", {"C": [1.0, 0.0]}, "each above 0"),
        ("softmax", {"C": []}, "one number or several"),
        ("softmax", {"C": np.inf}, "finite"),
        ("svm", {"C": "1"}, "C='1'"),
        ("svm", {"device": "cpu; rm"}, "device='cpu; rm': give 'auto', 'cpu'"),
        ("ridge", {"alpha": [True]}, r"alpha=\[True\]"),
        ("knn", {"k": 0}, "k=0: give one whole number"),
        ("knn", {"k": [1, 2.5]}, "whole number"),
    ],
)
def test_wrong_values_are_explained(name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HEADS[name](**wrong).check_settings()


def test_groups_must_fit_the_rows(digits: Set) -> None:
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearSVM().fit(*digits, groups=["a", "b"])


@every_kind
def test_settings_survive_a_clone(kind: Kind) -> None:
    head = kind(scale="power", class_weight={0: 2.0}, cv=3)
    assert clone(head).get_params() == head.get_params()


@every_kind
@pytest.mark.parametrize("scale", SCALES)
@given(n=st.integers(4, 40), d=st.integers(1, 60), k=st.integers(2, 4), power=st.integers(-12, 12))
@settings(deadline=None, max_examples=2, derandomize=True)
def test_any_scale_of_codes_works(kind: Kind, scale: str, n: int, d: int, k: int, power: int) -> None:
    random = np.random.default_rng(n * d)
    codes = (random.normal(size=(n, d)) * 10.0**power).astype(np.float32)
    codes[:, 0] = 3.0 * 10.0**power  # constant
    found = kind(scale=scale, cv=2).fit(codes, np.arange(n) % k).predict_proba(codes)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)


@every_kind
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    cv=st.integers(2, 6),
    grouped=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=8, derandomize=True)
def test_any_classes_and_groups_work(kind: Kind, counts: list[int], cv: int, grouped: int | None, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    codes = random.normal(size=(len(labels), 3)) + 3 * labels[:, None]
    groups = None if grouped is None else random.integers(grouped, size=len(labels))
    head = kind(cv=cv, random_state=seed).fit(codes, labels, groups=groups)
    assert np.isfinite(head.predict_proba(codes)).all()
    assert (head.cv_accuracy_ is None) == (not head.cv_results_["accuracy"]) == (head.oof_scores_ is None)
    assert head.cv_accuracy_ is not None or max(counts) == 1 or groups is not None


@every_kind
def test_a_class_with_one_row_is_learned_but_never_found_out_of_fold(kind: Kind, digits: Set) -> None:
    codes, labels = digits
    rows = np.concatenate([np.flatnonzero(labels < 3), np.flatnonzero(labels == 9)[:1]])
    head = kind(class_weight=None).fit(codes[rows], labels[rows])
    assert head.oof_scores_ is not None
    assert head.oof_scores_[-1, 3] == -np.inf
    assert np.isfinite(head.oof_scores_[:-1, :3]).all()
    assert head.cv_accuracy_ is not None
    assert 0.9 < head.cv_accuracy_ < 1


@every_kind
def test_one_row_a_class_takes_the_first_candidate(kind: Kind, digits: Set) -> None:
    codes, labels = digits
    rows = np.unique(labels, return_index=True)[1]
    head = kind(scale="auto").fit(codes[rows], labels[rows])
    assert (head.scale_, head.temperature_, head.cv_accuracy_, head.oof_scores_) == ("standard", 1.0, None, None)
    assert all(column == [] for column in head.cv_results_.values())
    if kind is not HEADS["knn"]:
        assert (head.predict(codes[rows]) == labels[rows]).all()
