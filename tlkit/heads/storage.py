"""A fitted head on disk: `head.safetensors` (the affine map) and `head.json` (everything else). No pickle."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.errors import TlkitError
from tlkit.files import write_bytes, write_json
from tlkit.heads.svm import LinearSVM

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "tlkit linear head 1"
_ARRAYS, _RECORD = "head.safetensors", "head.json"
_FITTED = {"C_": float, "temperature_": float, "cv_results_": dict, "cv_accuracy_": float | None}


def save_head(head: LinearSVM, folder: Path) -> None:
    """Write a fitted head into `folder`, which is made if missing; out-of-fold scores are not kept.

    The record comes last and names the digest of the arrays, so that half a head is never taken for one.

    Raises:
        TlkitError: The files cannot be written.
    """
    from safetensors.numpy import save

    arrays = save({"coef": np.ascontiguousarray(head.coef_), "intercept": head.intercept_})
    record = {
        "format": FORMAT,
        "classes": head.classes_.tolist(),
        "dimensions": int(head.n_features_in_),
        "sha256": hashlib.sha256(arrays).hexdigest(),
        "settings": head.get_params() | {"C": None if head.C is None else np.asarray(head.C, dtype=float).tolist()},
        "fitted": {name: getattr(head, name) for name in _FITTED},
    }
    write_bytes(folder / _ARRAYS, arrays)
    write_json(folder / _RECORD, record)


def load_head(folder: Path) -> LinearSVM:
    """Read a head that `save_head` wrote: the same probabilities, bit by bit; `oof_scores_` is None.

    Raises:
        TlkitError: A file is missing, damaged, of another program, or does not belong to the other.
    """
    record = _read_record(folder / _RECORD)
    coef, intercept = _read_arrays(folder / _ARRAYS, record)
    head = LinearSVM(**record["settings"])
    head.classes_, head.n_features_in_ = np.array(record["classes"]), record["dimensions"]
    head.coef_, head.intercept_, head.oof_scores_ = coef, intercept, None
    for name, value in record["fitted"].items():
        setattr(head, name, value)
    return head


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path))
    except ValueError as error:
        raise TlkitError(f"'{path}' is damaged: it is not JSON ({error}). {_AGAIN}") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise TlkitError(f"'{path}' is of format {found!r}, not {FORMAT!r}: another program or version wrote it.")
    if not _is_whole(record):
        raise TlkitError(f"'{path}' is damaged: entries are missing or of the wrong kind. {_AGAIN}")
    return dict(record)


def _is_whole(record: dict[str, Any]) -> bool:
    kinds = {"classes": list, "dimensions": int, "sha256": str, "settings": dict, "fitted": dict}
    return (
        all(isinstance(record.get(name), kind) for name, kind in kinds.items())
        and record["settings"].keys() == LinearSVM().get_params().keys()
        and record["fitted"].keys() == _FITTED.keys()
        and all(isinstance(record["fitted"][name], kind) for name, kind in _FITTED.items())
        and len(record["classes"]) >= 2
        and record["fitted"]["temperature_"] > 0
    )


def _read_arrays(path: Path, record: dict[str, Any]) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = _read(path)
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise TlkitError(f"'{path}' is damaged or not the file that '{_RECORD}' beside it describes. {_AGAIN}")
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise TlkitError(f"'{path}' is not a safetensors file: {error}. {_AGAIN}") from error
    k, d = len(record["classes"]), record["dimensions"]
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {"coef": (k, d), "intercept": (k,)}:
        raise TlkitError(f"'{path}' holds {shapes}, not coef ({k}, {d}) and intercept ({k},). {_AGAIN}")
    return arrays["coef"], arrays["intercept"]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlkitError(f"cannot read '{path}': {error.strerror}. {_AGAIN}") from error


_AGAIN = "Copy the folder again, or fit the head again."
