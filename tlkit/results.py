"""What a run directory tells: tables, figures of merit and plots of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import files, registry, runs
from tlkit.errors import TlkitError
from tlkit.words import words

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.classifier import Classifier, Unseen
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble
    from tlkit.reports import Shown


def write_data(out: Path, images: ImageData, inspection: Mapping[str, Any]) -> None:
    """Write every image with its split, and what was noticed about all of them."""
    import pandas as pd

    from tlkit import tables

    record = {**inspection, "source": images.source, "unreadable": dict(images.unreadable)}
    names = [tables.printable(file) for file in images.files]
    labels = [images.classes[label] for label in images.labels]
    files.write_json(out / "data.json", record)
    tables.write(pd.DataFrame({"file": names, "label": labels, "split": images.split}), out / runs.IMAGES)


def write_results(out: Path, metrics: dict[str, Any], predictions: pd.DataFrame, shown: Shown) -> None:
    """Write what was measured, and the report; metrics.json comes last, it says that the run is whole."""
    from tlkit import plots, reports, tables

    classifier = shown.classifier
    labels = [classifier.classes.index(name) for name in predictions["label"]]
    probabilities = predictions[[f"p({name})" for name in classifier.classes]].to_numpy()
    environment = runs.environment()
    plots.save(plots.confusion_matrix(metrics["confusion_matrix"], classifier.classes), out / "confusion_matrix.png")
    plots.save(plots.reliability(probabilities, labels), out / "reliability.png")
    tables.write(predictions, out / "predictions.csv")
    write_probabilities(out, predictions, classifier)
    files.write_json(out / "environment.json", environment)
    files.write_text(out / runs.REPORT, reports.page(shown, metrics, predictions, environment, out))
    files.write_json(out / runs.METRICS, metrics)


def spelled(command: str, record: Mapping[str, Any]) -> str:
    """Spell a command with its settings, but for those that a plugin has by default.

    >>> spelled("fit", {"data": {"name": "folder", "root": "my photos", "group": None}, "trainer": {}, "seed": 1})
    "fit data=folder 'data.root=my photos' seed=1"
    """
    told: dict[str, Any] = {}
    for key, value in record.items():
        if key in registry.KINDS and isinstance(value, Mapping):
            usual = {name: p.default for name, p in signature(registry.get(key, value["name"])).parameters.items()}
            value = {name: v for name, v in value.items() if name not in usual or v != usual[name]}
        if value is not None:
            told[key] = value
    return f"{command} {words(**told)}"


def write_probabilities(out: Path, predictions: pd.DataFrame, classifier: Classifier | Ensemble) -> None:
    """Write what the classifier says, exactly, about images that it has not learned from: what votes are made of.

    A row an image: file, label, judged ("held out", or "unseen": out of fold, or to choose the epoch by), p(CLASS)...
    """
    import pandas as pd

    from tlkit import tables

    columns = [f"p({name})" for name in classifier.classes]
    table = predictions[["file", "label", *columns]].assign(judged="held out")
    if said := classifier.unseen:
        own = pd.DataFrame(said.probabilities, columns=columns)
        own.insert(0, "file", [tables.printable(file) for file in said.files])
        own.insert(1, "label", [classifier.classes[label] for label in said.labels])
        table = pd.concat([table, own.assign(judged="unseen")])
    tables.write(table, out / runs.PROBABILITIES)


def read_probabilities(run: Path, classes: Sequence[str], judged: str) -> Unseen | None:
    """Read what `write_probabilities` wrote: the rows that are "held out" or "unseen"; None if there are none.

    Raises:
        TlkitError: the run has no such file, or it is damaged.
    """
    import pandas as pd

    from tlkit.classifier import Unseen

    path = run / runs.PROBABILITIES
    columns = [f"p({name})" for name in classes]
    number = {name: label for label, name in enumerate(classes)}
    try:
        table = pd.read_parquet(path, columns=["file", "label", "judged", *columns])
        table = table[table["judged"] == judged]
        labels = np.array([number[name] for name in table["label"]], dtype=np.int64)
        probabilities = table[columns].to_numpy(np.float32)
    except FileNotFoundError:
        raise TlkitError(f"{path}: no such file; the run was made by an earlier version. Fit it again.") from None
    except (OSError, ValueError, KeyError) as err:
        raise TlkitError(f"{path}: it does not say what the run predicted: {err!r}. Fit the run again.") from err
    if not np.isfinite(probabilities).all():
        raise TlkitError(f"{path} is damaged: some probabilities are no numbers. Fit the run again.")
    return Unseen(tuple(table["file"]), labels, probabilities) if len(table) else None


def write_members(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of an ensemble and its members."""
    import pandas as pd

    from tlkit import tables

    tables.write(pd.DataFrame(rows), out / "members.csv")


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
