"""What an ensemble is worth beside its members, on the same held-out images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.evaluation.metrics import evaluate
from tlkit.evaluation.paired import paired_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.floating[Any]]
    Labels = NDArray[np.int64]


def votes_table(
    names: Sequence[str],
    members: Matrix,
    whole: Matrix,
    without: Callable[[int], Matrix | None],
    labels: Labels,
    classes: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Compare an ensemble with each of its members.

    Args:
        names: Of the m members.
        members: (m, n, k) their probabilities.
        whole: (n, k) the ensemble's.
        without: Says what all say together but the member of a number, (n, k); None if that cannot be told.
        labels: (n,) the truth.
        classes: k names.
        seed: Of the bootstrap.

    Returns:
        A row for each member and, last, for the ensemble: name, accuracy, its 95 % Wilson interval low, high; log_loss;
        of a member: gain, how much more accurate the ensemble is, and its paired 95 % interval gain_low, gain_high and
        McNemar's p; without and without_log_loss, the ensemble's accuracy and log loss if this member did not vote
        (None if that cannot be told). All plain numbers.
    """
    right = whole.argmax(axis=1) == labels
    rows = []
    for number, name in enumerate(names):
        pair = paired_interval(right, members[number].argmax(axis=1) == labels, seed)
        others = without(number)
        left = None if others is None else evaluate(others, labels, classes)
        rows.append(
            {
                **_measured(name, members[number], labels, classes),
                "gain": pair.difference,
                "gain_low": pair.interval[0],
                "gain_high": pair.interval[1],
                "p": pair.p,
                "without": left and left["accuracy"],
                "without_log_loss": left and left["log_loss"],
            }
        )
    return [*rows, _measured("ensemble", whole, labels, classes)]


def _measured(name: str, probabilities: Matrix, labels: Labels, classes: Sequence[str]) -> dict[str, Any]:
    found = evaluate(probabilities, labels, classes)
    low, high = found["accuracy_interval"]
    return {"name": name, "accuracy": found["accuracy"], "low": low, "high": high, "log_loss": found["log_loss"]}


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say in sentences what the table says: the gain over the best member, and which members do not help."""
    *members, whole = rows
    best = max(members, key=lambda row: (row["accuracy"], -row["log_loss"]))
    span = f"95 % interval {best['gain_low']:+.3f} to {best['gain_high']:+.3f}, p = {best['p']:.2g}"
    gain = f"{best['gain']:+.3f} against its best member, {best['name']} ({span})"
    if best["gain"] <= 0:
        said = [f"the ensemble does not beat its best member: {gain}"]
    elif best["gain_low"] <= 0:
        said = [f"the ensemble: {gain}: these images do not tell whether it is better"]
    else:
        said = [f"the ensemble: {gain}"]
    for row in members:
        if row["without"] is None or row["without"] < whole["accuracy"]:
            continue
        if row["without"] > whole["accuracy"] or row["without_log_loss"] <= whole["log_loss"]:
            said.append(
                f"{row['name']} does not help: without it the accuracy is {row['without']:.3f}, "
                f"the log loss {row['without_log_loss']:.3f}"
            )
    return said
