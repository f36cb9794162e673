"""Class folders as people have them, and the layouts that are something else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from tlkit.data import ImageData, decode, inspect, prepare
from tlkit.data.folder import folder
from tlkit.errors import TlkitError, UsageError

Plant = Callable[[list[str]], Path]


def _labelled(data: ImageData) -> dict[str, str]:
    return {file: data.classes[label] for file, label in zip(data.files, data.labels, strict=True)}


def test_class_folders(plant: Plant) -> None:
    names = ["10/a.jpg", "9/a.jpg", "9/deep/er/b.png", "Zebra, small/ü x.jpg", "ant/1.png", "émeu/1.jpg"]
    root = plant([*names, "ant/notes.txt", "readme.md", ".ipynb_checkpoints/a.jpg", "ant/.hidden.jpg"])
    data = folder(root=str(root))
    assert data.name == "folder"
    assert data.classes == ("10", "9", "Zebra, small", "ant", "émeu")
    assert _labelled(data) == {name: name.split("/")[0] for name in names}
    assert data.split is None
    assert data.groups is None
    assert data.ignored == 2
    assert data.source == {"root": str(root), "group": None}
    assert [decode(image).size for image in data.images] == [(12, 9)] * 6
    assert list(data.images) == [root / file for file in data.files]


def test_as_torchvision_lists_it(assets: Path) -> None:
    root = assets / "data" / "hymenoptera"
    data = folder(root=str(root))
    assert data.classes == ("ants", "bees")
    for split in ("train", "val"):
        theirs = ImageFolder(str(root / split), is_valid_file=lambda path: not Path(path).name.startswith("."))
        ours = data.select(data.rows(split))
        assert [(str(path), label) for path, label in zip(ours.images, ours.labels, strict=True)] == theirs.samples
    assert (len(data.rows("train")), len(data.rows("val"))) == (245, 153)


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Train", "valid", "TEST"), ("training", "validation", "testing")]
)
def test_split_folders(words: tuple[str, str, str], plant: Plant) -> None:
    names = [f"{word}/{kind}/{row}.jpg" for word in words for kind in ("cat", "dog") for row in range(2)]
    data = prepare(folder(root=str(plant([*names, ".git/x", "notes.txt"]))), 0)
    assert data.split is not None
    assert data.classes == ("cat", "dog")
    for word, split in zip(words, ("train", "val", "test"), strict=True):
        assert {data.files[row] for row in data.rows(split)} == {name for name in names if name.startswith(word)}
    assert data.ignored == 1


def test_a_lone_train_folder_is_split_by_us(plant: Plant) -> None:
    data = folder(root=str(plant([f"train/{kind}/{row}.jpg" for kind in "ab" for row in range(5)])))
    assert data.split is not None
    assert set(data.split.tolist()) == {"train"}
    assert len(prepare(data, 0).rows("test")) == 2


def test_train_may_be_a_class(plant: Plant) -> None:
    assert folder(root=str(plant(["car/1.jpg", "ship/1.jpg", "train/1.jpg"]))).classes == ("car", "ship", "train")


def test_groups_from_paths(plant: Plant) -> None:
    root = plant([f"{kind}/p{row % 3}_{row}.jpg" for kind in "ab" for row in range(6)])
    data = folder(root=str(root), group=r"/(p\d)_")
    assert data.groups is not None
    assert data.groups.tolist() == [f"p{row % 3}" for _ in "ab" for row in sorted(range(6), key=lambda row: row % 3)]
    whole = folder(root=str(root), group=r"p\d")
    assert whole.groups is not None
    assert whole.groups.tolist() == data.groups.tolist()
    with pytest.raises(TlkitError, match=r"data\.group=p0: names no group for 8 files: a/p1_1\.jpg"):
        folder(root=str(root), group="p0")
    with pytest.raises(UsageError, match=r"data\.group=\(: not a regular expression: missing \)"):
        folder(root=str(root), group="(")


def test_a_link_in_a_circle(plant: Plant) -> None:
    root = plant(["a/1.jpg", "b/1.jpg"])
    (root / "a" / "all").symlink_to(root, target_is_directory=True)
    assert folder(root=str(root)).files == ("a/1.jpg", "a/all/b/1.jpg", "b/1.jpg")


def test_unreadable_files_are_listed_like_others(plant: Plant) -> None:
    root = plant(["a/1.jpg", "b/1.jpg"])
    (root / "a" / "empty.jpg").touch()
    (root / "a" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    data = folder(root=str(root))
    assert data.files == ("a/1.jpg", "a/empty.jpg", "a/gone.jpg", "b/1.jpg")
    assert inspect(data)["images"] == 4


def test_relative_and_home_paths(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(["a/1.jpg", "b/1.jpg"])
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    for spelled in ("root", "root/", "~/root"):
        data = folder(root=spelled)
        assert data.files == ("a/1.jpg", "b/1.jpg")
        assert data.source["root"] == str(root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.jpg", "b/1.jpg", "loose.jpg"], r"images lie directly in .*root: loose\.jpg; expected one folder"),
        (["1.jpg", "2.jpg"], r"images lie directly in .*1\.jpg, 2\.jpg; .*use data=manifest"),
        (["a/1.jpg", "b/", "c/x.txt"], r"class folders without any image: .*/root/b, .*/root/c\. Fill or remove"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/"], r"without any image: .*/root/val/b\."),
        (["a/", "b/notes.txt"], r"no images below .*root; expected one folder of images for each class"),
        (["notes.txt"], "no images below"),
        (
            ["photos/a/1.jpg", "photos/b/1.jpg"],
            r"a single class folder, 'photos'.* Did you mean data\.root=.*/root/photos\?",
        ),
        (["val/a/1.jpg", "test/a/1.jpg"], r"holds split folders \(test, val\) but no train folder"),
        (["train/a/1.jpg", "val/a/1.jpg", "extra/1.jpg"], r"split folders \(train, val\) and other folders \(extra\)"),
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], "stand for one split: train, val, valid"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"], r"images lie directly in .*/root/val"),
    ],
)
def test_other_layouts_are_explained(names: list[str], message: str, plant: Plant) -> None:
    with pytest.raises(TlkitError, match=message):
        folder(root=str(plant(names)))


def test_a_class_that_train_lacks(plant: Plant) -> None:
    names = [f"{split}/{kind}/1.jpg" for split, kinds in (("train", "ab"), ("val", "aBb")) for kind in kinds]
    with pytest.raises(TlkitError, match=r"no training image of class B; .* in: val\. .*names must be written alike"):
        prepare(folder(root=str(plant(names))), 0)


def test_a_folder_that_may_not_be_read(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    root = plant(["a/1.jpg", "b/1.jpg"])
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(TlkitError, match=r"data\.root: cannot list .*/root: Permission denied\."):
        folder(root=str(root))


def test_no_such_folder(plant: Plant) -> None:
    root = plant(["a/1.jpg", "notes.txt"])
    with pytest.raises(TlkitError, match=r"data\.root=.*roto: no such folder: .*roto\. Did you mean 'root'\?"):
        folder(root=str(root.parent / "roto"))
    with pytest.raises(TlkitError, match=r"/gone does not exist either"):
        folder(root=str(root / "gone" / "a"))
    with pytest.raises(TlkitError, match="is a file, not a folder"):
        folder(root=str(root / "notes.txt"))
