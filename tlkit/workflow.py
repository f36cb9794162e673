"""What each command does: the whole system in a few functions. Keyword-only parameters are the top-level settings."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkit import combine, finish, ranks, registry, results, runs, validate
from tlkit.backbone_list import backbones
from tlkit.codes.listing import codes
from tlkit.comparison import compare
from tlkit.errors import TlkitError, UsageError, some
from tlkit.lr_find import lr_find
from tlkit.plugin_list import plugins
from tlkit.progress import progress
from tlkit.sources import build_backbone, data_of, lasting, load_data, new_data, prediction_store
from tlkit.summaries import summary
from tlkit.training.loggers import Name
from tlkit.training.settings import check_sharing
from tlkit.visualize.command import visualize

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.classifier import Classifier
    from tlkit.codes import CodesStore
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble

log = logging.getLogger(__name__)

_SHARED = ("fit", "extract")  # commands whose frozen pass several processes share


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, the classifier, what it reached, and its held-out predictions."""

    path: Path
    classifier: Classifier | Ensemble
    metrics: dict[str, Any]
    predictions: pd.DataFrame

    @property
    def report(self) -> Path:
        """The page that shows all of it."""
        return self.path / runs.REPORT


def run(command: str, config: Mapping[str, Any], run_dir: Path) -> None:
    """Check the configuration of a command, then do it.

    Raises:
        UsageError: settings that do not fit, all of them at once.
        TlkitError: what the command raises.
    """
    ranks.refuse_strangers()
    if ranks.launched() and command not in _SHARED:
        return  # the first rank does it
    functions: dict[str, Callable[..., Any]] = {
        "fit": partial(fit, run_dir),
        "lr-find": partial(lr_find, run_dir),
        "ensemble": partial(combine.ensemble, run_dir),
        "evaluate": evaluate,
        "predict": predict,
        "extract": extract,
        "compare": compare,
        "visualize": visualize,
        "codes": codes,
        "plugins": plugins,
        "backbones": backbones,
        "summary": summary,
    }
    validate.check(functions[command], config)
    with ranks.joined() if command in _SHARED else nullcontext():
        if ranks.launched():
            _lend_a_hand(**config)
        else:
            functions[command](**config)


def _lend_a_hand(
    *,
    data: dict[str, Any],
    backbone: dict[str, Any],
    codes: dict[str, Any],
    cache: dict[str, Any],
    seed: int,
    resume: str | None = None,
    logger: str | list[str] | None = None,
    strategy: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    taps: str | list[str] = "pool",
    out: str = "",
) -> None:
    """Do what every rank but the first does: its share of the passes, and nothing that is written or printed."""
    from tlkit.codes import CodesStore, ShareDone, cache_at, known_taps
    from tlkit.strategies import Resources

    store = CodesStore(cache_at(**cache), **codes).sharing()
    images = load_data(data, seed)
    network = build_backbone(backbone, seed)
    with suppress(ShareDone):
        if strategy is None:
            store.codes(network, images.images, known_taps(network, taps, "taps"))
        else:
            registry.build("strategy", strategy, network, images, Resources(store, trainer or {}, seed))


