"""What a run directory tells: tables, figures of merit and plots of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit import files, runs

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.classifier import Classifier
    from tlkit.data import ImageData


def write_data(out: Path, images: ImageData, inspection: Mapping[str, Any]) -> None:
    """Write every image with its split, and what was noticed about all of them."""
    import pandas as pd

    from tlkit import tables

    record = {**inspection, "source": images.source, "unreadable": dict(images.unreadable)}
    names = [tables.printable(file) for file in images.files]
    labels = [images.classes[label] for label in images.labels]
    files.write_json(out / "data.json", record)
    tables.write(pd.DataFrame({"file": names, "label": labels, "split": images.split}), out / runs.IMAGES)


def write_results(out: Path, metrics: dict[str, Any], predictions: pd.DataFrame, classifier: Classifier) -> None:
    """Write what was measured; metrics.json comes last, it says that the run is whole."""
    from tlkit import plots, tables

    labels = [classifier.classes.index(name) for name in predictions["label"]]
    probabilities = predictions[[f"p({name})" for name in classifier.classes]].to_numpy()
    plots.save(plots.confusion_matrix(metrics["confusion_matrix"], classifier.classes), out / "confusion_matrix.png")
    plots.save(plots.reliability(probabilities, labels), out / "reliability.png")
    tables.write(predictions, out / "predictions.csv")
    files.write_json(out / "environment.json", runs.environment())
    files.write_json(out / runs.METRICS, metrics)


def write_training(training: Mapping[str, Any], out: Path) -> None:
    """Write how the classifier came about: what auto decided, regularisation and taps that were chosen, epochs."""
    import pandas as pd

    from tlkit import plots, tables

    if decision := training.get("decision"):
        files.write_json(out / "decision.json", decision)
    if (parameter := training.get("parameter")) and len({*training["cv"][parameter]}) > 1:
        plots.save(plots.regularisation(parameter, training["cv"], training["chosen"]), out / "regularisation.png")
    if search := training.get("tap_search"):
        listed = pd.DataFrame(search).assign(taps=["+".join(candidate["taps"]) for candidate in search])
        tables.write(listed, out / "taps.csv")
        plots.save(plots.accuracy_by_depth(search, training["taps"]), out / "accuracy_by_depth.png")
    if stages := training.get("stages"):
        tables.write(pd.DataFrame(stages), out / "stages.csv")
        augmented = training["settings"]["augment"] != "none"
        curves = plots.training_curves(training["epochs"], training["start_accuracy"], augmented=augmented)
        plots.save(curves, out / "training.png")
