"""Metrics against scikit-learn, torchmetrics, statsmodels' formula and numbers worked out by hand."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from tlkit.errors import TlkitError
from tlkit.evaluation import evaluate
from tlkit.evaluation.metrics import reliability_bins

Matrix = NDArray[np.float64]


def predictions(n: int, k: int, seed: int) -> tuple[Matrix, NDArray[np.int64], list[str]]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(k, 0.5), size=n)
    labels = np.where(random.random(n) < 0.6, probabilities.argmax(axis=1), random.integers(k, size=n))
    return probabilities, labels, [f"class {i}" for i in range(k)]


@given(n=st.integers(60, 300), k=st.integers(2, 12), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_equals_scikit_learn_and_torchmetrics(n: int, k: int, seed: int) -> None:
    probabilities, labels, names = predictions(n, k, seed)
    labels[:k] = np.arange(k)
    found, best, every = evaluate(probabilities, labels, names), probabilities.argmax(axis=1), np.arange(k)
    assert found["n"] == n
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, best))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, best))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, best, average="macro", zero_division=0))
    assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=every))
    assert found["confusion_matrix"] == confusion_matrix(labels, best, labels=every).tolist()
    reference = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), k, n_bins=15)
    assert found["ece"] == pytest.approx(float(reference), abs=1e-6)
    report = classification_report(labels, best, target_names=names, output_dict=True, zero_division=0)
    for name in names:
        ours = {key.replace("f1", "f1-score"): value for key, value in found["per_class"][name].items()}
        assert ours == pytest.approx(report[name])
    if k > 5:
        assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=every))
    else:
        assert "top5" not in found


def test_by_hand() -> None:
    found = evaluate([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0]], [0, 1, 1, 0], ["ant", "bee"])
    assert found["accuracy"] == 0.75
    # Wilson 1927 for 3 of 4: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    z = 1.959963984540054
    centre, half = 0.75 + z**2 / 8, z * np.sqrt(0.75 * 0.25 / 4 + z**2 / 64)
    assert found["accuracy_interval"] == pytest.approx(
        [(centre - half) / (1 + z**2 / 4), (centre + half) / (1 + z**2 / 4)]
    )
    assert found["per_class"]["ant"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2})
    assert found["per_class"]["bee"] == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2})
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["log_loss"] == pytest.approx(-(2 * np.log(0.75) + np.log(0.25)) / 4)
    assert found["ece"] == pytest.approx((3 * abs(2 / 3 - 0.75) + 1 * 0.0) / 4)
    assert found["confusion_matrix"] == [[2, 0], [1, 1]]


def test_classes_without_images_do_not_count() -> None:
    probabilities, labels, names = predictions(200, 8, seed=1)
    labels = labels % 3 * 2
    found, best = evaluate(probabilities, labels, names), probabilities.argmax(axis=1)
    recalls = [np.mean(best[labels == c] == c) for c in (0, 2, 4)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, best, average="macro", labels=[0, 2, 4]))
    assert found["per_class"]["class 1"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert np.shape(found["confusion_matrix"]) == (8, 8)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images(n: int) -> None:
    found = evaluate(np.eye(7)[:n], np.arange(n), [str(i) for i in range(7)])
    assert (found["accuracy"], found["top5"], found["ece"]) == (1.0, 1.0, 0.0)
    low, high = found["accuracy_interval"]
    assert 0 < low < high <= 1


@given(n=st.integers(1, 40), k=st.integers(2, 12), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_everything_is_json_and_in_range(n: int, k: int, seed: int) -> None:
    probabilities, labels, names = predictions(n, k, seed)
    found = evaluate(probabilities.astype(np.float32), labels, names)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    low, high = found["accuracy_interval"]
    assert 0 <= low <= found["accuracy"] <= high <= 1
    for key in ("balanced_accuracy", "macro_f1", "ece"):
        assert 0 <= found[key] <= 1
    assert np.sum(found["confusion_matrix"]) == n
    assert np.trace(found["confusion_matrix"]) / n == found["accuracy"]


def test_certainty_in_the_wrong_class_has_a_finite_loss() -> None:
    assert np.isfinite(evaluate([[1.0, 0.0]], [1], ["a", "b"])["log_loss"])


def test_a_bin_holds_its_upper_edge() -> None:
    probabilities = np.array([[0.6, 0.4], [0.601, 0.399], [1.0, 0.0]])
    count, confidence, accuracy = reliability_bins(probabilities, np.array([0, 1, 0]), bins=5)
    assert count.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(confidence, [np.nan, np.nan, 0.6, 0.601, 1.0])
    np.testing.assert_allclose(accuracy, [np.nan, np.nan, 1.0, 0.0, 1.0])


def test_nothing_to_evaluate_is_explained() -> None:
    with pytest.raises(TlkitError, match="nothing to evaluate"):
        evaluate(np.empty((0, 2)), np.empty(0, dtype=np.int64), ["a", "b"])


@pytest.mark.parametrize("row", [[0.5, np.nan], [1.5, -0.5], [0.5, 0.4]])
def test_what_are_not_probabilities_is_explained(row: list[float]) -> None:
    with pytest.raises(TlkitError, match=r"1 of 2 rows are not probabilities \(rows 1\)"):
        evaluate([[0.5, 0.5], row], [0, 1], ["a", "b"])


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes"),
    [
        ([[0.5, 0.5]], [0, 1], ["a", "b"]),
        ([[0.5, 0.5]], [0], ["a", "b", "c"]),
        ([[0.5, 0.5]], [2], ["a", "b"]),
        ([[0.5, 0.5]], [-1], ["a", "b"]),
        ([[0.5, 0.5]], [0.0], ["a", "b"]),
        ([[0.5, 0.5]], [0], ["a", "a"]),
    ],
)
def test_shapes_must_agree(probabilities: list[list[float]], labels: list[int], classes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"do not fit|must be whole numbers"):
        evaluate(probabilities, labels, classes)
