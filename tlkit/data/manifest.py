"""Images listed with their labels in a CSV or Parquet file."""

from __future__ import annotations

import posixpath
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.data.folder import existing_folder
from tlkit.data.imagedata import ImageData, Strings, by_name
from tlkit.data.splits import split_named
from tlkit.errors import TlkitError, UsageError, did_you_mean, some

if TYPE_CHECKING:
    import pandas as pd


def manifest(
    *,
    path: str,
    root: str | None = None,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    group: str | None = None,
) -> ImageData:
    """Read a table with one row an image; no image is opened.

    Labels are taken as text ("007" and "NA" stay what they are), without blanks around them. Splits are written train;
    val, valid or validation; test.

    Args:
        path: The table, .csv or .parquet.
        root: The folder that relative paths start from and must stay below; the table's own folder by default.
        path_column: Column of the images' paths, relative or absolute.
        label_column: Column of the class names.
        split_column: Column of the splits; a table may lack it if it has the usual name.
        group: Column of what must stay on one side of a split, such as patients; "group" is used if there.

    Raises:
        UsageError: A column that is not there.
        TlkitError: No such table or images, empty cells, paths out of the root, repeated paths, unknown splits.
    """
    file = Path(path).expanduser().absolute()
    table = _read(file)
    top = file.parent if root is None else existing_folder(root, "data.root")
    paths = _cells(table, path_column, "path_column")
    classes, labels = by_name(_cells(table, label_column, "label_column"))
    files = _files(paths, top)
    split = _optional(table, split_column, "split_column", default="split")
    groups = _optional(table, "group" if group is None else group, "group", default="group")
    return ImageData(
        name="manifest",
        images=[top / name for name in files],
        files=files,
        labels=labels,
        classes=classes,
        split=None if split is None else _splits(split),
        groups=None if groups is None else np.array(groups, dtype=np.str_),
        source={"path": str(file), "root": str(top)},
    )


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    if not file.is_file():
        beside = [entry.name for entry in file.parent.glob("*.*")]
        raise TlkitError(f"data.path: no such file: {file}.{did_you_mean(file.name, beside)}")
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise TlkitError(f"data.path={file}: a manifest is a .csv or .parquet file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # given for rows that are longer than the header
            if suffix == ".parquet":
                return pd.read_parquet(file)
            # NA, None and 007 are names here, and no column is an index.
            return pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OSError, pd.errors.ParserWarning) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise TlkitError(f"data.path={file}: cannot be read as {suffix[1:]}: {error}") from error


def _cells(table: pd.DataFrame, column: str, key: str) -> list[str]:
    if column not in table.columns:
        columns = [str(name) for name in table.columns]
        hint = did_you_mean(column, columns)
        raise UsageError(f"data.{key}={column}: the table has no such column.{hint} Columns: {some(columns, 10)}.")
    values = table[column]
    cells = ["" if empty else str(value).strip() for value, empty in zip(values, values.isna(), strict=True)]
    if blank := [number for number, cell in enumerate(cells, start=1) if not cell]:
        raise TlkitError(
            f"data.path: column {column!r} is empty in {len(blank)} rows: rows {some(blank)} below the header."
        )
    return cells


def _optional(table: pd.DataFrame, column: str, key: str, *, default: str) -> list[str] | None:
    if column == default and column not in table.columns:
        return None
    return _cells(table, column, key)


def _files(paths: list[str], top: Path) -> tuple[str, ...]:
    """Return the paths' names: relative to the root where they lie below it.

    Raises:
        TlkitError: Paths that climb out of the root, appear twice, or lead to no file.
    """
    prefix = f"{top.as_posix().rstrip('/')}/"
    files = tuple(posixpath.normpath(path).removeprefix(prefix) for path in paths)
    if outside := [path for path, file in zip(paths, files, strict=True) if file.split("/", 1)[0] == ".."]:
        raise TlkitError(
            f"data.path: relative paths must stay below {top}: {some(outside)}. Set data.root, or use full paths."
        )
    if twice := [file for file, times in Counter(files).items() if times > 1]:
        raise TlkitError(f"data.path: {len(twice)} images are listed more than once: {some(twice)}.")
    if missing := [file for file in files if not (top / file).is_file()]:
        raise TlkitError(
            f"data.path: {len(missing)} of {len(files)} files are not there: {some(missing)}; looked below {top}."
        )
    return files


def _splits(words: list[str]) -> Strings:
    known = {word: split_named(word) for word in set(words)}
    if unknown := sorted(word for word, split in known.items() if split is None):
        raise TlkitError(f"data.split_column: unknown splits {some(map(repr, unknown))}; use train, val and test.")
    return np.array([known[word] for word in words], dtype=np.str_)
