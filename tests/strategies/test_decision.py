"""The decision: what it is for data that is known, and what it must be for any."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit.strategies.decision import (
    FULL,
    LAST_TAP,
    PARTIAL,
    RANDOM,
    SCRATCH,
    TAPS,
    Measurements,
    Thresholds,
    decide,
)
from tlkit.words import words

LIMITS = Thresholds(few_per_class=500, few_images=5000, many_per_class=1000, confident=0.55, shifted=0.35)
LADDER = [LAST_TAP, TAPS, PARTIAL, FULL]  # what learns more comes later


def measurements() -> st.SearchStrategy[Measurements]:
    return st.builds(
        Measurements,
        images=st.integers(2, 10**7),
        classes=st.integers(2, 10**4),
        fewest=st.integers(1, 10**5),
        median=st.floats(1, 10**6),
        pretrained=st.booleans(),
        parameters=st.integers(1, 10**9),
        confidence=st.none() | st.floats(0, 1),
        shift=st.none() | st.floats(0, 10),
        said=st.sampled_from([None, "similar", "different"]),
    )


def limits() -> st.SearchStrategy[Thresholds]:
    number = st.floats(0, 10**6)
    return st.builds(Thresholds, number, number, number, st.floats(0, 1), st.floats(0, 10))


def measured(**known: Any) -> Measurements:  # noqa: ANN401
    usual = Measurements(images=244, classes=2, fewest=121, median=122, pretrained=True, parameters=2_000_000)
    return replace(usual, **known)


@pytest.mark.parametrize(
    ("known", "quadrant", "choice"),
    [
        ({"confidence": 0.74, "shift": 0.20}, "small and similar", LAST_TAP),  # ants and bees
        ({"confidence": 0.30, "shift": 0.54}, "small and different", TAPS),
        ({"confidence": 0.74, "shift": 0.54}, "small and different", TAPS),  # one sign of two
        ({"confidence": 0.74}, "small and similar", LAST_TAP),
        ({}, "small, of unknown similarity", TAPS),
        ({"median": 600, "confidence": 0.74}, "large and similar", PARTIAL),
        ({"median": 6000, "confidence": 0.74}, "large and similar", FULL),
        ({"images": 8144, "median": 42, "shift": 0.2}, "large and similar", PARTIAL),
        ({"median": 600, "shift": 0.6}, "large and different", FULL),
        ({"confidence": 0.74, "said": "different"}, "small and different", TAPS),
        ({"confidence": 0.30, "said": "similar"}, "small and similar", LAST_TAP),
        ({"pretrained": False}, "small, of unknown similarity", SCRATCH),
    ],
)
def test_quadrants(known: dict[str, Any], quadrant: str, choice: dict[str, Any]) -> None:
    decision = decide(measured(**known), LIMITS)
    assert (decision.quadrant, decision.choice) == (quadrant, choice)


@given(measurements(), limits())
def test_there_is_always_a_decision_and_another_one(record: Measurements, borders: Thresholds) -> None:
    decision = decide(record, borders)
    assert decision == decide(record, borders)
    assert decision.choice in ([*LADDER] if record.pretrained else [SCRATCH])
    assert decision.runner_up in [*LADDER, RANDOM]
    assert decision.runner_up != decision.choice
    assert all(decision.reasons)
    assert words(strategy=decision.choice).startswith("strategy=")


@given(measurements(), limits(), st.integers(0, 10**6), st.floats(0, 10**6))
def test_more_images_never_train_less(record: Measurements, borders: Thresholds, more: int, each: float) -> None:
    record = replace(record, pretrained=True)
    richer = replace(record, images=record.images + more, median=record.median + each)
    assert LADDER.index(decide(richer, borders).choice) >= LADDER.index(decide(record, borders).choice)


@given(measurements(), limits(), st.floats(0, 1), st.floats(0, 1))
def test_more_similar_data_never_counts_as_less_similar(
    record: Measurements, borders: Thresholds, surer: float, nearer: float
) -> None:
    similar = replace(
        record,
        confidence=None if record.confidence is None else record.confidence + surer * (1 - record.confidence),
        shift=None if record.shift is None else record.shift * nearer,
    )
    order: list[Literal["different", "unknown", "similar"]] = ["different", "unknown", "similar"]
    assert order.index(decide(similar, borders).similarity) >= order.index(decide(record, borders).similarity)


@given(measurements(), limits())
def test_similar_data_never_trains_more_than_different_data(record: Measurements, borders: Thresholds) -> None:
    record = replace(record, pretrained=True)
    alike, unlike = (decide(replace(record, said=said), borders).choice for said in ("similar", "different"))
    assert LADDER.index(alike) <= LADDER.index(unlike)


def test_reasons_have_the_numbers_in_them() -> None:
    text = "\n".join(decide(measured(confidence=0.74, shift=0.2), LIMITS).reasons)
    for part in (
        "244 images of 2 classes, 122 of a class (the smallest 121), for 2.0 M",
        "classifier 0.74; similar from 0.55",
        "shift of",
    ):
        assert part in text
