"""The page: facts of a run, every one escaped where the template puts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tlkit.classifier import Classifier
from tlkit.evaluation import report
from tlkit.evaluation.votes import verdicts
from tlkit.reports.thumbnails import data_uri, thumbnails
from tlkit.words import words

if TYPE_CHECKING:
    import pandas as pd
    import PIL.Image
    from jinja2 import Template

    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble

Evidence: TypeAlias = "Callable[[Sequence[int], Sequence[int]], Sequence[PIL.Image.Image]]"
"""From rows and classes to pictures of where the evidence for these classes is; none if it cannot be told."""

_MOST_SAMPLES, _SAMPLES_OF_A_CLASS = 96, 6
_PICTURES, _EXPLAINED = 12, 6  # of mistakes, and of hits; those with Grad-CAM
_CONFUSIONS = 10
_UNREADABLE = 50

_FIGURES = {
    "regularisation": "Cross-validated accuracy for each strength of regularisation",
    "accuracy_by_depth": "Cross-validated accuracy of each tap, from input to output",
    "training": "Losses and validation accuracy over the epochs",
    "confusion_matrix": "Confusion matrix: rows are true classes, columns predicted ones",
    "reliability": "How often predictions of each confidence are right",
    "pca": "Held-out images by the first two principal components of their codes; wrong predictions are ringed",
    "tsne": "Held-out images by t-SNE of their codes: near means alike, distances between groups mean nothing",
}


@dataclass(frozen=True)
class Shown:
    """What a report shows beside the results.

    Attributes:
        classifier: what predicted.
        command: what repeats the run, without "tlkit".
        seconds: that it took so far.
        images: all images of the run, readable ones only; None where the run has only what others said of them.
        part: those that were predicted, in the order of the predictions.
        inspection: `data.inspect` of all images, if that was done.
        run: directory of the run whose classifier is measured, as a user would type it; None where it is this one.
        evidence: draws where in the images of some rows the evidence for classes is, if that is wanted.
    """

    classifier: Classifier | Ensemble
    command: str
    seconds: float
    images: ImageData | None = None
    part: ImageData | None = None
    inspection: Mapping[str, Any] | None = None
    run: str | None = None
    evidence: Evidence | None = None


def page(
    shown: Shown,
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame,
    environment: Mapping[str, Any],
    folder: Path,
) -> str:
    """Return a run as one HTML page: no script, nothing fetched, every name escaped.

    Args:
        shown: the classifier and the images.
        metrics: what `evaluation.evaluate` returns, with the split, and of a fit the passes.
        predictions: a row an image of `shown.part`: file, label, predicted, probability, p(CLASS)...
        environment: what `runs.environment` returns.
        folder: where the run's pictures are.
    """
    classifier = shown.classifier
    what, _, how = report.made(classifier).partition(": ")
    mistakes, hits = _notable(predictions)
    facts: dict[str, Any] = {
        "shown": shown,
        "title": f"{shown.images.name}: {what}" if shown.images else what,
        "how": how,
        "written": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "metrics": metrics,
        "taps": classifier.taps,
        "network": classifier.backbone if isinstance(classifier, Classifier) else None,
        "training": classifier.training,
        "decision": _decision(classifier.training),
        "verdicts": verdicts(metrics["members"]) if "members" in metrics else (),
        "data": _data(shown.images, shown.inspection or {}) if shown.images else None,
        "samples": _samples(shown.images) if shown.images else None,
        "mistakes": _pictures(shown, predictions, mistakes),
        "hits": _pictures(shown, predictions, hits),
        "wrong": int((predictions["label"] != predictions["predicted"]).sum()),
        "confusions": _confusions(metrics["confusion_matrix"], classifier.classes),
        "figures": {name: _figure(folder, name, alt) for name, alt in _FIGURES.items()},
        "environment": environment,
    }
    return _template().render(facts)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": lambda n: f"{n:,}", "three": lambda x: f"{x:.3f}"}
    environment.globals["style"] = Markup((folder / "style.css").read_text(encoding="utf-8"))  # our own
    return environment.get_template("run.html")


def _decision(training: Mapping[str, Any]) -> dict[str, Any] | None:
    decision = training.get("decision")
    return decision and {**decision, "chosen": words(strategy=decision["choice"])}


def _data(images: ImageData, inspection: Mapping[str, Any]) -> dict[str, Any]:
    """Count the images of each class in each split, and list what is wrong with them."""
    splits = ["all"] if images.split is None else [s for s in ("train", "val", "test") if len(images.rows(s))]
    places = {s: np.arange(len(images)) if s == "all" else images.rows(s) for s in splits}
    columns = [np.bincount(images.labels[rows], minlength=len(images.classes)).tolist() for rows in places.values()]
    unreadable = list(images.unreadable.items())
    return {
        "source": ", ".join(f"{key}={value}" for key, value in images.source.items() if value is not None),
        "splits": splits,
        "sizes": [len(rows) for rows in places.values()],
        "rows": list(zip(images.classes, zip(*columns, strict=True), strict=True)),
        "warnings": [w for w in inspection.get("warnings", ()) if not w.startswith("Unreadable")],
        "imbalance": inspection.get("imbalance"),
        "duplicates": sum(len(files) - 1 for files in inspection.get("duplicates", ())),
        "unreadable": unreadable[:_UNREADABLE],
        "more_unreadable": len(unreadable[_UNREADABLE:]),
    }


def _samples(images: ImageData) -> dict[str, Any]:
    """Draw a few images of each class; of very many classes one image of some."""
    present = np.unique(images.labels)
    each = int(np.clip(_MOST_SAMPLES // max(len(present), 1), 1, _SAMPLES_OF_A_CLASS))
    labels = present if len(present) <= _MOST_SAMPLES else present[:: -(-len(present) // _MOST_SAMPLES)]
    draw = np.random.default_rng(0)
    rows = {label: draw.permutation(np.flatnonzero(images.labels == label))[:each] for label in labels.tolist()}
    pictures = iter(thumbnails(images.select(np.concatenate(list(rows.values()))).images))
    classes = [
        {"name": images.classes[label], "pictures": [(images.files[row], next(pictures)) for row in own.tolist()]}
        for label, own in rows.items()
    ]
    return {"classes": classes, "left_out": len(present) - len(labels), "single": each == 1}


def _notable(predictions: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Return the rows of the most confident mistakes and of the least confident hits."""
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    order = np.argsort(predictions["probability"].to_numpy(), kind="stable")
    return order[~right[order]][::-1][:_PICTURES].tolist(), order[right[order]][:_PICTURES].tolist()


