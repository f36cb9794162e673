"""Paired comparison against numbers worked out by hand, the textbook's way of drawing, and what must always hold."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap, false_discovery_control

from tlkit.evaluation.paired import holm, mcnemar, paired_interval

Bools = NDArray[np.bool_]

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200).map(lambda rows: np.array(rows).T)


def answers(only_a: int, only_b: int, both: int, neither: int) -> tuple[Bools, Bools]:
    rows = [(1, 0)] * only_a + [(0, 1)] * only_b + [(1, 1)] * both + [(0, 0)] * neither
    a, b = np.array(rows, dtype=bool).T
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [*product(range(8), range(8)), (30, 12), (200, 160)])
def test_mcnemar_counts_the_ways_of_a_fair_coin(only_a: int, only_b: int) -> None:
    n, most = only_a + only_b, max(only_a, only_b)
    tail = sum(comb(n, k) for k in range(most, n + 1)) / 2**n
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_has_the_numbers_of_the_books() -> None:
    # Agresti 2002, section 10.1.4, approval of a prime minister: 86 and 150; statsmodels' mcnemar(exact=True) as well.
    assert mcnemar(86, 150) == pytest.approx(3.716e-05, rel=1e-3)
    assert mcnemar(6, 1) == pytest.approx(2 * 8 / 128)


@pytest.mark.parametrize(("only_a", "only_b", "both", "neither"), [(12, 5, 80, 3), (30, 30, 100, 0), (1, 9, 40, 2)])
def test_the_interval_is_that_of_drawing_images(only_a: int, only_b: int, both: int, neither: int) -> None:
    a, b = answers(only_a, only_b, both, neither)
    drawn = bootstrap(
        (a.astype(float) - b,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    difference, (low, high), _ = paired_interval(a, b, seed=1)
    assert difference == pytest.approx(a.mean() - b.mean())
    one_image = 1 / len(a)
    assert (low, high) == pytest.approx((drawn.low, drawn.high), abs=one_image + 1e-9)


def test_the_interval_is_near_the_formula_where_images_are_many() -> None:
    a, b = answers(600, 450, 8000, 950)
    _, (low, high), _ = paired_interval(a, b, seed=3)
    half = 1.959964 * np.std(a.astype(float) - b) / np.sqrt(len(a))
    assert (low, high) == pytest.approx((0.015 - half, 0.015 + half), abs=4e-4)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), 0
    for seed in range(400):
        both = random.random(300) < 0.7
        a, b = both | (random.random(300) < 0.4), both | (random.random(300) < 0.2)
        _, (low, high), _ = paired_interval(a, b, seed)
        held += low <= 0.3 * 0.2 <= high
    assert 0.92 < held / 400 < 0.98


@given(pair=PAIRS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_swapping_the_two_swaps_the_signs(pair: Bools, seed: int) -> None:
    a, b = pair
    there, back = paired_interval(a, b, seed), paired_interval(b, a, seed)
    assert back.difference == -there.difference
    assert back.interval == [-there.interval[1], -there.interval[0]]
    assert back.p == there.p


@given(pair=PAIRS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_the_order_of_the_images_does_not_matter(pair: Bools, seed: int) -> None:
    a, b = pair
    order = np.random.default_rng(seed).permutation(len(a))
    assert paired_interval(a[order], b[order], seed) == paired_interval(a, b, seed)


@given(right=st.lists(st.booleans(), min_size=1, max_size=100), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_the_same_answers_differ_by_nothing(right: list[bool], seed: int) -> None:
    assert paired_interval(right, right, seed) == (0.0, [0.0, 0.0], 1.0)


@given(pair=PAIRS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_what_comes_out_is_in_range(pair: Bools, seed: int) -> None:
    a, b = pair
    difference, (low, high), p = paired_interval(a, b, seed)
    assert -1 <= low <= high <= 1
    assert low - 1 / len(a) <= difference <= high + 1 / len(a)
    assert 0 < p <= 1


def test_holm_by_hand() -> None:
    # Holm 1979: 4 p-values, times 4, 3, 2, 1 from the smallest on, never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_holm_is_between_the_p_values_and_bonferroni(p: list[float]) -> None:
    found, values = holm(p), np.array(p)
    assert (found >= values).all()
    assert (found <= np.minimum(1, values * len(p))).all()
    assert (found >= false_discovery_control(values, method="bh") - 1e-12).all()  # which promises less
    assert (np.diff(found[np.argsort(values, kind="stable")]) >= 0).all()
    reject = []  # the procedure as Holm writes it: step down until one is not small enough
    for rank, value in enumerate(sorted(p)):
        if value * (len(p) - rank) >= 0.05:
            break
        reject.append(value)
    assert (found < 0.05).sum() == len(reject)


@pytest.mark.parametrize(("a", "b"), [([True], [True, False]), ([], []), ([[True]], [[True]])])
def test_other_images_are_refused(a: list[bool], b: list[bool]) -> None:
    with pytest.raises(ValueError, match="do not say the same images"):
        paired_interval(a, b, seed=1)
