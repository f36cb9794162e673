"""A finished run as a comparison sees it: what it reached, on which images, and what it cost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit import registry, runs, validate
from tlkit.errors import TlkitError
from tlkit.tables import original

if TYPE_CHECKING:
    import pandas as pd

MEASURED = ("n", "accuracy", "accuracy_interval", "balanced_accuracy", "log_loss", "ece")
PREDICTIONS, DATA = "predictions.csv", "data.json"


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run.

    Attributes:
        name: What tells it from the others.
        path: The run directory.
        backbone: As a user chooses it, such as "timm/resnet50"; "" if the run does not say.
        strategy: Such as "linear_probe".
        head: Such as "svm", or "trained".
        taps: Where its codes are taken.
        measured: n, accuracy, accuracy_interval, balanced_accuracy, log_loss and ece of its held-out images.
        params: Everything that the backbone learned, its original classifier included; None if it cannot be told.
        macs: Multiply-adds of the backbone for one image; likewise.
        seconds: What codes, fitting and training took; None if the run does not say.
        forwards: Passes of images through the network that were made for it: 0 where all codes were there already.
        classes: Names.
        place: Where its images came from; "" if the run does not say.
        answers: Of its held-out images, by file: columns "label" and "right".
    """

    name: str
    path: Path
    backbone: str
    strategy: str
    head: str
    taps: tuple[str, ...]
    measured: Mapping[str, Any]
    params: int | None
    macs: int | None
    seconds: float | None
    forwards: int | None
    classes: frozenset[str]
    place: str
    answers: pd.DataFrame = field(repr=False)


def find_runs(words: Sequence[str]) -> list[Path]:
    """Return the runs that are named, and those below the folders that are named, each once.

    What lies inside a run is none: evaluations, and the copies that trackers keep.

    Raises:
        TlkitError: no finished run is there.
    """
    found: dict[Path, None] = {}
    for word in words:
        top = Path(word).expanduser()
        below = [top] if (top / runs.METRICS).is_file() else sorted(_below(top))
        if not below:
            runs.find(word)  # says what is wrong with it
        if not all(map(_is_run, below)):
            raise TlkitError(f"{word}: no {runs.MODEL} and {PREDICTIONS} in it, so it is no run. Give run directories.")
        found |= dict.fromkeys(path.resolve() for path in below)
    return list(found)


def finished(paths: Sequence[Path]) -> list[Finished]:
    """Read finished runs, the most accurate first.

    Raises:
        TlkitError: a file of one of them is missing or damaged.
    """
    read = [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    return sorted(read, key=lambda run: (-run.measured["accuracy"], run.measured["log_loss"], run.name))


def origin(run: Path) -> dict[str, Any] | None:
    """Return name and source of the images of a run, the latter without how they are grouped; None if it does not say.

    Raises:
        TlkitError: its data.json is damaged.
    """
    data = _json(run / DATA, {})
    source = {key: value for key, value in (data.get("source") or {}).items() if key != "group"}
    return {"name": data["name"], "source": source} if data.get("name") else None


def _below(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        if runs.METRICS in names:
            folders.clear()  # os.walk goes on with what is left of them
            if _is_run(Path(folder)):
                yield Path(folder)


def _is_run(folder: Path) -> bool:
    return (folder / runs.MODEL).is_dir() and (folder / PREDICTIONS).is_file()


def _names(paths: Sequence[Path]) -> list[str]:
    """Call runs by the part of their paths in which they differ."""
    top = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(top).as_posix()) for path in paths]


def _read(path: Path, name: str) -> Finished:
    metrics = _json(path / runs.METRICS)
    model = _json(path / runs.MODEL / "classifier.json", {})
    images = origin(path)
    training = metrics.get("training") or {}
    if missing := [key for key in MEASURED if key not in metrics]:
        raise TlkitError(f"{path / runs.METRICS}: it lacks {', '.join(missing)}. Copy the run again.")
    if not isinstance(training, dict) or not all(map(_is_measured, (metrics[key] for key in MEASURED))):
        raise TlkitError(f"{path / runs.METRICS}: not what a run writes. Copy the run again.")
    classes, answers = _answers(path / PREDICTIONS)
    spec, size = model.get("backbone") or {}, (model.get("preprocess") or {}).get("input_size")
    params, macs = _cost(json.dumps(spec, sort_keys=True), tuple(size)) if spec and size else (None, None)
    seconds = training.get("seconds")
    return Finished(
        name,
        path,
        backbone="/".join(str(spec[key]) for key in ("name", "model") if key in spec),
        strategy=str(training.get("strategy", "")),
        head=str(training.get("head", "")),
        taps=tuple(training.get("taps", ())),
        measured={key: metrics[key] for key in MEASURED},
        params=params,
        macs=macs,
        seconds=round(sum(seconds.values()), 2) if seconds else None,
        forwards=(metrics.get("passes") or {}).get("forwards"),
        classes=classes,
        place=json.dumps(images, sort_keys=True) if images else "",
        answers=answers,
    )


def _is_measured(value: object) -> bool:
    """Tell whether this is a number, or the two ends of an interval."""
    if isinstance(value, list):
        return len(value) == 2 and all(isinstance(end, int | float) for end in value)
    return isinstance(value, int | float)


def _json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if default is not None and not path.exists():
        return default
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise TlkitError(f"{path}: cannot be read: {err}. Copy the run again.") from err
    if not isinstance(record, dict):
        raise TlkitError(f"{path}: not what a run writes. Copy the run again.")
    return record


def _answers(path: Path) -> tuple[frozenset[str], pd.DataFrame]:
    """Return the names of the classes, and label and whether it was predicted, by file."""
    import pandas as pd

    try:
        header = pd.read_csv(path, nrows=0).columns
        table = pd.read_csv(path, usecols=["file", "label", "predicted"], dtype=str, keep_default_na=False)
        header, table = header.map(original), table.map(original)
    except (OSError, ValueError) as err:
        raise TlkitError(f"{path}: cannot be read: {err}. Copy the run again.") from err
    # Names that cannot be written may have become the same one: nobody knows which image such a row is about.
    table = table.drop_duplicates("file", keep=False).set_index("file")
    classes = frozenset(column[2:-1] for column in header if column.startswith("p(") and column.endswith(")"))
    return classes, pd.DataFrame({"label": table["label"], "right": table["label"] == table["predicted"]})


@cache
def _cost(spec: str, input_size: tuple[int, int, int]) -> tuple[int | None, int | None]:
    """Return parameters and multiply-adds of a backbone for images of a size; None twice if nobody can tell here."""
    from tlkit.backbones import count_macs, count_params, record_of
    from tlkit.sources import without_weights

    settings = {key: value for key, value in json.loads(spec).items() if key != "weights"}
    try:
        validate.check_plugin("backbone", settings)
        record = record_of(registry.get("backbone", settings["name"]))
        if record and settings.keys() == {"name"} and record.input_size == input_size:
            return record.params, record.macs
        module = without_weights(settings).module
        return count_params(module), count_macs(module, input_size)
    except Exception:  # a plugin that changed since, a damaged record: no reason to compare nothing
        return None, None
