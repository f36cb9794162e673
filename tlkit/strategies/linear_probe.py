"""CNN codes and a linear SVM: the frozen backbone is a fixed feature extractor."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from tlkit.errors import TlkitError, UsageError
from tlkit.progress import progress

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier
    from tlkit.data import ImageData
    from tlkit.strategies.resources import Resources

log = logging.getLogger(__name__)


def linear_probe(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    tap: str | list[str] = "pool",
    C: float | list[float] | None = None,
    scale: Literal["standard", "none"] = "standard",
    class_weight: Literal["auto", "balanced"] | None = "auto",
    cv: int = 5,
    allow_random: bool = False,
) -> Classifier:
    """Fit a linear SVM on the codes of the train split (CS231n, "Transfer Learning"; Sharif Razavian et al. 2014).

    Args:
        backbone: the network; it is not changed.
        data: labelled images; only its train split is learned from.
        resources: what the run shares.
        tap: where the codes are taken; several taps are concatenated. "pool" is what enters the classifier.
        C: inverse strength of the regularisation; several, or None for a grid, are compared by cross-validation.
        scale: "standard" gives each dimension mean 0 and variance 1, measured inside each fold.
        class_weight: "balanced" weighs classes by the inverse of their size; "auto" does so when the largest is
            over three times the smallest.
        cv: folds of the cross-validation, stratified, and by group where the data has groups.
        allow_random: probe a backbone that has no pretrained weights.

    Raises:
        UsageError: no such tap, or the backbone has no pretrained weights.
        TlkitError: unreadable images with `data.on_error=raise`, or too few are left.
    """
    from tlkit.classifier import Classifier
    from tlkit.codes import known_taps
    from tlkit.heads import LinearSVM

    taps = known_taps(backbone, tap, "strategy.tap")
    refuse_random(backbone, allow_random)
    if resources.trainer:
        log.warning("warning: linear_probe trains nothing, so these have no effect: %s", _spelled(resources.trainer))
    svm = LinearSVM(C=C, scale=scale, class_weight=class_weight, cv=cv, random_state=resources.seed)
    try:
        svm.check_settings()
    except UsageError as err:
        raise UsageError(f"strategy.{err}") from err
    started = time.perf_counter()
    codes = resources.store.codes(backbone, data.images, taps)
    extracted = time.perf_counter()
    data.without(codes.errors)  # stops here if the user wants unreadable files to stop the run
    rows = [row for row in data.rows("train") if row not in codes.errors]
    x, y = codes.concatenated()[rows], data.labels[rows]
    groups = None if data.groups is None else data.groups[rows]
    with progress(f"linear SVM on {len(rows):,} codes", cv + 1, "folds") as advance:
        svm.fit(x, y, groups=groups, progress=lambda done, total: advance(1))
    training = {
        "strategy": "linear_probe",
        "taps": taps,
        "dimensions": int(x.shape[1]),
        "train_images": len(rows),
        "C": float(svm.C_),
        "cv_accuracy": svm.cv_accuracy_,
        "cv": svm.cv_results_,
        "seconds": {"codes": round(extracted - started, 2), "head": round(time.perf_counter() - extracted, 2)},
    }
    return Classifier(data.classes, backbone, tuple(taps), svm, training)


def _spelled(trainer: Mapping[str, Any]) -> str:
    return ", ".join(f"trainer.{key}={value}" for key, value in trainer.items())


def refuse_random(backbone: Backbone, allow_random: bool) -> None:
    """Stop before codes of a network that has learned nothing are taken for a result.

    Raises:
        TlkitError: the backbone has no pretrained weights and nobody asked for that.
    """
    if backbone.weights is None and not allow_random:
        raise TlkitError(
            f"{backbone.name} has random weights, so its codes mean nothing: a probe needs pretrained ones. Give "
            "backbone.weights=PATH (a folder with config.json and model.safetensors, or a .safetensors file), "
            "or strategy.allow_random=true if that is what you want to measure."
        )
