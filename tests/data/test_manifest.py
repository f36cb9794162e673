"""Tables of images, good and bad."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tlkit.data import ImageData, decode, prepare
from tlkit.data.manifest import manifest
from tlkit.errors import TlkitError, UsageError

Plant = Callable[[list[str]], Path]
NAMES = ["photos/a 1.jpg", "photos/b,2.jpg", "photos/c.jpg", "ü.jpg"]


@pytest.fixture
def write(plant: Plant) -> Callable[..., Path]:
    """Write four images and a table of the given columns beside them."""
    root = plant(NAMES)

    def make(ending: str = "csv", /, **columns: list[Any]) -> Path:
        table = pd.DataFrame({"path": NAMES, "label": ["x", "x", "y", "y"]} | columns)
        path = root / f"table.{ending}"
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
        return path

    return make


def _labels(data: ImageData) -> list[str]:
    return [data.classes[label] for label in data.labels]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table(ending: str, write: Callable[..., Path]) -> None:
    path = write(ending)
    data = manifest(path=str(path))
    assert data.name == "manifest"
    assert data.files == tuple(NAMES)
    assert _labels(data) == ["x", "x", "y", "y"]
    assert (data.split, data.groups) == (None, None)
    assert [decode(image).size for image in data.images] == [(12, 9)] * 4
    assert data.source == {"path": str(path), "root": str(path.parent)}


def test_labels_are_names(write: Callable[..., Path]) -> None:
    assert _labels(manifest(path=str(write(label=["007", "NA", " nan ", "1.50"])))) == ["007", "NA", "nan", "1.50"]
    assert _labels(manifest(path=str(write("parquet", label=[7, 7, 12, 12])))) == ["7", "7", "12", "12"]
    assert manifest(path=str(write(label=["10", "9", "9", "10"]))).classes == ("10", "9")


def test_splits_and_groups(write: Callable[..., Path]) -> None:
    path = write(split=["Train", "valid", "train", "validation"], group=["p1", "p2", "p3", "p2"], patient=[1, 2, 3, 4])
    data = prepare(manifest(path=str(path)), 0)
    assert data.split is not None
    assert data.groups is not None
    assert data.split.tolist() == ["train", "val", "train", "val"]
    assert data.groups.tolist() == ["p1", "p2", "p3", "p2"]
    chosen = manifest(path=str(path), group="patient")
    assert chosen.groups is not None
    assert chosen.groups.tolist() == ["1", "2", "3", "4"]


def test_other_column_names_and_root(write: Callable[..., Path], tmp_path: Path) -> None:
    table = write(file=NAMES, species=["p", "q", "p", "q"], fold=["train", "test", "test", "train"])
    moved = tmp_path / "tables" / "t.csv"
    moved.parent.mkdir()
    table.rename(moved)
    data = manifest(
        path=str(moved), root=str(table.parent), path_column="file", label_column="species", split_column="fold"
    )
    assert _labels(data) == ["p", "q", "p", "q"]
    assert data.split is not None
    assert data.split.tolist() == ["train", "test", "test", "train"]
    assert data.images[0] == table.parent / NAMES[0]


def test_absolute_paths_and_roundabout_ones(write: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.jpg"
    outside.touch()
    root = tmp_path / "root"
    paths = [str(root / NAMES[0]), str(outside), "photos/../photos/./c.jpg", "ü.jpg"]
    assert manifest(path=str(write(path=paths))).files == (NAMES[0], str(outside), "photos/c.jpg", "ü.jpg")


def test_a_table_from_excel(write: Callable[..., Path]) -> None:
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert _labels(manifest(path=str(path))) == ["x", "x", "y", "y"]


def test_pollen(assets: Path) -> None:
    data = manifest(path=str(assets / "data" / "pollen" / "manifest.csv"))
    assert (len(data), data.classes) == (714, ("no_pollen", "pollen"))
    assert data.groups is not None
    assert data.groups[0] == "10057"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"path": ["../x.jpg", "a/../../y.jpg", "photos/c.jpg", "ü.jpg"]},
            r"must stay below .*root: \.\./x\.jpg, a/\.\./\.\./y",
        ),
        (
            {"path": ["no1.jpg", "photos/c.jpg", "no2.jpg", "ü.jpg"]},
            r"2 of 4 files are not there: no1\.jpg, no2\.jpg; looked",
        ),
        ({"path": ["ü.jpg", "./ü.jpg", "photos/c.jpg", "photos"]}, r"1 images are listed more than once: ü\.jpg"),
        ({"path": ["photos", *NAMES[1:]]}, r"1 of 4 files are not there: photos;"),
        ({"label": ["x", "", "y", None]}, r"column 'label' is empty in 2 rows: rows 2, 4 below the header"),
        ({"path": ["", *NAMES[1:]]}, r"column 'path' is empty in 1 rows: rows 1 below"),
        ({"split": ["train", "", "train", "test"]}, r"column 'split' is empty in 1 rows"),
        ({"split": ["train", "fold 2", "train", "x"]}, r"unknown splits 'fold 2', 'x'; use train, val and test"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_bad_tables(ending: str, columns: dict[str, list[Any]], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(TlkitError, match=message):
        manifest(path=str(write(ending, **columns)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "lable"}, r"data\.label_column=lable: .* Did you mean 'label'\? Columns: path, label\."),
        ({"path_column": "file"}, r"data\.path_column=file: the table has no such column"),
        ({"split_column": "fold"}, r"data\.split_column=fold: the table has no such column"),
        ({"group": "patient"}, r"data\.group=patient: the table has no such column"),
    ],
)
def test_columns_that_are_not_there(settings: dict[str, str], message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=message):
        manifest(path=str(write()), **settings)


def test_files_that_are_no_tables(write: Callable[..., Path]) -> None:
    path = write()
    with pytest.raises(TlkitError, match=r"no such file: .*tabel\.csv\. Did you mean 'table\.csv'\?"):
        manifest(path=str(path.with_name("tabel.csv")))
    with pytest.raises(TlkitError, match=r"a manifest is a \.csv or \.parquet file"):
        manifest(path=str(path.rename(path.with_suffix(".json"))))
    for content in (b"", b"PAR1", b"\xff\xfe\x00"):
        for ending in ("csv", "parquet"):
            bad = path.with_suffix(f".{ending}")
            bad.write_bytes(content)
            with pytest.raises(TlkitError):
                manifest(path=str(bad))
    empty = path.with_suffix(".csv")
    empty.write_text("path,label\n")
    with pytest.raises(TlkitError, match="at least two classes, found none"):
        prepare(manifest(path=str(empty)), 0)
