"""The choice of taps, with real heads on codes in which it is known where the answer is."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tlkit.heads import Head, LinearSVM
from tlkit.strategies.tap_search import Candidate, choose_taps

TAPS = ["early", "middle", "pool"]


def _choose(codes: dict[str, NDArray[np.float32]], labels: NDArray[np.int64]) -> tuple[Candidate, list[Candidate]]:
    def fit(taps: Sequence[str], scale: str | None) -> Head:
        x = np.concatenate([codes[tap] for tap in taps], axis=1)
        return LinearSVM(C=[1e-3, 1e-1], scale=scale or "standard").fit(x, labels)

    return choose_taps(TAPS, labels, fit)


def _codes(signal: dict[str, float], *, n: int = 200) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Noise in each tap, and in the first column of some as much of the label as `signal` says."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, n)
    codes = {tap: draw.normal(size=(n, 5)).astype(np.float32) for tap in TAPS}
    for tap, strength in signal.items():
        codes[tap][:, 0] += strength * labels
    return codes, labels.astype(np.int64)


@pytest.mark.parametrize("tap", TAPS)
def test_the_tap_that_knows_is_taken_alone(tap: str) -> None:
    best, table = _choose(*_codes({tap: 6.0}))
    assert best.taps == (tap,)
    assert [candidate.taps for candidate in table[:3]] == [(name,) for name in TAPS]
    assert best.accuracy > 0.95


def test_two_taps_that_know_a_part_each_are_put_side_by_side() -> None:
    best, _ = _choose(*_codes({"early": 1.8, "pool": 1.8}))
    assert set(best.taps) == {"early", "pool"}


def test_without_a_reason_it_stays_with_the_last() -> None:
    best, table = _choose(*_codes(dict.fromkeys(TAPS, 6.0)))
    assert best.taps == ("pool",)
    assert len(table) == 5


def test_too_few_images_to_compare() -> None:
    codes = {tap: np.eye(2, 3, dtype=np.float32) for tap in TAPS}
    best, _ = _choose(codes, np.array([0, 1]))
    assert best.taps == ("pool",)
