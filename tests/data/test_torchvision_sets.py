"""Miniature sets in the layouts that torchvision reads, compared with what torchvision makes of them."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torchvision.datasets
from scipy.io import savemat

from tlkit.data import ImageData, UnreadableImage, decode, inspect, prepare
from tlkit.data.torchvision_sets import SETS, torchvision_set
from tlkit.errors import TlkitError, UsageError


def _photo(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (10 + number, 12), (number * 20 % 256, 0, 0)).save(path)


def _labelled(data: ImageData, split: str) -> list[tuple[str, str]]:
    return [(data.files[row], data.classes[data.labels[row]]) for row in data.rows(split)]


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve flowers of three kinds, numbered as in the original: kinds and images from 1."""
    base = tmp_path / "flowers-102"
    for number in range(1, 13):
        _photo(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": np.array([1, 2, 77] * 4)})
    savemat(base / "setid.mat", {"trnid": [1, 2, 3, 7, 8, 9], "valid": [4, 5, 6], "tstid": [10, 11, 12]})
    sums = {"image": ("102flowers.tgz", "0")}
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        sums[key] = (name, hashlib.md5((base / name).read_bytes(), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", sums)
    return tmp_path


def test_flowers(flowers: Path) -> None:
    data = prepare(torchvision_set(dataset="flowers102", root=str(flowers)), 0)
    assert data.name == "Flowers102"
    assert data.classes == ("hard-leaved pocket orchid", "passion flower", "pink primrose")
    for split in ("train", "val", "test"):
        theirs = torchvision.datasets.Flowers102(flowers, split)
        ours = data.select(data.rows(split))
        assert len(ours) == len(theirs)
        for image, label, (their_image, their_label) in zip(ours.images, ours.labels, list(theirs), strict=True):
            assert ours.classes[label] == theirs.classes[their_label]
            assert decode(image).tobytes() == their_image.tobytes()
    assert data.files[0] == "flowers-102/jpg/image_00001.jpg"
    assert all(isinstance(image, Path) for image in data.images)
    assert inspect(data)["counts"]["test"] == dict.fromkeys(data.classes, 1)


def test_no_picture_is_opened_while_listing(flowers: Path) -> None:
    for path in (flowers / "flowers-102" / "jpg").iterdir():
        path.write_bytes(b"")
    data = torchvision_set(dataset="Flowers102", root=str(flowers))
    with pytest.raises(UnreadableImage, match="empty file"):
        decode(data.images[0])


def test_the_root_comes_from_the_environment(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLKIT_DATA", str(flowers))
    assert len(torchvision_set(dataset="Flowers102")) == 12


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    base = tmp_path / "oxford-iiit-pet"
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, kind in enumerate(("Abyssinian", "great_pyrenees", "Bengal"), start=1):
        for number in range(1, 5):
            _photo(base / "images" / f"{kind}_{number}.jpg", number)
            lines["test" if number == 4 else "trainval"].append(f"{kind}_{number} {label} 1 1")
    (base / "annotations").mkdir()
    for split, rows in lines.items():
        (base / "annotations" / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_pets(pets: Path) -> None:
    data = prepare(torchvision_set(dataset="OxfordIIITPet", root=str(pets)), 0)
    assert data.classes == ("Abyssinian", "Bengal", "Great Pyrenees")
    assert _labelled(data, "test") == [
        ("oxford-iiit-pet/images/Abyssinian_4.jpg", "Abyssinian"),
        ("oxford-iiit-pet/images/great_pyrenees_4.jpg", "Great Pyrenees"),
        ("oxford-iiit-pet/images/Bengal_4.jpg", "Bengal"),
    ]
    assert len(data.rows("train")) == 9
    assert decode(data.images[0]).size == (11, 12)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 20), ("t10k", 10)):
        scans = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, n, 28, 28) + scans.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels.tobytes())
    return tmp_path


def test_mnist(mnist: Path) -> None:
    data = prepare(torchvision_set(dataset="MNIST", root=str(mnist)), 0)
    assert data.classes[3] == "3 - three"
    assert data.split_sizes() == "20 train, 10 test"
    assert (data.files[0], data.files[29]) == ("train/00000", "test/00009")
    theirs = torchvision.datasets.MNIST(mnist, train=False)
    for row, (their_image, their_label) in zip(data.rows("test"), list(theirs), strict=True):
        image = data.images[row]
        assert isinstance(image, PIL.Image.Image)
        assert image.tobytes() == their_image.tobytes()
        assert data.labels[row] == their_label
    part = data.select(data.rows("test")[:3])
    assert [decode(image).size for image in part.images] == [(28, 28)] * 3
    assert inspect(data)["duplicates"] == []


def test_a_set_without_splits_or_names_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (30, 256))
    table = np.hstack([pixels, np.eye(10, dtype=int)[np.arange(30) % 10]])
    np.savetxt(tmp_path / "semeion.data", table, fmt="%d")
    content = (tmp_path / "semeion.data").read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(torchvision.datasets.SEMEION, "md5_checksum", md5)
    data = torchvision_set(dataset="SEMEION", root=str(tmp_path))
    assert data.split is None
    assert data.classes == tuple("0123456789")
    assert data.files[7] == "00007"
    assert prepare(data, 0).split_sizes() == "20 train, 10 test"
    np.testing.assert_array_equal(np.asarray(data.images[7])[0], pixels[7, :16] * 255)