def _pictures(shown: Shown, predictions: pd.DataFrame, rows: Sequence[int]) -> list[dict[str, Any]]:
    told = predictions.iloc[list(rows)]
    small: Sequence[str | None] = thumbnails(shown.part.select(rows).images) if shown.part else [None] * len(rows)
    drawn: list[str | None] = [None] * len(rows)
    if shown.evidence is not None and rows:
        some = [shown.classifier.classes.index(name) for name in told["predicted"].iloc[:_EXPLAINED]]
        found = thumbnails(shown.evidence(rows[:_EXPLAINED], some))
        drawn[: len(found)] = found
    return [
        {
            **{key: one[key] for key in ("file", "label", "predicted", "probability")},
            "of_truth": one[f"p({one['label']})"],
            "picture": picture,
            "evidence": evidence,
        }
        for (_, one), picture, evidence in zip(told.iterrows(), small, drawn, strict=True)
    ]


def _confusions(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Return the most frequent confusions: true class, predicted class, how often, of how many."""
    counts = np.array(matrix)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [divmod(place, len(classes)) for place in order.tolist()]
    return [(classes[t], classes[p], int(wrong[t, p]), int(counts[t].sum())) for t, p in pairs if wrong[t, p]]


def _figure(folder: Path, name: str, alt: str) -> dict[str, Any] | None:
    """Return the picture of that name that the run drew, if it did."""
    from PIL import Image

    path = folder / f"{name}.png"
    if not path.is_file():
        return None
    with Image.open(path) as image:
        width, height = image.size
    return {"uri": data_uri(path.read_bytes(), "png"), "alt": alt, "width": width, "height": height}
