"""A fitted head on disk: `head.safetensors` (its arrays) and `head.json` (everything else). No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.errors import TlkitError, UsageError
from tlkit.files import write_bytes, write_json
from tlkit.heads.kinds import SAVED
from tlkit.heads.scaling import SCALES

if TYPE_CHECKING:
    from pathlib import Path

    from tlkit.heads.head import Head

FORMAT = "tlkit head 2"
_ARRAYS, _RECORD = "head.safetensors", "head.json"
_ENTRIES = {"kind": str, "classes": list, "dimensions": int, "sha256": str, "settings": dict, "fitted": dict}


def save_head(head: Head, folder: Path) -> None:
    """Write a fitted head into `folder`, which is made if missing; out-of-fold scores are not kept.

    The record comes last and names the digest of the arrays, so that half a head is never taken for one.

    Raises:
        TlkitError: The files cannot be written.
    """
    from safetensors.numpy import save

    arrays = save({name: np.ascontiguousarray(array) for name, array in head._arrays().items()})
    record = {
        "format": FORMAT,
        "kind": next(name for name, kind in SAVED.items() if type(head) is kind),
        "classes": head.classes_.tolist(),
        "dimensions": int(head.n_features_in_),
        "sha256": hashlib.sha256(arrays).hexdigest(),
        "settings": {name: _plain(value) for name, value in head.get_params().items()},
        "fitted": {name: getattr(head, name) for name in _fitted(type(head))},
    }
    write_bytes(folder / _ARRAYS, arrays)
    write_json(folder / _RECORD, record)


def load_head(folder: Path) -> Head:
    """Read a head that `save_head` wrote: the same probabilities, bit by bit; `oof_scores_` is None.

    Raises:
        TlkitError: A file is missing, damaged, of another program, or does not belong to the other.
    """
    record = _read_record(folder / _RECORD)
    head = _unfitted(record, folder / _RECORD)
    head.classes_, head.n_features_in_ = np.array(record["classes"]), record["dimensions"]
    for name, value in record["fitted"].items():
        setattr(head, name, value)
    head.oof_scores_ = None
    try:
        head._take_arrays(_read_arrays(folder / _ARRAYS, record["sha256"]))
    except ValueError as error:
        raise TlkitError(f"'{folder / _ARRAYS}' {error}. {_AGAIN}") from error
    return head


def _plain(value: object) -> object:
    """Return a setting as JSON; a dict of class weights is a list of pairs there, as labels may be numbers."""
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(label), _plain(weight)] for label, weight in value.items()]}
    return np.asarray(value).tolist()


def _setting(value: object) -> object:
    return dict(value["pairs"]) if isinstance(value, dict) else value


def _fitted(kind: type[Head]) -> list[str]:
    """Return the attributes of a fitted head that are kept in the record."""
    own = [f"{kind.parameter}_"] if kind.parameter else []
    shared = ["scale_", "temperature_", "cv_results_", "cv_accuracy_"]
    return own + shared + (["convergence_"] if hasattr(kind, "loss") else [])


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path), parse_constant=_refuse)
    except ValueError as error:
        raise TlkitError(f"'{path}' is damaged: it is not JSON ({error}). {_AGAIN}") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise TlkitError(f"'{path}' is of format {found!r}, not {FORMAT!r}: another program or version wrote it.")
    if not _is_whole(record):
        raise TlkitError(f"'{path}' is damaged: entries are missing or of the wrong kind. {_AGAIN}")
    return dict(record)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _is_whole(record: dict[str, Any]) -> bool:
    if not all(type(record.get(name)) is kind for name, kind in _ENTRIES.items()) or record["kind"] not in SAVED:
        return False
    kind, fitted = SAVED[record["kind"]], record["fitted"]
    labels = record["classes"]
    return (
        record.keys() == {"format", *_ENTRIES}
        and record["settings"].keys() == kind().get_params().keys()
        and fitted.keys() == set(_fitted(kind))
        and len({*map(type, labels)} & {str, int, float, bool}) == len({*map(type, labels)}) == 1
        and 2 <= len(labels) == len(set(labels))
        and fitted["scale_"] in SCALES
        and _is_positive(fitted["temperature_"])
        and (fitted["cv_accuracy_"] is None or type(fitted["cv_accuracy_"]) is float)
        and (not kind.parameter or _is_positive(fitted[f"{kind.parameter}_"], whole=kind.whole))
        and _is_table(fitted["cv_results_"], ["scale", kind.parameter, "accuracy", "std"])
        and isinstance(fitted.get("convergence_", {}), dict)
    )


def _is_positive(value: object, *, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool) and value > 0


def _is_table(value: object, columns: list[str | None]) -> bool:
    named = {column for column in columns if column}
    return (
        isinstance(value, dict)
        and value.keys() == named
        and all(isinstance(column, list) for column in value.values())
        and len({len(column) for column in value.values()}) == 1
    )


def _unfitted(record: dict[str, Any], path: Path) -> Head:
    """Return a head with the settings of the record, which are checked as a user's are."""
    try:
        head = SAVED[record["kind"]](**{name: _setting(value) for name, value in record["settings"].items()})
        head.check_settings()
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise TlkitError(f"'{path}' is damaged: its settings make no sense ({error}). {_AGAIN}") from error
    return head


def _read_arrays(path: Path, sha256: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TlkitError(f"'{path}' is damaged or not the file that '{_RECORD}' beside it describes. {_AGAIN}")
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise TlkitError(f"'{path}' is not a safetensors file: {error}. {_AGAIN}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlkitError(f"cannot read '{path}': {error.strerror}. {_AGAIN}") from error


_AGAIN = "Copy the folder again, or fit the head again."
