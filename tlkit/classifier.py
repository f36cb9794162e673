"""The classifier: a backbone, taps, a head and the names of the classes; what a run ships."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import files, registry, tables, validate
from tlkit.codes import Codes, CodesStore, known_taps
from tlkit.data import Image, as_images
from tlkit.errors import TlkitError
from tlkit.heads import LinearSVM, load_head, save_head

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone

FORMAT = 1
_RECORD = "classifier.json"
_WEIGHTS = "backbone.safetensors"


@dataclass(frozen=True)
class Classifier:
    """Images to class probabilities.

    Attributes:
        classes: names of the k classes, in the order of the probabilities.
        backbone: the network, with the only preprocess this classifier can be used with.
        taps: where its codes are taken; several are concatenated.
        head: the classifier on codes.
        training: JSON-able facts about how it was made.
    """

    classes: tuple[str, ...]
    backbone: Backbone
    taps: tuple[str, ...]
    head: LinearSVM
    training: dict[str, Any] = field(default_factory=dict)

    def predict_proba(self, images: Iterable[Image | str], store: CodesStore | None = None) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, k); rows sum to 1.

        Raises:
            TlkitError: some of the images cannot be read.
        """
        listed = as_images(images)
        codes = (store or CodesStore()).codes(self.backbone, listed, self.taps)
        codes.require_all(listed)
        return self._probabilities(codes)

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
        import pandas as pd

        listed = as_images(images)
        codes = (store or CodesStore()).codes(self.backbone, listed, self.taps)
        probabilities, errors = self._probabilities(codes), codes.errors
        called = files or [str(image if isinstance(image, Path) else row) for row, image in enumerate(listed)]
        best = [None if row in errors else int(p.argmax()) for row, p in enumerate(probabilities)]
        frame = {
            "file": [tables.printable(name) for name in called],
            "predicted": [None if b is None else self.classes[b] for b in best],
            "probability": [np.nan if b is None else p[b] for b, p in zip(best, probabilities, strict=True)],
        }
        columns = {f"p({name})": probabilities[:, k] for k, name in enumerate(self.classes)}
        reasons = [errors.get(row) for row in range(len(listed))]
        return pd.DataFrame({**frame, **columns, "error": pd.Series(reasons, dtype=object)})

    def _probabilities(self, codes: Codes) -> NDArray[np.float32]:
        """Return float32 (n, k); the rows of unreadable images are NaN."""
        values = codes.concatenated()
        readable = [row for row in range(len(values)) if row not in codes.errors]
        probabilities = np.full((len(values), len(self.classes)), np.nan, dtype=np.float32)
        if readable:
            probabilities[readable] = self.head.predict_proba(values[readable])
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the classifier: JSON and safetensors, nothing executable.

        Frozen weights that came from a file or a hub are recorded by source and sha256; others are written out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        spec = dict(self.backbone.spec)
        if self.backbone.weights is None:
            from safetensors.torch import save as to_bytes

            files.write_bytes(folder / _WEIGHTS, to_bytes(self.backbone.module.state_dict()))
            spec["weights"] = None
        save_head(self.head, folder)
        record = {
            "format": FORMAT,
            "classes": list(self.classes),
            "taps": list(self.taps),
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
        spec = dict(record["backbone"])
        if weights is not None or record.get("sha256") is None:
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
        head = load_head(folder)
        taps = tuple(known_taps(backbone, record["taps"], f"{folder}: taps"))
        width = sum(backbone.tap(tap).channels for tap in taps)
        if head.classes_.tolist() != list(range(len(record["classes"]))) or head.n_features_in_ != width:
            raise TlkitError(f"{folder}: the head is not one for {width} codes and these classes. Copy the run again.")
        return Classifier(tuple(record["classes"]), backbone, taps, head, record["training"])


def _provenance(backbone: Backbone) -> dict[str, Any] | None:
    """Say where the weights came from, without the names of the classes that they were trained on."""
    if backbone.weights is None:
        return None
    return {key: value for key, value in asdict(backbone.weights).items() if key != "class_names"}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise TlkitError(f"{path}: not a saved classifier: {err}") from err
    wanted = {"classes": list, "taps": list, "backbone": dict, "preprocess": dict, "training": dict}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in wanted.items()):
        raise TlkitError(f"{path}: not a saved classifier: it lacks some of {', '.join(wanted)}.")
    names = [*record["classes"], *record["taps"]]
    if not all(isinstance(name, str) for name in names) or len({*record["classes"]}) < len(record["classes"]):
        raise TlkitError(f"{path}: classes and taps must be names, and no class twice.")
    if not isinstance(record.get("sha256"), str | None):
        raise TlkitError(f"{path}: sha256 must be text, or null for weights that are in the folder.")
    if record.get("format") != FORMAT:
        raise TlkitError(f"{path}: format {record.get('format')!r}, but this tlkit reads {FORMAT}. Update tlkit.")
    return record
