"""Folds and the choice among candidates, by themselves; the heads' own tests compare the results with GridSearchCV."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlkit.heads.scaling import Scale
from tlkit.heads.selection import Evaluation, Found, Training, by_folds, default_grid, make_folds, search

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    cv=st.integers(2, 6),
    grouped=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_folds_part_the_rows_and_keep_groups_together(
    counts: list[int], cv: int, grouped: int | None, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    groups = None if grouped is None else np.random.default_rng(seed).integers(grouped, size=len(labels))
    folds = make_folds(labels, groups, cv, seed)
    for train, test in folds:
        assert groups is None or not set(groups[train]) & set(groups[test])
        assert (np.diff(train) > 0).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    if folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(labels)))
    assert folds or max(counts) == 1 or groups is not None


@given(stretch=st.integers(-4, 4), width=st.integers(1, 50))
@settings(deadline=None)
def test_the_default_grid_follows_the_squared_length(stretch: int, width: int) -> None:
    codes = np.random.default_rng(width).normal(size=(20, width))
    plain, stretched = default_grid(codes, "none"), default_grid(codes * 10.0**stretch, "none")
    np.testing.assert_allclose(np.array(plain) * 100.0**-stretch, stretched, rtol=1e-9)
    assert default_grid(codes, "standard") == default_grid(codes * 10.0**stretch, "standard")


def test_the_default_grid_of_empty_codes() -> None:
    assert default_grid(np.zeros((4, 3), dtype=np.float32), "none")[3] == 1.0


class Constant:
    """Models that give every row the class of their number."""

    convergence: Sequence[Any] = ()

    def scores(self, block: NDArray[Any], which: Iterable[int]) -> Iterator[NDArray[np.float64]]:
        for number in which:
            yield np.eye(3)[np.full(len(block), number)] + block[:, :1]


def test_each_row_is_scored_by_the_fold_that_did_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlkit.heads.rows._BLOCK", 7)
    labels = np.repeat([0, 1, 2], [10, 6, 4])
    codes = np.arange(20.0)[:, None]
    folds = make_folds(labels, None, 2, 0)
    found = by_folds(Training(codes, labels, 3, np.ones(3), "none"), [Constant()] * 2, folds, 3)
    np.testing.assert_allclose(found.accuracy, [0.5, 0.3, 0.2])
    np.testing.assert_array_equal(found.std, [0, 0, 0])
    np.testing.assert_array_equal(found.scores(1), np.eye(3)[[1] * 20] + codes)


def choice(*accuracies: list[float]) -> tuple[Found, list[str]]:
    """What `search` makes of one list of accuracies a scaling, and whose scores it asked for."""
    asked = []
    names: list[Scale] = ["standard", "none", "l2", "power"]
    trainings = [Training(np.zeros((1, 1)), np.zeros(1, int), 2, np.ones(2), name) for name in names]

    def evaluate(training: Training, grid: list[float]) -> Evaluation:
        own = np.array(accuracies[names.index(training.scale)])

        def scores(which: int) -> NDArray[np.float32]:
            asked.append(f"{training.scale} {which}")
            return np.zeros((1, 2), dtype=np.float32)

        return Evaluation(own, own / 10, scores)

    found = search(trainings[: len(accuracies)], lambda training: [1.0, 10.0], evaluate)
    return found, asked


def test_the_most_accurate_candidate_wins() -> None:
    found, asked = choice([0.5, 0.6], [0.7, 0.9], [0.8, 0.1])
    assert (found.training.scale, found.value) == ("none", 10.0)
    assert asked == ["standard 1", "none 1"]
    assert found.table["scale"] == ["standard"] * 2 + ["none"] * 2 + ["l2"] * 2
    assert found.table["value"] == [1.0, 10.0] * 3
    assert found.table["accuracy"] == [0.5, 0.6, 0.7, 0.9, 0.8, 0.1]
    assert found.table["std"] == pytest.approx([0.05, 0.06, 0.07, 0.09, 0.08, 0.01])


def test_of_equal_candidates_the_first_wins_whatever_the_last_bits_say() -> None:
    found, _ = choice([0.1, 0.3], [0.1 + 0.2, 0.3], [0.3, np.nextafter(0.3, 1)])
    assert (found.training.scale, found.value) == ("standard", 10.0)
