"""How good predicted probabilities are: scikit-learn's metrics, and calibration, as one JSON-able record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.errors import TlkitError, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]

BINS = 15


def evaluate(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """Measure predicted probabilities against the truth.

    Args:
        probabilities: (n, k) float; rows sum to 1 up to rounding.
        labels: (n,) int64 into `classes`.
        classes: k distinct names.

    Returns:
        n; accuracy and accuracy_interval, its 95 % Wilson interval [low, high]; balanced_accuracy (mean recall) and
        macro_f1, both over the classes that are present in `labels`; per_class: name -> precision, recall, f1, support
        (0.0 where a ratio has no denominator); top5 if k > 5; log_loss; ece; confusion_matrix, k lists of k counts,
        rows are the true classes. All plain numbers.

    Raises:
        TlkitError: There is nothing to evaluate, or some probabilities are not.
        ValueError: The shapes disagree.

    >>> evaluate([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], ["ant", "bee"])["confusion_matrix"]
    [[1, 0], [1, 1]]
    """
    from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

    p, y = _checked(probabilities, labels, classes)
    every = np.arange(len(classes))
    predicted = p.argmax(axis=1)
    right = int((predicted == y).sum())
    top5 = {"top5": float(top_k_accuracy_score(y, p, k=5, labels=every))} if len(classes) > 5 else {}
    return {
        "n": len(y),
        "accuracy": right / len(y),
        "accuracy_interval": _wilson(right, len(y)),
        **_by_class(y, predicted, classes),
        **top5,
        "log_loss": float(log_loss(y, p, labels=every)),
        "ece": expected_calibration_error(p, y),
        "confusion_matrix": confusion_matrix(y, predicted, labels=every).tolist(),
    }


def reliability_bins(probabilities: Matrix, labels: Labels, bins: int = BINS) -> tuple[Labels, Matrix, Matrix]:
    """Sort the predictions (n, k) by their confidence, the highest probability of a row, into equal-width bins.

    Returns:
        How many there are in each bin (bins,), their mean confidence and their accuracy, NaN in empty bins.
        A bin holds its upper edge (Guo et al. 2017, section 2).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(which, minlength=bins)
    size = np.where(count, count, np.nan)
    sums = [np.bincount(which, weights=values, minlength=bins) for values in (confidence, right)]
    return count, sums[0] / size, sums[1] / size


def expected_calibration_error(probabilities: Matrix, labels: Labels) -> float:
    """Return the mean gap between confidence and accuracy over 15 bins (Guo et al. 2017, equation 3)."""
    count, confidence, accuracy = reliability_bins(probabilities, labels)
    return float(np.nansum(count * np.abs(accuracy - confidence)) / count.sum())


def _checked(probabilities: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> tuple[Matrix, Labels]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    k = len(classes)
    if y.size == 0:
        raise TlkitError("there is nothing to evaluate: not one labelled image. Give some, or another split.")
    if y.ndim != 1 or p.shape != (len(y), k) or len(set(classes)) != k:
        raise ValueError(f"probabilities {p.shape} and labels {y.shape} do not fit {k} distinct classes")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= k:
        raise ValueError(f"labels must be whole numbers from 0 to {k - 1}")
    total = p.sum(axis=1)
    bad = np.flatnonzero(~((p >= 0).all(axis=1) & (np.abs(total - 1) < 1e-3)))
    if len(bad):
        raise TlkitError(
            f"{len(bad)} of {len(y)} rows are not probabilities (rows {some(bad)}): they are negative or NaN, or do not"
            " sum to 1. Predict again; if it stays, the classifier is damaged."
        )
    # float32 rows sum to 1 within 1e-7 only, which scikit-learn warns of.
    return p / total[:, None], y.astype(np.int64)


def _wilson(right: int, n: int) -> list[float]:
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(confidence_level=0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def _by_class(labels: Labels, predicted: Labels, classes: Sequence[str]) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    table = precision_recall_fscore_support(labels, predicted, labels=np.arange(len(classes)), zero_division=0.0)
    precision, recall, f1, support = (column.tolist() for column in table)
    present = np.array(support) > 0
    return {
        "balanced_accuracy": float(np.mean(table[1][present])),
        "macro_f1": float(np.mean(table[2][present])),
        "per_class": {
            name: {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
            for i, name in enumerate(classes)
        },
    }
