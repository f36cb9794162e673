"""What inspect finds in real data, and in data with faults planted in it."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from tlkit.data import ImageData, inspect, list_images, prepare
from tlkit.data.digits import digits
from tlkit.data.folder import folder
from tlkit.data.manifest import manifest

Plant = Callable[[list[str]], Path]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def test_hymenoptera_has_one_placeholder(assets: Path) -> None:
    data = prepare(folder(root=str(assets / "data" / "hymenoptera")), 0)
    report = inspect(data)
    assert report["placeholders"] == ["train/ants/imageNotFound.gif"]
    assert report["counts"] == {"train": {"ants": 124, "bees": 121}, "val": {"ants": 70, "bees": 83}}
    assert report["duplicates"] == report["across_splits"] == report["conflicting_labels"] == []
    assert report["imbalance"] == 124 / 121
    assert report["warnings"] == ["Perhaps a placeholder, not an image of its class: train/ants/imageNotFound.gif."]
    assert json.loads(json.dumps(report)) == report


def test_a_placeholder_is_known_by_its_looks_alone(assets: Path, tmp_path: Path) -> None:
    source = assets / "data" / "hymenoptera" / "train" / "ants"
    photographs = sorted(source.glob("*.jpg"))[:40]
    for number, path in enumerate(photographs):
        _copy(path, tmp_path / "ab"[number % 2] / f"{number}.jpg")
    with PIL.Image.open(source / "imageNotFound.gif") as opened:
        image = opened.convert("RGB")
    image.save(tmp_path / "a" / "x.png")
    image.save(tmp_path / "b" / "y.jpg")
    assert inspect(folder(root=str(tmp_path)))["placeholders"] == ["a/x.png", "b/y.jpg"]


def test_many_copies_of_one_placeholder_are_all_named(plant: Plant) -> None:
    root = plant([f"{kind}/{row}.jpg" for kind in "ab" for row in range(20)])
    blank = PIL.Image.new("RGB", (300, 200), "white")
    PIL.ImageDraw.Draw(blank).text((100, 90), "this photo is gone", fill="black")
    blank.save(root / "a" / "gone.png")
    names = [f"a/copy {number}.png" for number in range(9)]
    for name in names:
        _copy(root / "a" / "gone.png", root / name)
    assert inspect(folder(root=str(root)))["placeholders"] == [*names, "a/gone.png"]


def test_no_false_alarms(assets: Path) -> None:
    data = assets / "data"
    for name in ("pollen", "solar_cells", "imagenet_samples"):
        images, _ = list_images(data / name)
        labels = np.arange(len(images)) % 2
        files = tuple(path.as_posix() for path in images)
        assert inspect(ImageData(name, images, files, labels, ("a", "b")))["placeholders"] == []
    assert inspect(manifest(path=str(data / "pollen" / "manifest.csv")))["warnings"] == []
    assert inspect(digits())["placeholders"] == []


def test_a_set_of_drawings_is_no_set_of_placeholders(tmp_path: Path) -> None:
    for number in range(20):
        drawing = PIL.Image.new("RGB", (200, 200), "white")
        PIL.ImageDraw.Draw(drawing).ellipse((20, 20, 60 + 5 * number, 120), outline="black")
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        drawing.save(path)
    assert inspect(folder(root=str(tmp_path)))["placeholders"] == []


@pytest.mark.parametrize(
    ("name", "suspicious"),
    [
        ("imageNotFound.jpg", True),
        ("image_not_found-2.jpg", True),
        ("no-photo.jpg", True),
        ("NoImageAvailable.jpg", True),
        ("photo unavailable.jpg", True),
        ("placeholder.jpg", True),
        ("IMG_0404.jpg", False),
        ("volcano_image.jpg", False),
        ("casino photo.jpg", False),
        ("found.jpg", False),
        ("missing_screw_01.jpg", False),
    ],
)
def test_names(name: str, suspicious: bool, plant: Plant) -> None:
    root = plant([f"a/{name}", "b/1.jpg", "b/placeholder/2.jpg"])
    assert inspect(folder(root=str(root)))["placeholders"] == ([f"a/{name}"] if suspicious else [])


def test_planted_duplicates(plant: Plant) -> None:
    root = plant([f"{split}/{kind}/{row}.jpg" for split in ("train", "val") for kind in "ab" for row in range(4)])
    _copy(root / "train/a/0.jpg", root / "train/a/0 copy.jpg")
    _copy(root / "train/a/1.jpg", root / "val/a/again.jpg")
    _copy(root / "train/b/2.jpg", root / "train/a/twin.jpg")
    same_size = bytearray((root / "train/b/3.jpg").read_bytes())
    same_size[-3] ^= 1
    (root / "train/b/similar.jpg").write_bytes(same_size)
    report = inspect(prepare(folder(root=str(root)), 0))
    assert sorted(report["duplicates"]) == [
        ["train/a/0 copy.jpg", "train/a/0.jpg"],
        ["train/a/twin.jpg", "train/b/2.jpg"],
    ]
    assert report["across_splits"] == [["train/a/1.jpg", "val/a/again.jpg"]]
    assert report["conflicting_labels"] == [["train/a/twin.jpg", "train/b/2.jpg"]]
    assert [warning.split(":")[0] for warning in report["warnings"]] == [
        "The same image in several splits, so the results will look too good",
        "The same image under several labels",
        "The same image several times within a split",
    ]
    assert "train/a/1.jpg = val/a/again.jpg" in report["warnings"][0]


def test_a_picture_twice_in_train_and_once_in_val(plant: Plant) -> None:
    root = plant([f"{split}/{kind}/{row}.jpg" for split in ("train", "val") for kind in "ab" for row in range(2)])
    for name in ("train/a/x.jpg", "val/a/x.jpg"):
        _copy(root / "train/a/0.jpg", root / name)
    report = inspect(prepare(folder(root=str(root)), 0))
    assert report["duplicates"] == [["train/a/0.jpg", "train/a/x.jpg"]]
    assert report["across_splits"] == [["train/a/0.jpg", "train/a/x.jpg", "val/a/x.jpg"]]


def test_duplicates_among_images_in_memory() -> None:
    images = [PIL.Image.new("L", (3, 3), grey) for grey in (1, 2, 1)]
    data = ImageData("made", images, ("x", "y", "z"), np.array([0, 1, 1]), ("a", "b"))
    report = inspect(data)
    assert report["duplicates"] == report["conflicting_labels"] == [["x", "z"]]
    assert report["counts"] == {"all": {"a": 1, "b": 2}}


def test_groups_on_both_sides(plant: Plant) -> None:
    root = plant([f"{split}/{kind}/p{row}.jpg" for split in ("train", "val") for kind in "ab" for row in range(2)])
    report = inspect(prepare(folder(root=str(root), group=r"p\d"), 0))
    assert report["groups_across_splits"] == ["p0", "p1"]
    assert "The same group in several splits, so the results will look too good: p0, p1." in report["warnings"]


def test_small_and_unequal_classes(plant: Plant) -> None:
    root = plant([*(f"many/{row}.jpg" for row in range(60)), *(f"few/{row}.jpg" for row in range(4)), "one/0.jpg"])
    report = inspect(prepare(folder(root=str(root)), 0))
    assert report["imbalance"] == 48
    assert report["counts"]["test"] == {"few": 1, "many": 12, "one": 0}
    assert report["warnings"] == [
        "No test image of class one: how well it is recognised stays unknown.",
        "Very few training images of class few (3), one (1).",
        "The largest class has 48 times as many training images as the smallest.",
    ]


def test_files_that_vanish_or_cannot_be_read_do_not_stop_it(plant: Plant) -> None:
    root = plant(["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    (root / "b" / "text.jpg").write_text("no image")
    data = folder(root=str(root))
    (root / "a" / "2.jpg").unlink()
    report = inspect(data.without({3: "not an image"}))
    assert report["unreadable"] == {"b/text.jpg": "not an image"}
    assert report["warnings"] == ["Unreadable and left out: b/text.jpg (not an image)."]
    assert inspect(data)["images"] == 4


def test_thousands_of_small_files_take_seconds(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "1.jpg")
    content = (tmp_path / "1.jpg").read_bytes()
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for row in range(1500):
            (tmp_path / kind / f"{row}.jpg").write_bytes(content + f"{kind}{row:06d}".encode())
    (tmp_path / "1.jpg").unlink()
    data = prepare(folder(root=str(tmp_path)), 0)
    started = time.process_time()  # all of equal size, so every file is read
    assert inspect(data)["duplicates"] == []
    assert time.process_time() - started < 5
