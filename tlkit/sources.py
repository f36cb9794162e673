"""What the settings of a command name: labelled images, a network, and where codes for predictions come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import registry, runs, validate
from tlkit.errors import TlkitError, UsageError, some
from tlkit.progress import progress

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier
    from tlkit.codes import CodesStore
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble

log = logging.getLogger(__name__)


def load_data(settings: Mapping[str, Any], seed: int) -> ImageData:
    """Read labelled images from the source that the settings name, and split them."""
    from tlkit.data import prepare

    own, shared = _parted(settings)
    return prepare(registry.build("data", own), seed, **shared)


def new_data(settings: Mapping[str, Any]) -> ImageData:
    """Read labelled images that no run has seen; without a split of their own they are all test.

    Raises:
        UsageError: settings for a split, or a fit, that is not made.
    """
    own, shared = _parted(settings)
    if idle := sorted(shared.keys() - {"on_error"}):
        raise UsageError(
            f"data.{idle[0]}: nothing is fitted or split here; split=test, val, train or all says what to measure."
        )
    images: ImageData = registry.build("data", own)
    places = np.full(len(images), "test") if images.split is None else images.split
    return replace(images, split=places, on_error=shared.get("on_error", "skip"))


def data_of(run: Path) -> ImageData:
    """Read the images that a run was made with, each in the split that it was in then.

    Raises:
        TlkitError: they are not there any more.
    """
    import pandas as pd

    from tlkit.tables import original, printable

    settings = runs.read_config(run).get("data")
    if not isinstance(settings, dict):
        raise TlkitError(f"{run / runs.CONFIG}: it does not say what data the run was made with. Give data=NAME.")
    validate.check_plugin("data", settings)
    images: ImageData = registry.build("data", _parted(settings)[0])
    try:
        table = pd.read_csv(run / runs.IMAGES, dtype=str, keep_default_na=False)
        split = dict(zip(map(original, table["file"]), table["split"], strict=True))
    except (OSError, ValueError, KeyError) as err:
        raise TlkitError(f"{run / runs.IMAGES}: it does not say which images the run used: {err!r}.") from err
    names = [printable(file) for file in images.files]
    rows = [row for row, name in enumerate(names) if name in split]
    if len(rows) < len(split):
        gone = sorted(split.keys() - set(names))
        raise TlkitError(f"{len(gone)} images of the run are not there any more: {some(gone)}. Give data=NAME.")
    if len(images) > len(rows):
        log.warning("%d images that the run does not know are left out", len(images) - len(rows))
    return replace(images.select(rows), split=np.array([split[names[row]] for row in rows]))


def _parted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the settings of a source from those that all sources share."""
    from tlkit.data import prepare

    shared = {name for name, p in signature(prepare).parameters.items() if p.kind is p.KEYWORD_ONLY}
    own = {key: value for key, value in settings.items() if key not in shared}
    return own, {key: value for key, value in settings.items() if key in shared}


def lasting(key: str, value: Any) -> Any:  # noqa: ANN401
    """Make a path hold in another working directory."""
    return str(Path(value).expanduser().absolute()) if _is_path(key, value) else value


def _is_path(key: str, value: Any) -> bool:  # noqa: ANN401
    return key in ("root", "path") and isinstance(value, str) and Path(value).expanduser().exists()


def build_backbone(settings: Mapping[str, Any], seed: int) -> Backbone:
    """Build the backbone that the settings name; random weights are drawn from the seed."""
    import torch

    torch.manual_seed(seed)
    with progress(f"loading {settings['name']}"):
        backbone: Backbone = registry.build("backbone", settings)
    return backbone


def without_weights(settings: Mapping[str, Any]) -> Backbone:
    """Build the backbone that the settings name with shapes only, on torch's "meta" device, where that can be."""
    import torch

    own = {**settings, "weights": None} if "weights" in _accepted(settings["name"]) else settings
    with progress(f"building {settings['name']}"):
        try:
            with torch.device("meta"):
                backbone: Backbone = registry.build("backbone", own)
        except TlkitError:
            raise
        except Exception:  # it computes with its numbers while it is built
            backbone = registry.build("backbone", own)
    return backbone


def _accepted(name: str) -> set[str]:
    return set(signature(registry.get("backbone", name)).parameters)


def prediction_store(
    classifier: Classifier | Ensemble, codes: Mapping[str, Any], cache: Mapping[str, Any]
) -> CodesStore:
    """Return a store that makes codes as the classifier learned on them, but for settings that may differ.

    Raises:
        UsageError: another pooling.
    """
    from tlkit.codes import CodesStore, cache_at
    from tlkit.ensembles.ensemble import Ensemble

    if isinstance(classifier, Ensemble):  # each member takes its own
        if idle := sorted({"pooling", "views", "view_seed", "precision"} & codes.keys()):
            raise UsageError(f"codes.{idle[0]}: each member of an ensemble has its own. Leave it out.")
        return CodesStore(cache_at(**cache), **codes).alone()
    if codes.get("pooling", classifier.recipe["pooling"]) != classifier.recipe["pooling"]:
        raise UsageError(
            f"codes.pooling={codes['pooling']}: the run learned on codes.pooling={classifier.recipe['pooling']} and "
            "knows nothing else. Leave it out."
        )
    return CodesStore(cache_at(**cache), **{**classifier.recipe, **codes}).alone()
