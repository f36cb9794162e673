"""From a few measurements to a strategy: the rules of thumb of CS231n, "Transfer Learning", as a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Settings = Mapping[str, Any]
"""A strategy's name and its settings, as in a configuration."""

LAST_TAP: Settings = {"name": "linear_probe"}
TAPS: Settings = {"name": "linear_probe", "tap": "auto"}
PARTIAL: Settings = {"name": "partial", "train_last": 1}
FULL: Settings = {"name": "full"}
SCRATCH: Settings = {"name": "scratch"}
RANDOM: Settings = {"name": "linear_probe", "allow_random": True}


@dataclass(frozen=True)
class Measurements:
    """What is decided from; fit for JSON.

    Attributes:
        images: To learn from.
        classes: Of these images.
        fewest: Images of the smallest class.
        median: Images of a class, the median.
        pretrained: Whether the network has learned something already.
        parameters: Numbers in the network, outside its classifier.
        confidence: `similarity.confidence`; None where it cannot be measured.
        shift: `similarity.shift`; None where it cannot be measured.
        said: What the user says about similarity; nothing is measured then.
    """

    images: int
    classes: int
    fewest: int
    median: float
    pretrained: bool
    parameters: int
    confidence: float | None = None
    shift: float | None = None
    said: Literal["similar", "different"] | None = None


@dataclass(frozen=True)
class Thresholds:
    """Where small ends and similar begins; `conf/strategy/auto.yaml` says where the numbers come from.

    Attributes:
        few_per_class: Data is small below this median number of images of a class...
        few_images: ... and below this number of images.
        many_per_class: From this median number of images on, similar data trains the whole network too.
        confident: Data is similar from this confidence on...
        shifted: ... and up to this shift.
    """

    few_per_class: float
    few_images: float
    many_per_class: float
    confident: float
    shifted: float


@dataclass(frozen=True)
class Decision:
    """What to do and why; fit for JSON.

    Attributes:
        size: Of the data.
        similarity: To what the network was pretrained on.
        choice: The strategy.
        runner_up: What would be next.
        reasons: Sentences with the numbers in them.
    """

    size: Literal["small", "large"]
    similarity: Literal["similar", "different", "unknown"]
    choice: Settings
    runner_up: Settings
    reasons: tuple[str, ...]

    @property
    def quadrant(self) -> str:
        """Size and similarity in words."""
        if self.similarity == "unknown":
            return f"{self.size}, of unknown similarity"
        return f"{self.size} and {self.similarity}"


def decide(measured: Measurements, limits: Thresholds) -> Decision:
    """Choose a strategy.

    Similar is what all that was measured calls similar. Unknown counts as different: what is right for different data
    costs only time on similar data, for it compares the last tap too, or trains the last stages too.
    """
    size: Literal["small", "large"] = "small" if _is_small(measured, limits) else "large"
    similarity = _similarity(measured, limits)
    if not measured.pretrained:
        choice, runner_up, why = SCRATCH, RANDOM, "the network has random weights, so there is nothing to transfer"
    elif size == "small" and similarity == "similar":
        choice, runner_up, why = LAST_TAP, TAPS, "few images and good features: a linear classifier on the last"
    elif size == "small":
        choice, runner_up, why = TAPS, FULL, "few images, and the last features may be too special: earlier ones too"
    elif similarity == "similar" and measured.median < limits.many_per_class:
        choice, runner_up, why = PARTIAL, FULL, "images enough to train the last stage, which is near its goal already"
    elif similarity == "similar":
        choice, runner_up, why = FULL, PARTIAL, "images enough to train everything"
    else:
        choice, runner_up, why = FULL, TAPS, "images enough to train everything, and all of it has to change"
    return Decision(size, similarity, choice, runner_up, (_on_size(measured, limits), *_seen(measured, limits), why))


def _is_small(measured: Measurements, limits: Thresholds) -> bool:
    return measured.median < limits.few_per_class and measured.images < limits.few_images


def _similarity(measured: Measurements, limits: Thresholds) -> Literal["similar", "different", "unknown"]:
    if measured.said is not None:
        return measured.said
    signs = [
        *([] if measured.confidence is None else [measured.confidence >= limits.confident]),
        *([] if measured.shift is None else [measured.shift <= limits.shifted]),
    ]
    if not signs:
        return "unknown"
    return "similar" if all(signs) else "different"


def _on_size(measured: Measurements, limits: Thresholds) -> str:
    return (
        f"{measured.images:,} images of {measured.classes:,} classes, {measured.median:g} of a class (the smallest "
        f"{measured.fewest:,}), for {measured.parameters / 1e6:.1f} M parameters; "
        f"small is below {limits.few_per_class:g} of a class and {limits.few_images:,g} in all"
    )


def _seen(measured: Measurements, limits: Thresholds) -> list[str]:
    """Say what is known about similarity."""
    if not measured.pretrained:
        return []
    if measured.said is not None:
        return [f"data.similarity={measured.said}"]
    known = []
    if measured.confidence is not None:
        known.append(
            f"confidence of the pretrained classifier {measured.confidence:.2f}; similar from {limits.confident:g} on"
        )
    if measured.shift is not None:
        known.append(f"shift of the BatchNorm statistics {measured.shift:.2f}; similar up to {limits.shifted:g}")
    unknown = "no classifier of many classes and no BatchNorm statistics: similarity is unknown, taken for different"
    return known or [unknown]
