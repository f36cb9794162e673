"""Which taps: measured by cross-validation on the training images, one by one and then side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.heads import Head

MOST_TAPS = 3

Fit = Callable[[Sequence[str], str | None], "Head"]
"""From taps and a kind of scaling (None: what the user asked for) to a head fitted on their codes, side by side."""


@dataclass(frozen=True)
class Candidate:
    """Taps, how they are best scaled and regularised, and how many training images were right out of fold."""

    taps: tuple[str, ...]
    dimensions: int
    scale: str
    parameter: float | None
    accuracy: float
    std: float

    @property
    def row(self) -> dict[str, Any]:
        """The candidate as a row of a table."""
        return {**vars(self), "taps": "+".join(self.taps)}


def choose_taps(taps: Sequence[str], labels: NDArray[np.int64], fit: Fit) -> tuple[Candidate, list[Candidate]]:
    """Find the tap, or the concatenation of up to three, that is best by cross-validation.

    Every tap is measured alone. Another one than the last is taken only if more training images are right out of fold,
    by more than one standard error of the difference. Then the tap that helps most is added, with the same scaling, as
    long as that helps as surely.

    Args:
        taps: all to choose from, in order of depth; the last is the usual choice.
        labels: (n,) of the rows that heads are fitted on.
        fit: fits a head on some of the taps.

    Returns:
        the choice, and everything that was measured: first each tap alone, in order of depth.
    """
    most = len(taps) + sum(len(taps) - already for already in range(1, min(MOST_TAPS, len(taps))))
    with progress("comparing taps", most, "heads") as advance:

        def measured(chosen: Sequence[str], scale: str | None) -> _Measured:
            head = fit(chosen, scale)
            advance(1)
            scores = head.oof_scores_
            right = np.zeros(len(labels)) if scores is None else (scores.argmax(axis=1) == labels).astype(np.float64)
            return _candidate(chosen, head), right

        every = [measured([tap], None) for tap in taps]
        best = _better(every[-1], every)
        while len(best[0].taps) < min(MOST_TAPS, len(taps)):
            wider = [measured([*best[0].taps, tap], best[0].scale) for tap in taps if tap not in best[0].taps]
            every += wider
            if (better := _better(best, wider)) is best:
                break
            best = better
    return best[0], [candidate for candidate, _ in every]


_Measured = tuple[Candidate, "NDArray[np.float64]"]  # and which rows were right out of fold


def _better(known: _Measured, others: Sequence[_Measured]) -> _Measured:
    """Return the best of the others if it is better than what is known by more than one standard error.

    Only rows that one has right and the other wrong count (McNemar 1947); were both as good, the difference of their
    numbers would have the square root of their sum as its standard deviation.
    """
    best = max(others, key=lambda measured: measured[1].mean())
    difference = best[1] - known[1]
    return best if difference.sum() > np.sqrt(np.square(difference).sum()) else known


def _candidate(taps: Sequence[str], head: Head) -> Candidate:
    results, chosen = head.cv_results_, choice(head)
    rows = zip(*(results[name] for name in chosen), results["std"], strict=True)
    std = [std for *values, std in rows if values == list(chosen.values())]
    return Candidate(
        taps=tuple(taps),
        dimensions=int(head.n_features_in_),
        scale=head.scale_,
        parameter=chosen.get(str(head.parameter)),
        accuracy=head.cv_accuracy_ or 0.0,
        std=std[0] if std else 0.0,
    )


def choice(head: Head) -> dict[str, Any]:
    """Return the scaling that a fitted head chose, and the value of its parameter, if it has one."""
    names = ["scale", *filter(None, [head.parameter])]
    return {name: getattr(head, f"{name}_") for name in names}
