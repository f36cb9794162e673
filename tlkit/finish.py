"""The end of a fit or an evaluation: pictures of what was judged, the report, and the metrics, which come last."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import results

if TYPE_CHECKING:
    import pandas as pd
    import PIL.Image

    from tlkit.classifier import Classifier
    from tlkit.codes import CodesStore
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble
    from tlkit.reports.page import Evidence

log = logging.getLogger(__name__)

_MANY_PASSES = 200


@dataclass(frozen=True)
class Judged:
    """A classifier and what it says.

    Attributes:
        classifier: or an ensemble.
        images: that were predicted, readable ones.
        predictions: a row an image.
        store: that has their codes.
    """

    classifier: Classifier | Ensemble
    images: ImageData
    predictions: pd.DataFrame
    store: CodesStore


def write(
    out: Path,
    metrics: dict[str, Any],
    judged: Judged,
    command: str,
    started: float,
    *,
    images: ImageData,
    inspection: Mapping[str, Any] | None = None,
    run: str | None = None,
) -> None:
    """Write pictures, tables and the report, and the metrics, which say that the run is whole.

    Args:
        out: The run directory.
        metrics: What was measured.
        judged: What it was measured on.
        command: What repeats the run, without "tlkit".
        started: When it began, by `time.perf_counter`.
        images: All images of the run, readable ones only.
        inspection: What `data.inspect` noticed about them.
        run: Directory of the run whose classifier is measured; None where it is this one.
    """
    from tlkit.classifier import Classifier
    from tlkit.reports import Shown

    seconds = time.perf_counter() - started
    if isinstance(judged.classifier, Classifier):  # an ensemble may have several networks
        _draw_maps(out, judged.classifier, judged)
    shown = Shown(judged.classifier, command, seconds, images, judged.images, inspection, run, _evidence(judged))
    results.write_results(out, metrics, judged.predictions, shown)


def _draw_maps(out: Path, classifier: Classifier, judged: Judged) -> None:
    """Draw some of the images by their codes, which the store has."""
    from tlkit import plots, reports

    rows = np.sort(np.random.default_rng(0).permutation(len(judged.images))[: reports.MOST])
    some = judged.images.select(rows)
    codes = judged.store.codes(classifier.backbone, some.images, classifier.taps)
    first_views = np.arange(len(some)) * codes.views
    tables = [np.asarray(codes.tables[tap].select(first_views)) for tap in classifier.taps]
    wrong = (judged.predictions["label"] != judged.predictions["predicted"]).to_numpy()[rows]
    again = judged.store.forwards == 0  # the first run on these codes has drawn it
    for name, (title, points) in reports.maps(tables, seed=0, tsne=not again).items():
        plots.save(plots.embedding(points, some.labels, classifier.classes, wrong, title), out / f"{name}.png")


def _evidence(judged: Judged) -> Evidence | None:
    """Return what draws Grad-CAM, where that takes little beside what was computed anyway."""
    if judged.store.forwards < _MANY_PASSES and "epochs" not in judged.classifier.training:
        return None
    return partial(_overlays, judged)


def _overlays(judged: Judged, rows: Sequence[int], labels: Sequence[int]) -> Sequence[PIL.Image.Image]:
    """Draw Grad-CAM; where that fails the run, which is done, does not."""
    from tlkit.visualize.overlays import overlays

    try:
        return overlays(judged.classifier, judged.images.images, rows, labels)
    except Exception as err:  # out of memory, say, or a network that gradients do not get through
        log.warning("report.html has no Grad-CAM: %s: %s", type(err).__name__, err)
        return []
