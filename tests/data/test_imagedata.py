"""ImageData: rows, selections, what is left out and why."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit.data import Image, ImageData
from tlkit.data.imagedata import LazyImages, by_name
from tlkit.errors import TlkitError


def _data(**changes: object) -> ImageData:
    fields: dict[str, object] = {
        "name": "made",
        "images": [Path(f"{row}.png") for row in range(6)],
        "files": tuple(f"{row}.png" for row in range(6)),
        "labels": np.array([0, 0, 1, 1, 0, 1]),
        "classes": ("ants", "bees"),
        "split": np.array(["train", "train", "train", "train", "val", "val"]),
        "groups": np.array(list("aabbcc")),
    }
    return ImageData(**(fields | changes))  # type: ignore[arg-type]


def test_rows_and_held_out() -> None:
    data = _data()
    assert len(data) == 6
    assert data.rows("train").tolist() == [0, 1, 2, 3]
    assert data.rows("val").dtype == np.int64
    assert data.held_out == "val"
    assert _data(split=np.array(["train"] * 4 + ["val", "test"])).held_out == "test"
    assert data.split_sizes() == "4 train, 2 val"
    assert _data(split=None).split_sizes() == "not split"
    with pytest.raises(TlkitError, match=r"not split yet; call tlkit\.data\.prepare"):
        _data(split=None).rows("train")


def test_select_keeps_every_column_in_step() -> None:
    picked = _data().select([5, 0])
    assert picked.files == ("5.png", "0.png")
    assert picked.images[0] == Path("5.png")
    assert picked.labels.tolist() == [1, 0]
    assert picked.split is not None
    assert picked.split.tolist() == ["val", "train"]
    assert picked.groups is not None
    assert picked.groups.tolist() == ["c", "a"]
    assert picked.classes == ("ants", "bees")


def test_selections_stay_lazy() -> None:
    opened: list[int] = []

    def open_row(row: int) -> Image:
        opened.append(row)
        return PIL.Image.new("L", (1, 1), row)

    data = _data(images=LazyImages(open_row, range(6))).select([4, 2, 0]).select([2, 1])
    assert len(data.images) == 2
    later = data.images[1:]
    assert opened == []
    assert [image.getpixel((0, 0)) for image in data.images if isinstance(image, PIL.Image.Image)] == [0, 2]
    assert opened == [0, 2]
    assert len(later) == 1
    assert later[-1].getpixel((0, 0)) == 2  # type: ignore[union-attr]
    with pytest.raises(IndexError):
        data.images[2]


def test_without_records_the_reasons() -> None:
    data = _data()
    assert data.without({}) is data
    left = data.without({3: "empty file"}).without({0: "not an image"})
    assert left.files == ("1.png", "2.png", "4.png", "5.png")
    assert left.unreadable == {"3.png": "empty file", "0.png": "not an image"}
    assert data.unreadable == {}


def test_without_stops_if_told_to() -> None:
    with pytest.raises(TlkitError, match=r"made: 1 unreadable: 3\.png \(empty file\)\..*data\.on_error=skip"):
        _data(on_error="raise").without({3: "empty file"})


@pytest.mark.parametrize("split", [None, np.array(["train"] * 4 + ["val"] * 2)])
def test_without_refuses_to_lose_a_class(split: np.ndarray | None) -> None:
    errors = {2: "empty file", 3: "empty file"} | ({5: "empty file"} if split is None else {})
    with pytest.raises(TlkitError, match=r"no readable training image is left of class bees: 2\.png \(empty file\)"):
        _data(split=split).without(errors)


def test_aligned_binds_labels_by_name() -> None:
    data = _data().aligned(["wasps", "bees", "ants"])
    assert data.classes == ("wasps", "bees", "ants")
    assert [data.classes[label] for label in data.labels] == ["ants", "ants", "bees", "bees", "ants", "bees"]
    with pytest.raises(TlkitError, match=r"unknown classes: bees\. Did you mean 'bee'\? Known: ants, bee\."):
        _data().aligned(["ants", "bee"])
    without_bees = _data().select([0, 1]).aligned(["ants", "wasps"])
    assert without_bees.labels.tolist() == [0, 0]


@given(st.lists(st.text(max_size=4)))
def test_by_name_sorts_as_python_does_and_loses_nothing(names: list[str]) -> None:
    classes, labels = by_name(names)
    assert list(classes) == sorted(set(names))
    assert labels.dtype == np.int64
    assert [classes[label] for label in labels] == names
