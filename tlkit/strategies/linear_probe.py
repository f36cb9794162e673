"""CNN codes and a classifier on them: the frozen backbone is a fixed feature extractor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkit.errors import TlkitError, UsageError
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier, Unseen
    from tlkit.codes import Codes
    from tlkit.data import ImageData
    from tlkit.heads import Head
    from tlkit.strategies.resources import Resources

log = logging.getLogger(__name__)

_MOST_COMPARED = 10_000  # rows that taps are compared on; more would not tell them apart any better


def linear_probe(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    tap: str | list[str] = "pool",
    head: Literal["svm", "softmax", "ridge", "knn", "prototype"] = "svm",
    C: float | list[float] | None = None,
    alpha: float | list[float] | None = None,
    k: int | list[int] | None = None,
    scale: Literal["auto", "standard", "l2", "power", "none"] = "auto",
    class_weight: Literal["auto", "balanced"] | None = "auto",
    cv: int = 5,
    allow_random: bool = False,
) -> Classifier:
    """Fit a head on the codes of the train split (CS231n, "Transfer Learning"; Sharif Razavian et al. 2014).

    Args:
        backbone: the network; it is not changed.
        data: labelled images; only its train split is learned from.
        resources: what the run shares.
        tap: where the codes are taken; several taps are concatenated. "pool" is what enters the classifier; "auto"
            chooses one tap or up to three by cross-validation.
        head: "svm" (linear, one-vs-rest), "softmax" (multinomial logistic), "ridge" (least squares), "knn" (nearest
            neighbours) or "prototype" (nearest class mean).
        C: svm, softmax: inverse strength of the regularisation; several, or None for a grid, are compared by
            cross-validation.
        alpha: ridge: strength of the regularisation, likewise.
        k: knn: number of neighbours, likewise.
        scale: "standard" gives each dimension mean 0 and variance 1, measured inside each fold; "l2" gives each row the
            length 1, "power" after a signed square root; "auto" compares them, and "none", by cross-validation.
        class_weight: "balanced" weighs classes by the inverse of their size; "auto" does so when the largest is
            over three times the smallest.
        cv: folds of the cross-validation, stratified, and by group where the data has groups.
        allow_random: probe a backbone that has no pretrained weights.

    Raises:
        UsageError: no such tap, a setting of another head, or the backbone has no pretrained weights.
        TlkitError: unreadable images with `data.on_error=raise`, or too few are left.
    """
    from tlkit.classifier import Classifier
    from tlkit.codes import known_taps
    from tlkit.strategies.tap_search import choice

    taps = [tap.name for tap in backbone.taps] if tap == "auto" else known_taps(backbone, tap, "strategy.tap")
    refuse_random(backbone, allow_random)
    if resources.trainer:
        log.warning("warning: linear_probe trains nothing, so these have no effect: %s", _spelled(resources.trainer))
    settings = {"scale": scale, "class_weight": class_weight, "cv": cv, "random_state": resources.seed}
    make = _maker(head, {"C": C, "alpha": alpha, "k": k}, settings)
    started = time.perf_counter()
    codes = resources.store.codes(backbone, data.images, taps)
    extracted = time.perf_counter()
    data.without(codes.errors)  # stops here if the user wants unreadable files to stop the run
    rows = np.array([row for row in data.rows("train") if row not in codes.errors], dtype=np.int64)
    search: dict[str, Any] = {}
    if tap == "auto":
        taps, search = _chosen_taps(make, codes, taps, data, rows)
    fitted = make(parts=_parts(codes, taps))
    with progress(f"{head} on {len(rows) * codes.views:,} codes", None, "folds") as advance:
        fitted.fit(*_training(codes, taps, data, rows), progress=lambda done, total: advance(1))
    training = {
        "strategy": "linear_probe",
        "head": head,
        "parameter": fitted.parameter,
        "taps": list(taps),
        "dimensions": int(fitted.n_features_in_),
        "train_images": len(rows),
        "chosen": choice(fitted),
        "cv_accuracy": fitted.cv_accuracy_,
        "cv": fitted.cv_results_,
        **search,
        "seconds": {"codes": round(extracted - started, 2), "head": round(time.perf_counter() - extracted, 2)},
    }
    if convergence := getattr(fitted, "convergence_", None):
        training["convergence"] = convergence
    unseen = _out_of_fold(fitted, data, rows, codes.views)
    return Classifier(data.classes, backbone, tuple(taps), fitted, training, resources.store.recipe, unseen)


def _out_of_fold(head: Head, data: ImageData, rows: NDArray[np.int64], views: int) -> Unseen | None:
    """Return what the head's like said about each training image when it was not learned from."""
    from tlkit.classifier import Unseen
    from tlkit.heads.calibration import probabilities

    if head.oof_scores_ is None:
        return None
    each = probabilities(head.oof_scores_, head.temperature_).reshape(len(rows), views, -1)
    files = tuple(data.files[row] for row in rows)
    return Unseen(files, data.labels[rows], each.mean(axis=1).astype(np.float32))