def fit(
    run_dir: Path,
    *,
    data: dict[str, Any],
    backbone: dict[str, Any],
    strategy: dict[str, Any],
    codes: dict[str, Any],
    cache: dict[str, Any],
    trainer: dict[str, Any],
    seed: int,
    logger: Name | list[Name] | None = None,
    resume: str | None = None,
) -> Run:
    """Train a classifier, evaluate it on the held-out split, and write the run directory.

    Raises:
        TlkitError: what stops it; nothing is left behind then but a checkpoint to `resume` from, if there is one.
    """
    from tlkit.codes import CodesStore, cache_at
    from tlkit.data import inspect
    from tlkit.ensembles.ensemble import Ensemble
    from tlkit.evaluation import report
    from tlkit.strategies import Resources
    from tlkit.training.loggers import chosen, logged

    started = time.perf_counter()
    names = chosen(logger)
    data = {key: lasting(key, value) for key, value in data.items()}
    groups = {"data": data, "backbone": backbone, "strategy": strategy, "codes": codes, "cache": cache}
    record = {**groups, "trainer": trainer, "seed": seed, "logger": logger}
    processes = _processes(strategy, trainer)
    with (
        runs.directory(Path(resume or run_dir), record, resume=resume is not None) as out,
        ranks.started(processes, [sys.executable, "-m", "tlkit", "_rank", str(out)]),
        logged(names, out, record) as logs,
    ):
        store = CodesStore(cache_at(**cache), **codes)
        with progress("looking the images over"):
            images = load_data(data, seed)
            inspection = inspect(images)
        log.info(report.of_data(images, inspection))
        network = build_backbone(backbone, seed)
        classifier = registry.build("strategy", strategy, network, images, Resources(store, trainer, seed, out, logs))
        store = store.alone()  # other ranks have done their share
        held_out = images.held_out
        images = images.without(store.codes(network, images.images, classifier.taps).errors)
        metrics, predictions, part = measure(classifier, images, held_out, store)
        if isinstance(classifier, Ensemble):
            metrics = combine.judged(classifier, combine.said_of(classifier, part, store), store, seed)[0] | metrics
            results.write_members(out, metrics["members"])
        metrics |= {"unreadable": len(images.unreadable), "passes": store.passes, "training": classifier.training}
        classifier.save(out / runs.MODEL)
        results.write_training(classifier.training, out)
        results.write_data(out, images, inspection)
        command = results.spelled("fit", record)
        judged = finish.Judged(classifier, part, predictions, store)
        finish.write(out, metrics, judged, command, started, images=images, inspection=inspection)
        logs.result(metrics, classifier.training)
    extra = combine.report(metrics) if isinstance(classifier, Ensemble) else []
    print("\n".join([*extra, report.of_fit(images, classifier, metrics, runs.short(out))]))
    return Run(out, classifier, metrics, predictions)


def _processes(strategy: Mapping[str, Any], trainer: Mapping[str, Any]) -> int:
    """Return how many processes this one has to begin with; those of torchrun are there already."""
    from tlkit.strategies import TRAINED

    check_sharing(trainer, strategy)
    devices = trainer.get("devices", 1)
    trains = strategy["name"] in TRAINED
    return devices if trains and isinstance(devices, int) and "WORLD_SIZE" not in os.environ else 1


def rank(run_dir: Path) -> None:
    """Be another rank of the run that was begun in a directory."""
    ranks.end_with_the_first()
    run("fit", {**runs.read_config(run_dir), "resume": str(run_dir)}, run_dir)


def resumed(settings: Mapping[str, Any], *, alone: bool) -> dict[str, Any]:
    """Return the settings of the unfinished run that the setting `resume` names.

    Args:
        settings: composed; what was given beside `resume` has to be what the run was asked for.
        alone: nothing was given beside `resume`.

    Raises:
        TlkitError: no such run, or it is finished.
        UsageError: other settings were given.
    """
    run_dir = runs.unfinished(settings["resume"])
    asked = runs.read_config(run_dir)
    given = {**settings, "data": {key: lasting(key, value) for key, value in settings["data"].items()}}
    changed = [name for name, value in asked.items() if given.get(name) != value]
    if changed and not alone:
        values = some([f"{name} was {asked[name]}, is now {given.get(name)}" for name in changed])
        raise UsageError(
            f"resume={settings['resume']}: the run was asked for something else: {values}. Leave these out."
        )
    return {**asked, "resume": str(run_dir)}


def evaluate(
    *,
    run: str,
    data: dict[str, Any] | None = None,
    split: Literal["train", "val", "test", "all"] | None,
    out: str | None,
    weights: str | None,
    codes: dict[str, Any],
    cache: dict[str, Any],
) -> Run:
    """Measure a saved run on labelled images, its own held-out split by default; classes are aligned by name.

    Raises:
        TlkitError: no such run, or the images have classes that the run does not know.
    """
    from tlkit.ensembles.ensemble import load_classifier
    from tlkit.evaluation import report

    started = time.perf_counter()
    source = runs.find(run)
    images = new_data(data) if data else data_of(source)
    classifier = load_classifier(source / runs.MODEL, weights)
    images = images.aligned(classifier.classes)
    chosen = split or images.held_out
    folder = Path(out) if out else source / "evaluations" / f"{images.name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
    record = {"run": str(run), "data": data, "split": chosen, "weights": weights, "codes": codes}
    with runs.directory(folder, record) as folder:
        store = prediction_store(classifier, codes, cache)
        metrics, predictions, images = measure(classifier, images, chosen, store)
        command = results.spelled("evaluate", record)
        judged = finish.Judged(classifier, images, predictions, store)
        finish.write(folder, metrics, judged, command, started, images=images, run=runs.short(source))
    print(report.of_evaluation(images, metrics, runs.short(folder)))
    return Run(folder, classifier, metrics, predictions)