def test_numbers_for_names_are_padded_alike_in_all_splits(tmp_path: Path) -> None:
    for label in range(11):
        _photo(tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}" / "0.ppm", label)
    for label in range(2):
        _photo(tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"{label}.ppm", label)
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text("Filename;ClassId\n0.ppm;0\n1.ppm;1\n")
    data = torchvision_set(dataset="GTSRB", root=str(tmp_path))
    assert data.classes == tuple(f"{label:02d}" for label in range(11))
    prefix = "gtsrb/GTSRB/Final_Test/Images"
    assert _labelled(data, "test") == [(f"{prefix}/0.ppm", "00"), (f"{prefix}/1.ppm", "01")]
    assert decode(data.images[1]).size == (11, 12)


def test_classes_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _imagenette(tmp_path)
    twins = {"n01440764": ("crane",), "n03888257": ("crane",)}
    monkeypatch.setattr(torchvision.datasets.Imagenette, "_WNID_TO_CLASS", twins)
    assert torchvision_set(dataset="Imagenette", root=str(tmp_path)).classes == ("0 crane", "1 crane")


def _food(root: Path) -> None:
    meta = {"apple_pie": ["apple_pie/1", "apple_pie/2"], "waffles": ["waffles/1", "waffles/2"]}
    for names in meta.values():
        for name in names:
            _photo(root / "food-101" / "images" / f"{name}.jpg", 1)
    (root / "food-101" / "meta").mkdir()
    for split, index in (("train", 0), ("test", 1)):
        part = {kind: names[index : index + 1] for kind, names in meta.items()}
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(part))


def _textures(root: Path) -> None:
    for kind in ("banded", "woven"):
        for number in range(3):
            _photo(root / "dtd" / "dtd" / "images" / kind / f"{number}.jpg", number)
    labels = root / "dtd" / "dtd" / "labels"
    labels.mkdir()
    for number, split in enumerate(("train", "val", "test")):
        (labels / f"{split}1.txt").write_text(f"banded/{number}.jpg\nwoven/{number}.jpg\n")


def _land(root: Path) -> None:
    for kind in ("Forest", "River"):
        for number in range(5):
            _photo(root / "eurosat" / "2750" / kind / f"{number}.jpg", number)


def _imagenette(root: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n03888257"):
            _photo(root / "imagenette2" / split / wnid / "1.JPEG", 1)


@pytest.mark.parametrize(
    ("dataset", "make", "classes", "sizes"),
    [
        ("Food101", _food, ("apple_pie", "waffles"), "2 train, 2 test"),
        ("DTD", _textures, ("banded", "woven"), "2 train, 2 val, 2 test"),
        ("EuroSAT", _land, ("Forest", "River"), "8 train, 2 test"),
        ("Imagenette", _imagenette, ("parachute, chute", "tench, Tinca tinca"), "2 train, 2 val"),
    ],
)
def test_sets_of_files(
    dataset: str, make: Callable[[Path], None], classes: tuple[str, ...], sizes: str, tmp_path: Path
) -> None:
    make(tmp_path)
    data = prepare(torchvision_set(dataset=dataset, root=str(tmp_path)), 0)
    assert data.classes == classes
    assert data.split_sizes() == sizes
    assert all(isinstance(image, Path) and decode(image).size[1] == 12 for image in data.images)


def test_a_damaged_picture_is_unreadable_not_fatal(tmp_path: Path) -> None:
    for kind in ("accordion", "ant", "BACKGROUND_Google"):
        for number in (1, 2):
            _photo(tmp_path / "caltech101" / "101_ObjectCategories" / kind / f"image_{number:04d}.jpg", number)
    (tmp_path / "caltech101" / "101_ObjectCategories" / "ant" / "image_0002.jpg").write_bytes(b"")
    data = torchvision_set(dataset="Caltech101", root=str(tmp_path))
    assert data.classes == ("accordion", "ant")
    assert decode(data.images[0]).size == (11, 12)
    with pytest.raises(UnreadableImage, match="torchvision cannot open it"):
        data.images[3]
    assert inspect(data)["images"] == 4


@pytest.mark.parametrize("download", [True, False])
def test_a_set_that_is_not_there(download: bool, tmp_path: Path) -> None:
    with pytest.raises(TlkitError) as caught:
        torchvision_set(dataset="Flowers102", root=str(tmp_path), download=download)
    message = str(caught.value)
    assert message.startswith(f"Flowers102 is not complete below {tmp_path}")
    assert ("cannot be downloaded" in message) is download
    assert "flowers-102/jpg/, flowers-102/imagelabels.mat and flowers-102/setid.mat" in message
    assert "data.root or TLKIT_DATA" in message


def test_a_set_that_cannot_be_downloaded_at_all(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match=r"FER2013 is not complete below .*fer2013/fer2013\.csv"):
        torchvision_set(dataset="FER2013", root=str(tmp_path))


def test_unknown_sets() -> None:
    with pytest.raises(UsageError, match=r"data\.dataset=flower102: .* Did you mean 'Flowers102'"):
        torchvision_set(dataset="flower102")
    with pytest.raises(UsageError, match=r"CocoDetection: no such classification set"):
        torchvision_set(dataset="CocoDetection")


def test_every_set_named_here_is_one_of_torchvisions() -> None:
    assert set(SETS) <= set(torchvision.datasets.__all__)
