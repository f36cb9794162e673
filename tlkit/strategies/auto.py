"""The choice of a strategy from what can be measured before anything is fitted."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from tlkit import registry
from tlkit.errors import UsageError
from tlkit.strategies.decision import TAPS, Decision, Measurements, Thresholds, decide
from tlkit.strategies.similarity import confidence, shift
from tlkit.words import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier
    from tlkit.codes import Codes
    from tlkit.data import ImageData
    from tlkit.strategies.resources import Resources

log = logging.getLogger(__name__)

_CONFIDENCE_IMAGES = 500
_SHIFT_IMAGES = 64


def auto(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    few_per_class: float = 500,
    few_images: float = 5000,
    many_per_class: float = 1000,
    confident: float = 0.55,
    shifted: float = 0.35,
) -> Classifier:
    """Choose among the strategies by size and similarity of the data, say why, and run the choice.

    Small and similar: a linear probe of the last tap. Small and different: a linear probe of the taps that
    cross-validation prefers. Large and similar: `partial`, with very many images `full`. Large and different: `full`.
    Similarity is measured without labels, or said: `data.similarity=similar` or `different`.

    Args:
        backbone: the network; it is not changed.
        data: labelled images; the train split is measured.
        resources: what the run shares.
        few_per_class: data is small below this median number of images of a class, and below `few_images`.
        few_images: images in all.
        many_per_class: median number of images of a class from which on similar data trains everything too.
        confident: data is similar if the mean confidence of the pretrained classifier is at least this, and `shifted`.
        shifted: data is similar if the statistics at the BatchNorm layers moved by at most this.

    Raises:
        TlkitError: what the chosen strategy raises.
    """
    limits = Thresholds(few_per_class, few_images, many_per_class, confident, shifted)
    measured = sizes(backbone, data)
    if measured.pretrained:
        blind = decide(measured, limits).choice
        taps = [tap.name for tap in backbone.taps] if blind == TAPS else ["pool"]
        codes = resources.store.codes(backbone, data.images, taps)  # ranks that only lend a hand stop here
        resources = replace(resources, store=resources.store.alone())
        measured = look(backbone, data, codes, resources.seed)
    decision = decide(measured, limits)
    record = {
        "quadrant": decision.quadrant,
        **asdict(decision),
        "command": f"tlkit fit ... {words(strategy=decision.runner_up)}",
        "measured": asdict(measured),
        "thresholds": asdict(limits),
    }
    log.log(logging.INFO if measured.pretrained else logging.WARNING, "%s", told(decision))
    refuse_several(decision, resources)
    chosen: Classifier = registry.build("strategy", decision.choice, backbone, data, resources)
    name = f"auto -> {chosen.training['strategy']}"
    return replace(chosen, training={**chosen.training, "strategy": name, "decision": record})


def refuse_several(decision: Decision, resources: Resources) -> None:
    """Stop before a training would wait for processes that have ended after their share of the pass.

    Raises:
        UsageError: there are several processes, and the choice is to train.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 or resources.trainer.get("devices", 1) not in (1, "1")
    if several and decision.choice["name"] != "linear_probe":
        raise UsageError(
            f"several processes train only what is named: add {words(strategy=decision.choice)}, which auto chose."
        )


def sizes(backbone: Backbone, data: ImageData) -> Measurements:
    """Count: images to learn from, all in all and of each class, and the numbers in the network."""
    counts = np.bincount(data.labels[data.rows("train")], minlength=len(data.classes))
    numbers = {name: parameter.numel() for name, parameter in backbone.module.named_parameters()}
    return Measurements(
        images=int(counts.sum()),
        classes=len(data.classes),
        fewest=int(counts.min()),
        median=float(np.median(counts)),
        pretrained=backbone.weights is not None,
        parameters=sum(numbers[name] for stage in backbone.stages for name in stage.parameters),
        said=data.similarity,
    )


def look(backbone: Backbone, data: ImageData, codes: Codes, seed: int) -> Measurements:
    """Count what can be read, and measure similarity unless the user has said it."""
    measured = sizes(backbone, data.without(codes.errors))
    if data.similarity is not None:
        return measured
    rows = np.array([row for row in data.rows("train") if row not in codes.errors], dtype=np.int64)
    pool = np.asarray(codes.table(["pool"], _drawn(rows, _CONFIDENCE_IMAGES, seed)))
    few = [data.images[row] for row in _drawn(rows, _SHIFT_IMAGES, seed)]
    return replace(measured, confidence=confidence(backbone, pool), shift=shift(backbone, few))


def _drawn(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def told(decision: Decision) -> str:
    """Say what was decided, from which numbers, and how to decide otherwise."""
    return "\n".join(
        [
            f"auto: the data is {decision.quadrant}",
            *(f"  {reason}" for reason in decision.reasons),
            f"  chosen: {words(strategy=decision.choice)}",
            f"  runner-up, to force it: tlkit fit ... {words(strategy=decision.runner_up)}",
        ]
    )
