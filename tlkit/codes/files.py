"""Codes as files for use elsewhere, and back: a folder of .npy files, or one Parquet, safetensors or HDF5 file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tlkit import tables
from tlkit.errors import TlkitError, UsageError
from tlkit.files import replacing

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.codes.extraction import Codes
    from tlkit.data import ImageData

Format = Literal["npy", "parquet", "safetensors", "h5"]
_SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".safetensors": "safetensors", ".h5": "h5", ".hdf5": "h5"}
_NOT_WRITTEN = (".csv", ".jsonl", ".npy", ".npz", ".pt", ".feather")  # a folder would not be called so
_INDEX = "index.parquet"
_TEXTS = ("file", "label", "split", "error")
_PIECE = 32 << 20  # bytes of codes in memory at once
_MOST_HEADER = 100_000_000  # bytes; safetensors refuses more
# Windows has no files called con, aux.txt and so on.
_PLAIN_NAME = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[a-z0-9][a-z0-9_.-]{0,99}", re.IGNORECASE)


class _Values(Protocol):
    """An array, or a table on disk: float32 (n, d)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class LoadedCodes:
    """Codes that were written by `tlkit extract`.

    Attributes:
        values: tap name to float32 (n, d); NaN rows for images that could not be read.
        index: n rows of file, label, split, error, and view where there are several.
    """

    values: dict[str, NDArray[np.float32]]
    index: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return one row a row of codes: file, label, split, (view,) and the columns TAP.0, TAP.1, ... of each tap."""
        import pandas as pd

        names = [f"{tap}.{column}" for tap, values in self.values.items() for column in range(values.shape[1])]
        codes = np.concatenate([np.empty((len(self.index), 0), np.float32), *self.values.values()], axis=1)
        return pd.concat([self.index.drop(columns="error"), pd.DataFrame(codes, columns=names)], axis=1)


def export_format(out: Path, format: str | None = None) -> Format:
    """Return the format of an export: what `format` says, else what the extension of `out` means, else npy.

    Raises:
        UsageError: there is no such format, or what it needs is not installed.
    """
    if format is None and out.suffix.lower() in _NOT_WRITTEN:
        raise UsageError(f"out={out}: give a folder, or a file that ends in {', '.join(_SUFFIXES)}.")
    chosen = format or _SUFFIXES.get(out.suffix.lower(), "npy")
    for known in ("npy", *_SUFFIXES.values()):
        if chosen == known:
            break
    else:
        raise UsageError(f"format={format}: give npy, parquet, safetensors or h5.")
    if known == "h5" and find_spec("h5py") is None:
        raise UsageError("HDF5 files need h5py: pip install 'tlkit[hdf5]', or choose another format.")
    return known


def write_codes(out: Path, codes: Codes, images: ImageData, format: str | None = None) -> None:
    """Write codes and what they are of; memory stays bounded also when the codes are on disk.

    npy          the folder `out` with one float32 (n, d) .npy file a tap, and index.parquet
    parquet      the file `out`: a fixed-size list of float32 a tap, which polars, DuckDB and Arrow read as vectors
                 (a column a dimension would be thousands of columns; `LoadedCodes.to_frame` makes them)
    safetensors  the file `out`: a tensor a tap, the index as JSON in the metadata
    h5           the file `out`: a data set a tap in the group "codes", the index in the group "index"

    The index has the columns file, label, split, error, and view where there are several views an image.

    Args:
        out: a folder for npy, else a file.
        codes: of n images; with v views, rows i * v to i * v + v - 1 are of image i.
        images: the n images.
        format: by default what `export_format` takes from the extension of `out`.

    Raises:
        UsageError: as `export_format`.
        TlkitError: the files cannot be written, or a tap has a name that the format cannot hold.
    """
    writers: dict[Format, Callable[[Path, Mapping[str, _Values], pd.DataFrame], None]] = {
        "npy": _write_npy,
        "parquet": _write_parquet,
        "safetensors": _write_safetensors,
        "h5": _write_h5,
    }
    writers[export_format(out, format)](out, codes.tables, _index(codes, images))


def load(path: str | Path) -> LoadedCodes:
    """Read codes that `tlkit extract` wrote, in any of its formats.

    >>> from tempfile import TemporaryDirectory
    >>> from tlkit.codes.extraction import Codes
    >>> from tlkit.data import ImageData
    >>> split = np.array(["train", "test"])
    >>> images = ImageData("toys", [], ("cat.png", "dog.png"), np.array([0, 1]), ("cat", "dog"), split)
    >>> codes = Codes({"pool": np.array([[1, 2], [3, 4]], dtype=np.float32)}, {})
    >>> with TemporaryDirectory() as folder:
    ...     write_codes(Path(folder) / "codes.safetensors", codes, images)
    ...     loaded = load(Path(folder) / "codes.safetensors")
    >>> loaded.values["pool"]
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> loaded.to_frame()
          file label  split  pool.0  pool.1
    0  cat.png   cat  train     1.0     2.0
    1  dog.png   dog   test     3.0     4.0

    Raises:
        TlkitError: there are no codes, or they are damaged.
    """
    path = Path(path).expanduser()
    readers: dict[Format, Callable[[Path], LoadedCodes]] = {
        "npy": _read_npy,
        "parquet": _read_parquet,
        "safetensors": _read_safetensors,
        "h5": _read_h5,
    }
    if not path.exists():
        raise TlkitError(f"{path}: no such file or folder. tlkit extract writes codes.")
    try:
        loaded = readers["npy" if path.is_dir() else export_format(path)](path)
        _check(loaded)
    except TlkitError:
        raise
    except Exception as err:  # each library has errors of its own for damaged files
        raise TlkitError(f"{path}: cannot be read as codes that tlkit extract wrote: {err}.") from err
    return loaded


def _index(codes: Codes, images: ImageData) -> pd.DataFrame:
    import pandas as pd

    index = pd.DataFrame(
        {
            "file": [tables.printable(name) for name in images.files],
            "label": [tables.printable(images.classes[label]) for label in images.labels],
            "split": np.full(len(images), "") if images.split is None else images.split,
            "error": [
                tables.printable(codes.errors[row]) if row in codes.errors else None for row in range(len(images))
            ],
        },
        dtype=object,
    )
    if codes.views > 1:
        index = index.loc[index.index.repeat(codes.views)].reset_index(drop=True)
        index["view"] = np.tile(np.arange(codes.views), len(images))
    return index


def _pieces(values: _Values) -> Iterator[NDArray[np.float32]]:
    rows = max(1, _PIECE // (4 * max(1, values.shape[1])))
    for start in range(0, values.shape[0], rows):
        yield np.ascontiguousarray(values[start : start + rows], dtype="<f4")


def _write_npy(out: Path, values: Mapping[str, _Values], index: pd.DataFrame) -> None:
    import pyarrow.parquet as pq

    names = file_names(list(values))
    for tap, rows in values.items():
        with replacing(out / names[tap]) as file:
            # Not np.lib.format.open_memmap: on a full disk, writing to a mapping kills the process.
            header = {"descr": "<f4", "fortran_order": False, "shape": rows.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in _pieces(rows):
                file.write(piece.data)
    table = _arrow(index)
    with replacing(out / _INDEX) as file:  # comes last: an export without it is not whole
        pq.write_table(table.cast(_with_taps(table.schema, names)), file)


def _read_npy(path: Path) -> LoadedCodes:
    import pyarrow.parquet as pq

    if not (path / _INDEX).is_file():
        raise TlkitError(f"{path}: no {_INDEX} in it. Give the folder or the file that tlkit extract wrote.")
    table = pq.read_table(path / _INDEX)
    names: dict[str, str] = _taps(table.schema.metadata)
    if wrong := [name for name in names.values() if Path(name).name != name]:
        raise TlkitError(f"{path / _INDEX}: it names a file in another folder: {wrong[0]!r}.")
    return LoadedCodes({tap: np.load(path / name, allow_pickle=False) for tap, name in names.items()}, _frame(table))


def _write_parquet(out: Path, values: Mapping[str, _Values], index: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if taken := [tap for tap in values if tap in index.columns]:
        raise TlkitError(f"{out}: the tap {taken[0]!r} has the name of a column of the index. Choose format=npy.")
    table = _arrow(index)
    types = [pa.field(tap, _vector(rows.shape[1])) for tap, rows in values.items()]
    schema = _with_taps(pa.schema([*table.schema, *types]), {tap: tap for tap in values})
    most = max(1, _PIECE // (4 * max(1, sum(rows.shape[1] for rows in values.values()))))
    with replacing(out) as file, pq.ParquetWriter(file, schema, use_dictionary=list(_TEXTS)) as writer:
        for start in range(0, len(index), most):
            part = slice(start, start + most)
            vectors = [_vectors(rows[part]) for rows in values.values()]
            writer.write_table(pa.table([*table.slice(start, most).columns, *vectors], schema=schema))


def _vector(width: int) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    return pa.list_(pa.float32(), width) if width else pa.null()  # Parquet has no lists of size 0


def _vectors(rows: NDArray[np.float32]) -> Any:  # noqa: ANN401
    import pyarrow as pa

    n, width = rows.shape
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), width) if width else pa.nulls(n)


def _read_parquet(path: Path) -> LoadedCodes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    taps = _taps(table.schema.metadata)
    values = {}
    for tap in taps:
        column = table.column(tap).combine_chunks()
        values[tap] = np.empty((len(column), 0), dtype=np.float32)
        if not pa.types.is_null(column.type):
            values[tap] = np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return LoadedCodes(values, _frame(table.drop_columns(list(taps))))


def _write_safetensors(out: Path, values: Mapping[str, _Values], index: pd.DataFrame) -> None:
    """Write the format by hand: the library wants all tensors in memory."""
    if "__metadata__" in values:
        raise TlkitError(f"{out}: a tap cannot be called __metadata__ in safetensors. Choose format=npy.")
    texts = {"taps": list(values), **{name: index[name].tolist() for name in index.columns}}
    header: dict[str, Any] = {"__metadata__": {name: json.dumps(listed) for name, listed in texts.items()}}
    end = 0
    for tap, rows in values.items():
        begin, end = end, end + 4 * rows.shape[0] * rows.shape[1]
        header[tap] = {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER:
        raise TlkitError(
            f"{out}: {len(index):,} rows are too many for the index in safetensors. Choose format=parquet."
        )
    with replacing(out) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for rows in values.values():
            for piece in _pieces(rows):
                file.write(piece.data)


def _read_safetensors(path: Path) -> LoadedCodes:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        texts = {name: json.loads(text) for name, text in file.metadata().items()}
        values = {tap: file.get_tensor(tap) for tap in texts.pop("taps")}
    return LoadedCodes(values, _ordered(texts))


def _write_h5(out: Path, values: Mapping[str, _Values], index: pd.DataFrame) -> None:
    import h5py

    with replacing(out) as raw, h5py.File(raw, "w") as file:
        codes = file.create_group("codes", track_order=True)
        for tap, name in file_names(list(values)).items():
            stored = codes.create_dataset(name.removesuffix(".npy"), values[tap].shape, dtype="<f4")
            stored.attrs["tap"] = tap
            start = 0
            for piece in _pieces(values[tap]):
                stored[start : start + len(piece)] = piece
                start += len(piece)
        for name in index.columns:
            column = index[name].tolist()
            kind = "i8" if name == "view" else h5py.string_dtype()
            file.create_dataset(f"index/{name}", data=[item if item is not None else "" for item in column], dtype=kind)


def _read_h5(path: Path) -> LoadedCodes:
    import h5py

    with h5py.File(path, "r") as file:
        values = {stored.attrs["tap"]: stored[:] for stored in file["codes"].values()}
        texts = {
            name: (stored[:] if name == "view" else stored.asstr()[:]).tolist()
            for name, stored in file["index"].items()
        }
    texts["error"] = [reason or None for reason in texts["error"]]
    return LoadedCodes(values, _ordered(texts))


def file_names(taps: Sequence[str]) -> dict[str, str]:
    """Return a .npy file name for each tap: its own where every file system takes it, else one with a digest.

    >>> file_names(["pool", "Mixed_7c", "aux", "../../a"])
    {'pool': 'pool.npy', 'Mixed_7c': 'Mixed_7c.npy', 'aux': 'aux-321f6814.npy', '../../a': '______a-2ea9d7db.npy'}
    """
    lower = [tap.lower() for tap in taps]  # Pool and pool are one file on many disks
    plain = {tap for tap in taps if _PLAIN_NAME.fullmatch(tap) and lower.count(tap.lower()) == 1}
    return {tap: f"{tap if tap in plain else _digested(tap)}.npy" for tap in taps}


def _digested(tap: str) -> str:
    readable = re.sub("[^A-Za-z0-9_-]", "_", tap)[:60]
    return f"{readable}-{hashlib.sha256(tap.encode(errors='replace')).hexdigest()[:8]}"


def _ordered(texts: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    names = [name for name in (*_TEXTS, "view") if name in texts]
    return pd.DataFrame({name: pd.Series(texts[name], dtype="int64" if name == "view" else object) for name in names})


def _arrow(index: pd.DataFrame) -> Any:  # noqa: ANN401
    import pyarrow as pa

    kinds = [(name, pa.int64() if name == "view" else pa.string()) for name in index.columns]
    return pa.table([pa.array(index[name].tolist(), kind) for name, kind in kinds], schema=pa.schema(kinds))


def _frame(table: Any) -> pd.DataFrame:  # noqa: ANN401
    return _ordered({name: table.column(name).to_pylist() for name in table.column_names})


def _with_taps(schema: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401
    return schema.with_metadata({"tlkit.taps": json.dumps(names)})


def _taps(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """Return tap name to file or column name, in the order they were written."""
    names: dict[str, str] = json.loads((metadata or {})[b"tlkit.taps"])
    return names


def _check(loaded: LoadedCodes) -> None:
    for tap, values in loaded.values.items():
        if values.dtype != np.float32 or values.ndim != 2 or len(values) != len(loaded.index):
            raise ValueError(f"{tap} is {values.dtype} {values.shape}, the index has {len(loaded.index)} rows")
