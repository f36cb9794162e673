"""Data sets of the Hugging Face hub, or in its formats on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.data.imagedata import ImageData, LazyImages, by_name
from tlkit.data.images import Image, UnreadableImage, open_bytes
from tlkit.data.splits import split_named
from tlkit.errors import TlkitError, UsageError, did_you_mean, some

if TYPE_CHECKING:
    from datasets import Dataset


def hf(
    *, path: str, config: str | None = None, image_column: str | None = None, label_column: str | None = None
) -> ImageData:
    """Read a data set with Hugging Face `datasets`; code that comes with a data set is never run.

    Images are decoded by tlkit, not by `datasets`. Rows without a label (-1, as in many test splits) are left out.

    Args:
        path: A name on the hub ("beans"), a folder of Parquet files or of images, a folder written by `save_to_disk`,
            or a Parquet file.
        config: The configuration of a set that has several.
        image_column: Column of the images; found by its type.
        label_column: Column of the labels; found by its type, else by the name "label" or "labels".

    Raises:
        UsageError: No such column, or several that fit and none named.
        TlkitError: `datasets` is not installed or cannot load this, or the splits have unusual names.
    """
    parts, unused = _named(_load(path, config), path)
    first = next(iter(parts.values()))
    image, label = _image_column(first, image_column), _label_column(first, label_column)
    words = {split: _words(part, label) for split, part in parts.items()}
    rows = {split: [row for row, word in enumerate(column) if word is not None] for split, column in words.items()}
    classes, labels = by_name(word for column in words.values() for word in column if word is not None)
    return ImageData(
        name="hf",
        images=_pictures([part.select(rows[split]) for split, part in parts.items()], image),
        files=tuple(f"{split}/{row:06d}".lstrip("/") for split, kept in rows.items() for row in kept),
        labels=labels,
        classes=classes,
        split=None if "" in parts else np.array([split for split, kept in rows.items() for _ in kept], dtype=np.str_),
        source={
            "path": path,
            "config": config,
            "image_column": image,
            "label_column": label,
            "unused_splits": unused,
            "unlabelled": sum(column.count(None) for column in words.values()),
        },
    )


def _load(path: str, config: str | None) -> Mapping[str, Dataset]:
    try:
        import datasets
    except ImportError as error:
        raise TlkitError("data=hf needs the package datasets: pip install 'tlkit[hf]'.") from error
    local = Path(path).expanduser()
    try:
        if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
            loaded = datasets.load_from_disk(str(local))
        elif local.suffix == ".parquet" and local.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(local))
        else:
            loaded = datasets.load_dataset(str(local) if local.is_dir() else path, config)
    except Exception as error:  # networks, the hub and file formats fail in many ways
        raise TlkitError(f"data.path={path}: Hugging Face datasets cannot load it: {error}") from error
    return loaded if isinstance(loaded, dict) else {"": loaded}


def _named(loaded: Mapping[str, Dataset], path: str) -> tuple[dict[str, Dataset], list[str]]:
    """Return the parts under tlkit's split names, "" for a set without splits, and the names of parts not used."""
    if len(loaded) == 1 and not any(map(split_named, loaded)):
        return {"": next(iter(loaded.values()))}, []
    parts = {split: loaded[word] for word in loaded if (split := split_named(word))}
    unused = [word for word in loaded if not split_named(word)]
    if "train" not in parts or len(parts) + len(unused) < len(loaded):
        raise TlkitError(
            f"data.path={path}: the splits are {some(loaded)}; tlkit needs train, and knows validation and test."
        )
    return parts, unused


def _image_column(part: Dataset, wanted: str | None) -> str:
    from datasets import Image

    found = [column for column, feature in part.features.items() if isinstance(feature, Image)]
    return _column(part, "image_column", wanted, found, found)


def _label_column(part: Dataset, wanted: str | None) -> str:
    from datasets import ClassLabel, Value

    typed = [column for column, feature in part.features.items() if isinstance(feature, ClassLabel)]
    plain = [column for column, feature in part.features.items() if isinstance(feature, Value)]
    usual = [column for column in ("label", "labels") if column in typed + plain]
    return _column(part, "label_column", wanted, usual[:1] if len(typed) != 1 else typed, typed + plain)


def _column(part: Dataset, key: str, wanted: str | None, found: Sequence[str], possible: Sequence[str]) -> str:
    """Return the column wanted, if it can be one, or the only one found."""
    if wanted is None and len(found) == 1:
        return found[0]
    columns = f"Columns that can be it: {some(possible, 10) or 'none'} (all: {some(part.column_names, 20)})."
    if wanted is None:
        raise UsageError(f"data.{key}: not clear which column it is; name it. {columns}")
    if wanted not in possible:
        raise UsageError(f"data.{key}={wanted}: no such column.{did_you_mean(wanted, possible)} {columns}")
    return wanted


def _words(part: Dataset, column: str) -> list[str | None]:
    """Return the class name of each row; None for rows without a label."""
    from datasets import ClassLabel

    feature = part.features[column]
    values = part.select_columns(column).with_format("arrow")[:].column(column).to_pylist()
    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.int2str(value) for value in values]
    if all(isinstance(value, int) and value >= 0 for value in values if value is not None):
        digits = len(str(max((value for value in values if value is not None), default=0)))
        return [None if value is None else f"{value:0{digits}d}" for value in values]
    return [None if value is None else str(value) for value in values]


def _pictures(parts: Sequence[Dataset], column: str) -> LazyImages:
    import datasets

    # Not decoded by datasets: it opens every format that Pillow knows, some of which start programs.
    raw = [part.select_columns(column).cast_column(column, datasets.Image(decode=False)) for part in parts]
    rows = datasets.concatenate_datasets(raw)
    return LazyImages(partial(_picture, rows, column), range(len(rows)))


def _picture(rows: Dataset, column: str, row: int) -> Image:
    value = rows[row][column]
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise UnreadableImage("no image in this row")
    return Path(value["path"]) if value["bytes"] is None else open_bytes(value["bytes"])
