"""The classifier: a backbone, taps, a head and the names of the classes; what a run ships."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import files, registry, tables, validate
from tlkit.backbones.contract import Weights
from tlkit.backbones.taps import Pooling, codes_width
from tlkit.backbones.weights import save_network
from tlkit.codes import RECIPE, Codes, CodesStore, Rows, known_taps, require_all
from tlkit.data import Image, as_images
from tlkit.data.views import view_names
from tlkit.errors import TlkitError, UsageError
from tlkit.heads import Head, load_head, save_head

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone

FORMAT = 2
_RECORD = "classifier.json"
_WEIGHTS = Path("backbone", "model.safetensors")
_ORIGIN = {field.name for field in fields(Weights)} - {"class_names"}  # what is told of weights
_BLOCK_BYTES = 64_000_000  # of codes that are in memory at once


@dataclass(frozen=True)
class Unseen:
    """What a classifier says about images that it, or its like in a fold, has not learned from.

    Attributes:
        files: names of n images, as in the data.
        labels: (n,) int64.
        probabilities: (n, k) float32, calibrated.
    """

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]


class Predictor(ABC):
    """What predicts: a classifier, or an ensemble of them.

    Attributes:
        classes: names of the k classes, in the order of the probabilities.
    """

    classes: tuple[str, ...]

    @abstractmethod
    def judge(
        self, images: Sequence[Image], store: CodesStore | None = None
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return probabilities, float32 (n, k), NaN for unreadable images, and why these are unreadable, by number."""

    def predict_proba(self, images: Iterable[Image | str], store: CodesStore | None = None) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, k); rows sum to 1.

        Raises:
            TlkitError: some of the images cannot be read.
        """
        listed = as_images(images)
        probabilities, errors = self.judge(listed, store)
        require_all(listed, errors)
        return probabilities

    def predict(
        self, images: Iterable[Image | str], *, files: Sequence[str] | None = None, store: CodesStore | None = None
    ) -> pd.DataFrame:
        """Label images: one row each, also for those that cannot be read.

        Args:
            images: n paths or PIL images.
            files: what to call them; paths are called by themselves, PIL images by their number.
            store: where codes may be already.

        Returns:
            columns file, predicted, probability, p(CLASS) for each class, error (None, or why the image is unreadable).
        """
        listed = as_images(images)
        probabilities, errors = self.judge(listed, store)
        return predictions_table(self.classes, probabilities, errors, files or named(listed))


@dataclass(frozen=True)
class Classifier(Predictor):
    """Images to class probabilities.

    Attributes:
        classes: names of the k classes, in the order of the probabilities.
        backbone: the network, with the only preprocess this classifier can be used with.
        taps: where its codes are taken; several are concatenated.
        head: the classifier on codes.
        training: JSON-able facts about how it was made.
        recipe: how its codes are made, `CodesStore.recipe`: settings of `CodesStore`.
        unseen: out-of-fold or validation probabilities, just after the fit; they are not saved with it.
    """

    classes: tuple[str, ...]
    backbone: Backbone
    taps: tuple[str, ...]
    head: Head
    training: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    unseen: Unseen | None = None

    def judge(
        self, images: Sequence[Image], store: CodesStore | None = None
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return probabilities, float32 (n, k), NaN for unreadable images, and why these are unreadable, by number."""
        codes = (store or CodesStore(**self.recipe)).codes(self.backbone, images, self.taps)
        return self._probabilities(codes), codes.errors

    def _probabilities(self, codes: Codes) -> NDArray[np.float32]:
        """Return float32 (n, k), the mean over the views of an image; the rows of unreadable images are NaN."""
        table = Rows.beside([codes.tables[tap] for tap in self.taps])
        block = max(1, _BLOCK_BYTES // (4 * codes.views * max(1, table.shape[1])))
        probabilities = np.full((len(table) // codes.views, len(self.classes)), np.nan, dtype=np.float32)
        readable = np.array([row for row in range(len(probabilities)) if row not in codes.errors], dtype=np.int64)
        for start in range(0, len(readable), block):
            rows = readable[start : start + block]
            each = self.head.predict_proba(np.asarray(table.select(codes.rows(rows))))
            probabilities[rows] = each.reshape(len(rows), codes.views, -1).mean(axis=1)
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the classifier: JSON and safetensors, nothing executable.

        Frozen weights that came from a file or a hub are recorded by source and sha256; random and trained ones, which
        are nowhere else, are written out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        spec = dict(self.backbone.spec)
        if self.backbone.weights is None or self.backbone.weights.trained:
            save_network(self.backbone, folder / _WEIGHTS)
            spec["weights"] = None
        save_head(self.head, folder)
        record = {
            "format": FORMAT,
            "classes": list(self.classes),
            "taps": list(self.taps),
            "codes": self.recipe,
            "backbone": spec,
            "sha256": self.backbone.weights.sha256 if self.backbone.weights else None,
            "weights": _provenance(self.backbone),
            "preprocess": self.backbone.preprocess.to_dict(),
            "training": self.training,
        }
        files.write_json(folder / _RECORD, record)

    @staticmethod
    def load(folder: Path, weights: str | None = None) -> Classifier:
        """Read a classifier back.

        Args:
            folder: where `save` wrote it.
            weights: where the backbone's weights are now, if not where they were.

        Raises:
            TlkitError: the folder holds no classifier, or the weights are not the ones it was fitted on.
        """
        record = _read_record(folder / _RECORD)
        origin = record["weights"] or {}
        trained = origin.get("trained") is True
        spec = dict(record["backbone"])
        if weights is not None or trained or record.get("sha256") is None:
            spec["weights"] = weights or str(folder / _WEIGHTS)
        validate.check_plugin("backbone", spec)
        backbone: Backbone = registry.build("backbone", spec)
        found = backbone.weights.sha256 if backbone.weights else None
        if record.get("sha256") is not None and found != record["sha256"]:
            raise TlkitError(
                f"{folder} was fitted on other weights of {backbone.name}: sha256 {record['sha256']}, but "
                f"{spec.get('weights')} has {found}. Give the original ones: weights=PATH."
            )
        if backbone.preprocess.to_dict() != record["preprocess"]:
            raise TlkitError(
                f"{folder} was fitted with the preprocess {record['preprocess']}, not {backbone.preprocess}."
            )
        if trained:
            backbone = replace(backbone, weights=Weights(**origin))
        head = load_head(folder)
        taps = tuple(known_taps(backbone, record["taps"], f"{folder}: taps"))
        recipe = _checked_recipe(record["codes"], folder)
        width = _width(backbone, taps, recipe["pooling"])
        if head.classes_.tolist() != list(range(len(record["classes"]))) or width not in (None, head.n_features_in_):
            raise TlkitError(f"{folder}: the head is not one for {width} codes and these classes. Copy the run again.")
        return Classifier(tuple(record["classes"]), backbone, taps, head, record["training"], recipe)


def named(images: Sequence[Image]) -> list[str]:
    """Return what to call images: paths by themselves, Pillow images by their number."""
    return [str(image if isinstance(image, Path) else row) for row, image in enumerate(images)]


def predictions_table(
    classes: Sequence[str], probabilities: NDArray[np.float32], errors: Mapping[int, str], files: Sequence[str]
) -> pd.DataFrame:
    """Return the table that `Classifier.predict` describes, of probabilities (n, k) and n names."""
    import pandas as pd

    best = [None if row in errors else int(p.argmax()) for row, p in enumerate(probabilities)]
    frame = {
        "file": [tables.printable(name) for name in files],
        "predicted": [None if b is None else classes[b] for b in best],
        "probability": [np.nan if b is None else p[b] for b, p in zip(best, probabilities, strict=True)],
    }
    columns = {f"p({name})": probabilities[:, k] for k, name in enumerate(classes)}
    reasons = [errors.get(row) for row in range(len(files))]
    return pd.DataFrame({**frame, **columns, "error": pd.Series(reasons, dtype=object)})


def _checked_recipe(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    try:
        good = recipe.keys() == {*RECIPE} and not any(validate.misfits([CodesStore], recipe))
        view_names(recipe["views"], recipe["view_seed"])
    except (KeyError, UsageError):
        good = False
    if not good:
        raise TlkitError(f"{folder}: {dict(recipe)} does not say how its codes were made. Copy the run again.")
    return dict(recipe)


def _width(backbone: Backbone, taps: Sequence[str], pooling: Pooling) -> int | None:
    """Return how many codes some taps have together; None where only a pass through the network tells."""
    widths = [codes_width(backbone.tap(tap), pooling) for tap in taps]
    return sum(width or 0 for width in widths) if all(widths) else None


def _provenance(backbone: Backbone) -> dict[str, Any] | None:
    """Say where the weights came from, without the names of the classes that they were trained on."""
    if backbone.weights is None:
        return None
    return {key: value for key, value in asdict(backbone.weights).items() if key in _ORIGIN}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise TlkitError(f"{path}: not a saved classifier: {err}") from err
    found = record.get("format") if isinstance(record, dict) else None
    if isinstance(found, int) and found != FORMAT:
        way = "Update tlkit." if found > FORMAT else "Fit it again."
        raise TlkitError(f"{path}: format {found}, but this tlkit reads {FORMAT}. {way}")
    wanted = {"classes": list, "taps": list, "codes": dict, "backbone": dict, "preprocess": dict, "training": dict}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in wanted.items()):
        raise TlkitError(f"{path}: not a saved classifier: it lacks some of {', '.join(wanted)}.")
    if not isinstance(origin := record.get("weights"), dict | None) or (origin and origin.keys() != _ORIGIN):
        raise TlkitError(f"{path}: weights must say {', '.join(sorted(_ORIGIN))}, or be null.")
    names = [*record["classes"], *record["taps"]]
    if not all(isinstance(name, str) for name in names) or len({*record["classes"]}) < len(record["classes"]):
        raise TlkitError(f"{path}: classes and taps must be names, and no class twice.")
    if not isinstance(record.get("sha256"), str | None):
        raise TlkitError(f"{path}: sha256 must be text, or null for weights that are in the folder.")
    return record
