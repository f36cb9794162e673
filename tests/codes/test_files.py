"""Exported codes, read by the libraries that people use and by `load`."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tlkit.codes.disk import Disk
from tlkit.codes.extraction import Codes
from tlkit.codes.files import export_format, file_names, load, write_codes
from tlkit.codes.rows import Rows
from tlkit.data import ImageData
from tlkit.errors import TlkitError, UsageError

FORMATS = ["npy", "parquet", "safetensors", "h5"]
HOSTILE = [
    "../escape",
    "/abs",
    "a/b",
    "..",
    ".",
    "",
    "x" * 3000,
    "猫",
    "Pool",
    "pool",
    "con",
    "a b\n",
    "pool.npy",
    "taps",
]
Array = NDArray[np.float32]


def needs(format: str) -> None:
    if format == "h5":
        pytest.importorskip("h5py")


def images(n: int, **fields: Any) -> ImageData:  # noqa: ANN401
    labels = np.arange(n) % 2
    split = np.where(np.arange(n) % 3, "train", "test")
    return ImageData("toys", [], tuple(f"ö/{row}.jpg" for row in range(n)), labels, ("猫", "dog"), split, **fields)


def stored(folder: Path, values: dict[str, Array], errors: dict[int, str] | None = None, views: int = 1) -> Codes:
    """Codes as the store hands them out: read when they are indexed; NaN rows were never computed."""
    disk, tables = Disk(folder), {}
    for tap, rows in values.items():
        space = disk.space({"tap": tap})
        keys = [row.to_bytes(32, "big") for row in range(len(rows))]
        known = np.flatnonzero(~np.isnan(rows).any(axis=1)) if rows.shape[1] else np.empty(0, np.int64)
        if len(known):
            space.append([keys[row] for row in known], rows[known])
        tables[tap] = Rows([(space, space.find(keys))])
    return Codes(tables, errors or {}, views)


@pytest.fixture
def values() -> dict[str, Array]:
    random = np.random.default_rng(0)
    rows = {"pool": random.standard_normal((7, 5)), "blocks.2": random.standard_normal((7, 3))}
    found = {tap: array.astype(np.float32) for tap, array in rows.items()}
    for array in found.values():
        array[4] = np.nan
    return found


@pytest.fixture
def codes(tmp_path: Path, values: dict[str, Array]) -> Codes:
    return stored(tmp_path / "store", values, {4: "truncated"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("format", FORMATS)
def test_a_round_trip(format: str, tmp_path: Path, codes: Codes, values: dict[str, Array]) -> None:
    needs(format)
    out = tmp_path / "new" / "codes"
    write_codes(out, codes, images(7), format)
    if format != "npy":
        out = out.rename(out.with_suffix(f".{format}"))
        assert [path.name for path in out.parent.iterdir()] == [out.name]
    loaded = load(str(out))
    assert list(loaded.values) == list(values)
    for tap, rows in values.items():
        assert loaded.values[tap].dtype == np.float32
        np.testing.assert_array_equal(loaded.values[tap], rows)
    assert loaded.index.columns.tolist() == ["file", "label", "split", "error"]
    assert loaded.index["file"].tolist() == [f"ö/{row}.jpg" for row in range(7)]
    assert loaded.index["label"].tolist() == ["猫", "dog"] * 3 + ["猫"]
    assert loaded.index["split"].tolist() == ["test", "train", "train"] * 2 + ["test"]
    assert loaded.index["error"].tolist() == [None] * 4 + ["truncated"] + [None] * 2

    frame = loaded.to_frame()
    columns = [*(f"pool.{i}" for i in range(5)), *(f"blocks.2.{i}" for i in range(3))]
    assert frame.columns.tolist() == ["file", "label", "split", *columns]
    np.testing.assert_array_equal(frame[columns].to_numpy(), np.concatenate(list(values.values()), axis=1))
    assert set(frame.dtypes[columns]) == {np.dtype(np.float32)}


@pytest.mark.parametrize("format", FORMATS)
def test_views_stand_below_each_other(format: str, tmp_path: Path) -> None:
    needs(format)
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    out = tmp_path / (f"codes.{format}" if format != "npy" else "codes")
    write_codes(out, stored(tmp_path / "store", {"pool": rows}, {1: "gone"}, views=3), images(4))
    loaded = load(out)
    assert loaded.index["view"].tolist() == [0, 1, 2] * 4
    assert loaded.index["file"].tolist() == [f"ö/{row}.jpg" for row in range(4) for _ in range(3)]
    assert loaded.index["error"].notna().tolist() == [False] * 3 + [True] * 3 + [False] * 6
    np.testing.assert_array_equal(loaded.values["pool"], rows)
    assert loaded.to_frame().columns.tolist() == ["file", "label", "split", "view", "pool.0", "pool.1"]


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_readable_and_no_images_at_all(format: str, tmp_path: Path) -> None:
    needs(format)
    for n in (2, 0):
        out = tmp_path / (f"{n}.{format}" if format != "npy" else str(n))
        nothing = stored(
            tmp_path / "store", {"pool": np.full((n, 0), np.nan, np.float32)}, dict.fromkeys(range(n), "x")
        )
        write_codes(out, nothing, images(n))
        assert load(out).values["pool"].shape == (n, 0)
        assert len(load(out).to_frame()) == n


def test_numpy_and_pandas_read_the_folder(tmp_path: Path, codes: Codes, values: dict[str, Array]) -> None:
    write_codes(tmp_path / "out", codes, images(7))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blocks.2.npy", "index.parquet", "pool.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "pool.npy", mmap_mode="r"), values["pool"])
    assert pd.read_parquet(tmp_path / "out" / "index.parquet").columns.tolist() == ["file", "label", "split", "error"]


def test_pandas_and_arrow_read_the_parquet_file(tmp_path: Path, codes: Codes, values: dict[str, Array]) -> None:
    import pyarrow.parquet as pq

    write_codes(tmp_path / "codes.parquet", codes, images(7))
    assert str(pq.read_schema(tmp_path / "codes.parquet").field("pool").type).startswith("fixed_size_list<")
    table = pd.read_parquet(tmp_path / "codes.parquet", filters=[("label", "==", "dog")])
    np.testing.assert_array_equal(np.stack(table["pool"].tolist()), values["pool"][1::2])


def test_safetensors_reads_its_file(tmp_path: Path, codes: Codes, values: dict[str, Array]) -> None:
    from safetensors.numpy import load_file

    write_codes(tmp_path / "codes.safetensors", codes, images(7))
    read = load_file(tmp_path / "codes.safetensors")
    assert read.keys() == values.keys()
    np.testing.assert_array_equal(read["blocks.2"], values["blocks.2"])


def test_h5py_reads_its_file(tmp_path: Path, codes: Codes, values: dict[str, Array]) -> None:
    h5py = pytest.importorskip("h5py")
    write_codes(tmp_path / "codes.h5", codes, images(7))
    with h5py.File(tmp_path / "codes.h5") as file:
        np.testing.assert_array_equal(file["codes/pool"][:], values["pool"])
        assert file["index/label"].asstr()[1] == "dog"


def test_without_h5py_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"pip install 'tlkit\[hdf5\]'"):
        export_format(Path("codes.h5"))


def test_formats_are_known_by_extension_or_name() -> None:
    names = ["codes", "a.PARQUET", "a.safetensors", "runs.v2/x"]
    assert [export_format(Path(name)) for name in names] == ["npy", "parquet", "safetensors", "npy"]
    assert export_format(Path("codes.parquet"), "npy") == "npy"
    with pytest.raises(UsageError, match="format=csv: give npy, parquet, safetensors or h5"):
        export_format(Path("codes"), "csv")


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_stay_in_the_folder(format: str, tmp_path: Path) -> None:
    needs(format)
    rows = {tap: np.full((3, 2), number, dtype=np.float32) for number, tap in enumerate(HOSTILE)}
    out = tmp_path / "deep" / "er" / (f"codes.{format}" if format != "npy" else "codes")
    write_codes(out, stored(tmp_path / "store", rows), images(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "store"]
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == [out.name]
    loaded = load(out)
    assert list(loaded.values) == HOSTILE
    for tap in HOSTILE:
        np.testing.assert_array_equal(loaded.values[tap], rows[tap])


def test_file_names_differ_also_where_case_does_not_count() -> None:
    names = list(file_names(HOSTILE).values())
    assert len({name.lower() for name in names}) == len(HOSTILE)
    assert all(len(name) < 120 and "/" not in name and not name.startswith(".") for name in names)


def test_names_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    for tap, name in (("label", "codes.parquet"), ("__metadata__", "codes.safetensors")):
        bad = stored(tmp_path / tap, {tap: np.ones((3, 2), np.float32)})
        with pytest.raises(TlkitError, match=r"Choose format=npy"):
            write_codes(tmp_path / name, bad, images(3))
        write_codes(tmp_path / f"{tap} in a folder", bad, images(3))
        assert list(load(tmp_path / f"{tap} in a folder").values) == [tap]


def test_an_index_that_names_files_elsewhere_is_refused(tmp_path: Path, codes: Codes) -> None:
    import pyarrow.parquet as pq

    write_codes(tmp_path / "out", codes, images(7))
    np.save(tmp_path / "secret.npy", np.zeros((7, 1), np.float32))
    table = pq.read_table(tmp_path / "out" / "index.parquet")
    for name in ("../secret.npy", str(tmp_path / "secret.npy")):
        forged = table.replace_schema_metadata({"tlkit.taps": f'{{"pool": "{name}"}}'})
        pq.write_table(forged, tmp_path / "out" / "index.parquet")
        with pytest.raises(TlkitError, match="names a file in another folder"):
            load(tmp_path / "out")


def test_pickles_are_not_opened(tmp_path: Path, codes: Codes) -> None:
    write_codes(tmp_path / "out", codes, images(7))
    np.save(tmp_path / "out" / "pool.npy", np.array([{"a": 1}] * 7, dtype=object), allow_pickle=True)
    with pytest.raises(TlkitError, match=r"out: cannot be read as codes.*allow_pickle"):
        load(tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_foreign_and_missing_files_are_explained(format: str, tmp_path: Path, codes: Codes) -> None:
    needs(format)
    out = tmp_path / (f"codes.{format}" if format != "npy" else "codes")
    with pytest.raises(TlkitError, match="no such file or folder"):
        load(out)
    write_codes(out, codes, images(7))
    file = out / "pool.npy" if format == "npy" else out
    whole = file.read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"nothing of the kind" * 99):
        file.write_bytes(part)
        with pytest.raises(TlkitError, match="cannot be read as codes"):
            load(out)
    with pytest.raises(TlkitError, match=r"no index\.parquet in it"):
        load(tmp_path / "store")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(TlkitError, match="cannot be read as codes"):
        load(tmp_path / "foreign.parquet")


def test_arrays_that_do_not_fit_the_index_are_refused(tmp_path: Path, codes: Codes) -> None:
    write_codes(tmp_path / "out", codes, images(7))
    for wrong in (np.zeros((6, 5), np.float32), np.zeros((7, 5)), np.zeros(7, np.float32)):
        np.save(tmp_path / "out" / "pool.npy", wrong)
        with pytest.raises(TlkitError, match="the index has 7 rows"):
            load(tmp_path / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_explained_and_leaves_what_was_there(format: str, small_disk: Path, tmp_path: Path) -> None:
    needs(format)
    out = small_disk / (f"codes.{format}" if format != "npy" else "codes")
    write_codes(out, stored(tmp_path / "one", {"pool": np.ones((3, 2), np.float32)}), images(3))
    large = stored(tmp_path / "two", {"pool": np.random.default_rng(0).random((300, 2000), np.float32)})
    with pytest.raises(TlkitError, match="cannot write"):
        write_codes(out, large, images(300))
    assert load(out).values["pool"].shape == (3, 2)
    assert not list(small_disk.rglob("*.tmp"))


@pytest.mark.parametrize("format", FORMATS)
def test_memory_stays_bounded(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """96 MB of codes are written in pieces of 4 MB."""
    needs(format)
    monkeypatch.setattr("tlkit.codes.files._PIECE", 4 << 20)

    class Zeros(Rows):
        shape = (8_000, 3_000)

        def __init__(self) -> None:
            return

        def __getitem__(self, item: slice | NDArray[np.int64]) -> Array:
            assert isinstance(item, slice)
            return np.zeros((len(range(*item.indices(8_000))), 3_000), dtype=np.float32)

    data = images(8_000)
    import pyarrow as pa

    before = pa.total_allocated_bytes()
    tracemalloc.start()
    write_codes(tmp_path / "out", Codes({"pool": Zeros()}), data, format)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    assert pa.total_allocated_bytes() - before < 20e6


def test_an_interrupted_export_leaves_no_file(tmp_path: Path, codes: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_codes(tmp_path / "new" / "codes.safetensors", codes, images(7))
    assert not list((tmp_path / "new").iterdir())