def _maker(head: str, values: Mapping[str, Any], settings: Mapping[str, Any]) -> Callable[..., Head]:
    """Return a function that makes heads, after checking that their settings make sense."""
    from tlkit.heads import HEADS

    kind = HEADS[head]
    if strange := sorted(name for name, value in values.items() if value is not None and name != kind.parameter):
        own = f"It has strategy.{kind.parameter}." if kind.parameter else "It has nothing to choose."
        raise UsageError(f"strategy.{strange[0]}: no setting of strategy.head={head}. {own}")
    own_value = {kind.parameter: values[kind.parameter]} if kind.parameter else {}

    def make(**changed: Any) -> Head:  # noqa: ANN401
        made: Head = kind(**{**own_value, **settings, **changed})
        return made

    try:
        make().check_settings()
    except UsageError as err:
        raise UsageError(f"strategy.{err}") from err
    return make


def _chosen_taps(
    make: Callable[..., Head], codes: Codes, taps: Sequence[str], data: ImageData, rows: NDArray[np.int64]
) -> tuple[list[str], dict[str, Any]]:
    from tlkit.strategies.tap_search import choose_taps

    some = _sample(data.labels, rows, _MOST_COMPARED // codes.views, make().random_state)

    def fit(chosen: Sequence[str], scale: str | None) -> Head:
        own = {} if scale is None else {"scale": scale}
        head = make(parts=_parts(codes, chosen), **own)
        return head.fit(*_training(codes, chosen, data, some))

    best, table = choose_taps(taps, np.repeat(data.labels[some], codes.views), fit)
    log.info("taps %s: cross-validated accuracy %.3f", " + ".join(best.taps), best.accuracy)
    return list(best.taps), {"tap_search": [asdict(candidate) for candidate in table], "compared_on": len(some)}


def _parts(codes: Codes, taps: Sequence[str]) -> list[int] | None:
    """Return the widths of several taps, which then get the same weight."""
    return [codes.tables[tap].shape[1] for tap in taps] if len(taps) > 1 else None


def _sample(labels: NDArray[np.int64], rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return about `most` of the rows, with the shares of the classes that they have, and two of each at least."""
    if len(rows) <= most:
        return rows
    draw, kept = np.random.default_rng(seed), []
    for label in np.unique(labels[rows]):
        own = draw.permutation(rows[labels[rows] == label])
        kept.append(own[: max(2, round(most * len(own) / len(rows)))])
    return np.sort(np.concatenate(kept))


def _training(
    codes: Codes, taps: Sequence[str], data: ImageData, rows: NDArray[np.int64]
) -> tuple[Any, NDArray[np.int64], NDArray[Any] | None]:
    """Return codes, labels and groups of some images; all views of an image are one group."""
    groups = None if data.groups is None else data.groups[rows]
    if codes.views > 1:
        groups = np.repeat(np.arange(len(rows)) if groups is None else groups, codes.views)
    return codes.table(taps, rows), np.repeat(data.labels[rows], codes.views), groups


def _spelled(trainer: Mapping[str, Any]) -> str:
    return ", ".join(f"trainer.{key}={value}" for key, value in trainer.items())


def refuse_random(backbone: Backbone, allow_random: bool) -> None:
    """Stop before codes of a network that has learned nothing are taken for a result.

    Raises:
        TlkitError: the backbone has no pretrained weights and nobody asked for that.
    """
    if backbone.weights is None and not allow_random:
        raise TlkitError(
            f"{backbone.name} has random weights, so its codes mean nothing: give pretrained ones, "
            "backbone.weights=PATH (a folder with config.json and model.safetensors, or a .safetensors file), "
            "train all of it with strategy=scratch, or give strategy.allow_random=true to measure just that."
        )
