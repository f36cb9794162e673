"""Which runs differ: each pair on the images that both held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from tlkit.errors import some
from tlkit.evaluation.paired import holm, paired_interval

if TYPE_CHECKING:
    from tlkit.comparison.finished import Finished

LEVEL = 0.05
TIE = "not distinguishable at 95 %"
_SEED = 1  # of the bootstrap: the same runs compare the same at any time


@dataclass(frozen=True)
class Pair:
    """Two runs on the images that both held out.

    Attributes:
        first: Name of a run.
        second: Name of the one it is compared with.
        shared: How many images both held out.
        only_first: How many of them the first alone gets right.
        only_second: How many the second alone.
        difference: Of the accuracies on them, first minus second.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of McNemar's exact test.
        p_holm: The same, corrected for all pairs that were tested; None, like all these, if they were not compared.
        verdict: Which is better, that they cannot be told apart, or why they are not compared.
    """

    first: str
    second: str
    shared: int
    only_first: int | None = None
    only_second: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str = ""


def groups(runs: Sequence[Finished]) -> list[list[Finished]]:
    """Part runs that have other classes or other images, so that no accuracy stands beside that of another task.

    Runs go together if their classes have the same names, and their images come from the same place or those held out
    are the same by name and label, as those of a copy are.
    """
    parted: list[list[Finished]] = []
    for run in runs:
        own = next((group for group in parted if _same_task(group[0], run)), None)
        if own is None:
            parted.append([run])
        else:
            own.append(run)
    return parted


def pairs(group: Sequence[Sequence[Finished]]) -> list[Pair]:
    """Compare each run with each other one of its group, and correct for how many comparisons that are (Holm 1979).

    The verdict is that of the corrected p-value; the intervals are each for itself.
    """
    found = [_compared(a, b) for runs in group for a, b in combinations(runs, 2)]
    tested = [row for row, pair in enumerate(found) if pair.p is not None]
    for row, p in zip(tested, holm([found[row].p or 0.0 for row in tested]), strict=True):
        found[row] = _judged(found[row], float(p))
    return found


def _same_task(a: Finished, b: Finished) -> bool:
    if a.classes != b.classes:
        return False
    if a.place and a.place == b.place:
        return True
    return a.answers["label"].sort_index().equals(b.answers["label"].sort_index())


def _compared(a: Finished, b: Finished) -> Pair:
    files = a.answers.index.intersection(b.answers.index)
    if files.empty:
        return Pair(a.name, b.name, 0, verdict="not compared: they held out no image in common")
    mine, theirs = a.answers.loc[files], b.answers.loc[files]
    other = mine["label"] != theirs["label"]
    if other.any():
        rows = zip(files[other], mine["label"][other], theirs["label"][other], strict=True)
        told = some([f"{file} ({label}, {another})" for file, label, another in rows], 2)
        return Pair(a.name, b.name, len(files), verdict=f"not compared: other labels for the same file: {told}")
    right_a, right_b = mine["right"].to_numpy(dtype=bool), theirs["right"].to_numpy(dtype=bool)
    difference, (low, high), p = paired_interval(right_a, right_b, _SEED)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Pair(a.name, b.name, len(files), only_a, only_b, difference, low, high, p)


def _judged(pair: Pair, p: float) -> Pair:
    better = pair.first if (pair.difference or 0) > 0 else pair.second
    return replace(pair, p_holm=p, verdict=f"{better} is better" if p < LEVEL else TIE)
