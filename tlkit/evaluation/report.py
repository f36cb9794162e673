"""The few lines that a command ends with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlkit.errors import some

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.classifier import Classifier
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble


def of_data(images: ImageData, inspection: Mapping[str, Any]) -> str:
    """Say what was found, with every warning."""
    head = f"{images.name}: {len(images):,} images, {len(images.classes)} classes ({images.split_sizes()})"
    return "\n".join([head, *(f"warning: {warning}" for warning in inspection["warnings"])])


def of_fit(images: ImageData, classifier: Classifier | Ensemble, metrics: Mapping[str, Any], run_dir: str) -> str:
    """Say what a run reached, where it is, and what to type next."""
    run = shlex.quote(run_dir)
    lines = [
        "",
        made(classifier),
        *_measured(images, metrics),
        f"results: {run_dir}",
        f"report:  {run_dir}/report.html",
        f"next:    tlkit predict run={run} images=FOLDER",
    ]
    return "\n".join(lines)


def made(classifier: Classifier | Ensemble) -> str:
    """Say what the classifier is: network, strategy, head, and how well that was expected to do."""
    from tlkit.classifier import Classifier

    training = classifier.training
    if not isinstance(classifier, Classifier):
        images = training.get("learned_from")
        fitted = f", fitted on {images:,} images" if images and isinstance(images, int) else ""
        return f"ensemble of {len(classifier.members)}, {classifier.voting} vote{fitted}"
    return f"{classifier.backbone.name}, {training['strategy']}{_what(classifier)}: {_chosen(training)}"


def _what(classifier: Classifier) -> str:
    trained = "kept" in classifier.training
    return "" if trained else f" ({classifier.training['head']}) on {'+'.join(classifier.taps)}"


def _chosen(training: Mapping[str, Any]) -> str:
    if trial := training.get("trial"):
        return f"a trial (trainer.fast_dev_run) of {trial} and no more: it runs; how well, it does not tell"
    if "kept" in training:
        named = {"validation": training["validation_accuracy"], "before training": training["start_accuracy"]}
        found = [f"{name} {value:.3f}" for name, value in named.items() if value is not None]
        return f"{training['kept']} is kept; accuracy: {', '.join(found) or 'not measured'}"
    accuracy = training["cv_accuracy"]
    measured = "too few images to cross-validate" if accuracy is None else f"cross-validated accuracy {accuracy:.3f}"
    values = {name: value if isinstance(value, str) else f"{value:g}" for name, value in training["chosen"].items()}
    return ", ".join([*(f"{name} = {value}" for name, value in values.items()), measured])


def of_evaluation(images: ImageData, metrics: Mapping[str, Any], folder: str) -> str:
    """Say what an evaluation measured and where it is."""
    return "\n".join([*_measured(images, metrics), f"results: {folder}"])


def _measured(images: ImageData, metrics: Mapping[str, Any]) -> list[str]:
    low, high = metrics["accuracy_interval"]
    top5 = f", top-5 {metrics['top5']:.3f}" if "top5" in metrics else ""
    unreadable = [f"{file} ({why})" for file, why in images.unreadable.items()]
    return [
        f"{metrics['split']} accuracy {metrics['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}) "
        f"on {metrics['n']:,} images{top5}",
        f"balanced accuracy {metrics['balanced_accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, "
        f"log loss {metrics['log_loss']:.3f}, ECE {metrics['ece']:.3f}",
        *([f"left out, unreadable: {len(unreadable)}: {some(unreadable)}"] if unreadable else []),
    ]


def of_predictions(predictions: pd.DataFrame, out: str) -> str:
    """Count the predicted classes and the unreadable files."""
    counts = predictions["predicted"].value_counts()
    named = some([f"{name} {count}" for name, count in counts.items()], 10)
    unreadable = predictions[predictions["error"].notna()]
    lines = [f"{len(predictions):,} files: {named or 'none labelled'}"]
    if len(unreadable):
        lines.append(f"unreadable: {len(unreadable)}: {some(unreadable['file'] + ' (' + unreadable['error'] + ')')}")
    return "\n".join([*lines, *([f"results: {out}"] if out != "-" else [])])
