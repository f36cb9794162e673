"""Which taps: measured by cross-validation on the training images, one by one and then side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlkit.progress import progress

if TYPE_CHECKING:
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


def choose_taps(taps: Sequence[str], fit: Fit) -> tuple[Candidate, list[Candidate]]:
    """Find the tap, or the concatenation of up to three, with the best cross-validated accuracy.

    Every tap is measured alone. To the best one, the tap that helps most is added, with the scaling of the best, as
    long as that is more accurate; of equal ones, what was measured first wins.

    Args:
        taps: all to choose from, in order of depth.
        fit: fits a head on some of them.

    Returns:
        the choice, and everything that was measured: first each tap alone, in order of depth.
    """
    most = len(taps) + sum(len(taps) - already for already in range(1, min(MOST_TAPS, len(taps))))
    with progress("comparing taps", most, "heads") as advance:

        def measured(chosen: Sequence[str], scale: str | None) -> Candidate:
            candidate = _candidate(chosen, fit(chosen, scale))
            advance(1)
            return candidate

        table = [measured([tap], None) for tap in taps]
        best = _best(table)
        while len(best.taps) < min(MOST_TAPS, len(taps)):
            wider = [measured([*best.taps, tap], best.scale) for tap in taps if tap not in best.taps]
            table += wider
            if _best([best, *wider]) is best:
                break
            best = _best(wider)
    return best, table


def _best(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda candidate: round(candidate.accuracy, 12))


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