def predict(
    *,
    run: str,
    images: str | list[str],
    out: str,
    weights: str | None,
    codes: dict[str, Any],
    cache: dict[str, Any],
) -> pd.DataFrame:
    """Label images with a saved run: one row a file, also an unreadable one, as CSV, JSON lines or Parquet.

    Raises:
        TlkitError: no such run or no such images.
        UsageError: `out` has another extension.
    """
    from tlkit import tables
    from tlkit.data import find_images
    from tlkit.ensembles.ensemble import load_classifier
    from tlkit.evaluation import report

    tables.check_extension(out)
    paths = find_images(images)
    classifier = load_classifier(runs.find(run) / runs.MODEL, weights)
    store = prediction_store(classifier, codes, cache)
    predictions = classifier.predict(paths, store=store)
    tables.write(predictions, out)
    log.info(report.of_predictions(predictions, out))
    return predictions


def extract(
    *,
    data: dict[str, Any],
    backbone: dict[str, Any],
    taps: str | list[str],
    out: str,
    codes: dict[str, Any],
    cache: dict[str, Any],
    seed: int,
) -> Path:
    """Write the codes of labelled images, with file, label and split: a folder of .npy files and a Parquet index.

    An `out` that ends in .parquet, .safetensors or .h5 is one file with everything.

    Raises:
        TlkitError: what stops it; nothing is left behind then.
    """
    from tlkit.codes import CodesStore, cache_at, export_format, known_taps, write_codes

    one_file = export_format(Path(out)) != "npy"
    if one_file and Path(out).exists():
        raise TlkitError(f"{out} is there already. Choose another name, or remove it.")
    data = {key: lasting(key, value) for key, value in data.items()}
    record = {"data": data, "backbone": backbone, "taps": taps, "codes": codes, "cache": cache, "seed": seed}
    with nullcontext(Path(out)) if one_file else runs.directory(Path(out), record) as target:
        store = CodesStore(cache_at(**cache), **codes)
        images = load_data(data, seed)
        network = build_backbone(backbone, seed)
        found = store.codes(network, images.images, known_taps(network, taps, "taps"))
        if images.on_error == "raise":
            images.without(found.errors)
        write_codes(target, found, images)
    shapes = ", ".join(f"{tap} {table.shape}" for tap, table in found.tables.items())
    print(f"{out}: {shapes}")
    if found.errors:
        print(f"unreadable: {some([f'{images.files[row]} ({why})' for row, why in found.errors.items()])}")
    return Path(out)


def measure(
    classifier: Classifier | Ensemble, images: ImageData, split: str, store: CodesStore
) -> tuple[dict[str, Any], pd.DataFrame, ImageData]:
    """Predict one split, or "all", of labelled images and compute the metrics.

    Returns:
        metrics, predictions, and the readable images they are about.

    Raises:
        TlkitError: the split is empty, or nothing in it can be read.
    """
    from tlkit.classifier import predictions_table
    from tlkit.evaluation import evaluate as metrics_of

    rows = np.arange(len(images)) if split == "all" else images.rows(split)
    if len(rows) == 0:
        raise TlkitError(f"split={split}: {images.name} has no such images. Splits: {images.split_sizes()}.")
    part = replace(images.select(rows), split=np.full(len(rows), "test"))  # nothing is learned from them here
    probabilities, errors = classifier.judge(part.images, store)
    part = part.without(errors)
    if len(part) == 0:
        raise TlkitError(f"split={split}: not one of its {len(rows)} images can be read.")
    probabilities = probabilities[[row for row in range(len(rows)) if row not in errors]]
    measured = metrics_of(probabilities, part.labels, classifier.classes)
    metrics = {"split": split, "unreadable": len(part.unreadable), **measured}
    predictions = predictions_table(classifier.classes, probabilities, {}, part.files)
    predictions.insert(1, "label", [part.classes[label] for label in part.labels])
    return metrics, predictions.drop(columns="error"), part
