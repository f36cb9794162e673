"""Hugging Face data sets on disk, in every form that people have them in; no network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tlkit.data import ImageData, UnreadableImage, decode, inspect, prepare
from tlkit.data.huggingface import hf
from tlkit.errors import TlkitError, UsageError

datasets = pytest.importorskip("datasets")
Plant = Callable[[list[str]], Path]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def _pictures(n: int) -> list[PIL.Image.Image]:
    rng = np.random.default_rng(n)
    return [PIL.Image.fromarray(rng.integers(0, 256, (6, 5 + row, 3), dtype=np.uint8)) for row in range(n)]


def _set(n: int, kind: Any = None, **columns: list[Any]) -> Any:  # noqa: ANN401
    values = {"image": _pictures(n), "label": [row % 2 for row in range(n)]} | columns
    kinds = {name: datasets.Value("string") for name in values}
    kinds |= {"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=["dog", "cat"])}
    kinds |= {"mask": datasets.Image()} if "mask" in columns else {}
    return datasets.Dataset.from_dict(values, features=datasets.Features(kinds))


def _labels(data: ImageData) -> list[str]:
    return [data.classes[label] for label in data.labels]


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    for split, n in (("train", 6), ("validation", 4), ("test", 2)):
        _set(n).to_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    data = prepare(hf(path=str(tmp_path / "set")), 0)
    assert data.name == "hf"
    assert data.classes == ("cat", "dog")
    assert data.split_sizes() == "6 train, 4 val, 2 test"
    assert _labels(data.select(data.rows("train"))) == ["dog", "cat"] * 3
    assert data.files[0] == "train/000000"
    for row, original in zip(data.rows("val"), _pictures(4), strict=True):
        assert decode(data.images[row]).tobytes() == original.tobytes()
    assert data.source["image_column"] == "image"
    assert inspect(data)["unreadable"] == {}


def test_one_parquet_file_and_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(10).to_parquet(tmp_path / "set.parquet")
    monkeypatch.setenv("HOME", str(tmp_path))
    data = hf(path="~/set.parquet")
    assert len(data) == 10
    assert prepare(data, 0).split_sizes() == "8 train, 2 test"


def test_save_to_disk_with_and_without_splits(tmp_path: Path) -> None:
    _set(10).save_to_disk(tmp_path / "one")
    data = hf(path=str(tmp_path / "one"))
    assert data.split is None
    assert data.files[3] == "000003"
    parts = datasets.DatasetDict({"train": _set(4), "valid": _set(2), "unsupervised": _set(2)})
    parts.save_to_disk(tmp_path / "parts")
    data = hf(path=str(tmp_path / "parts"))
    assert data.split_sizes() == "4 train, 2 val"
    assert data.source["unused_splits"] == ["unsupervised"]


def test_a_folder_of_pictures(plant: Plant) -> None:
    root = plant(
        [f"{split}/{kind}/{row}.jpg" for split in ("train", "test") for kind in ("ant", "bee") for row in range(3)]
    )
    data = prepare(hf(path=str(root)), 0)
    assert data.classes == ("ant", "bee")
    assert data.split_sizes() == "6 train, 6 test"
    assert sorted(str(image) for image in data.images) == sorted(str(path) for path in root.rglob("*.jpg"))


def test_labels_of_other_types(tmp_path: Path) -> None:
    _set(4, datasets.Value("int64"), label=[3, 12, 3, 0]).to_parquet(tmp_path / "a.parquet")
    assert _labels(hf(path=str(tmp_path / "a.parquet"))) == ["03", "12", "03", "00"]
    _set(4, datasets.Value("string"), label=["x", "y", "x", None]).to_parquet(tmp_path / "b.parquet")
    data = hf(path=str(tmp_path / "b.parquet"))
    assert _labels(data) == ["x", "y", "x"]
    assert data.source["unlabelled"] == 1


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    parts = datasets.DatasetDict({"train": _set(6, label=[0, 1, -1, 0, 1, None]), "test": _set(2, label=[-1, -1])})
    parts.save_to_disk(tmp_path / "set")
    data = hf(path=str(tmp_path / "set"))
    assert data.files == ("train/000000", "train/000001", "train/000003", "train/000004")
    assert data.source["unlabelled"] == 4
    original = _pictures(6)
    for image, row in zip(data.images, (0, 1, 3, 4), strict=True):
        assert decode(image).tobytes() == original[row].tobytes()


def test_columns_can_be_named(tmp_path: Path) -> None:
    _set(4, species=["p", "q", "p", "q"], mask=_pictures(4)).to_parquet(tmp_path / "set.parquet")
    path = str(tmp_path / "set.parquet")
    with pytest.raises(UsageError, match=r"data\.image_column: not clear .* Columns that can be it: image, mask"):
        hf(path=path)
    data = hf(path=path, image_column="mask", label_column="species")
    assert data.classes == ("p", "q")
    with pytest.raises(UsageError, match=r"data\.image_column=masks: no such column\. Did you mean 'mask'\?"):
        hf(path=path, image_column="masks")
    with pytest.raises(UsageError, match=r"data\.label_column=image: no such column\."):
        hf(path=path, image_column="mask", label_column="image")


def test_no_label_column_is_guessed(tmp_path: Path) -> None:
    made = _set(2).rename_column("label", "kind").cast_column("kind", datasets.Value("int64"))
    made.to_parquet(tmp_path / "set.parquet")
    with pytest.raises(
        UsageError, match=r"data\.label_column: not clear .* Columns that can be it: kind \(all: image, kind\)"
    ):
        hf(path=str(tmp_path / "set.parquet"))


def test_pictures_are_opened_late_and_by_tlkit(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    contents = [{"bytes": content, "path": None} for content in (eps, b"no image")] + _pictures(2)
    _set(4, image=[*contents]).to_parquet(tmp_path / "set.parquet")
    data = hf(path=str(tmp_path / "set.parquet"))
    for row in (0, 1):
        with pytest.raises(UnreadableImage, match="not an image"):
            decode(data.images[row])
    assert decode(data.images[3]).size == (6, 6)
    assert inspect(data)["images"] == 4


def test_a_row_without_a_picture(tmp_path: Path) -> None:
    _set(2, image=[None, *_pictures(1)]).to_parquet(tmp_path / "set.parquet")
    data = hf(path=str(tmp_path / "set.parquet"))
    with pytest.raises(UnreadableImage, match="no image in this row"):
        data.images[0]


def test_splits_with_unusual_names(tmp_path: Path) -> None:
    datasets.DatasetDict({"fold1": _set(2), "fold2": _set(2)}).save_to_disk(tmp_path / "folds")
    with pytest.raises(TlkitError, match="the splits are fold1, fold2; tlkit needs train"):
        hf(path=str(tmp_path / "folds"))
    datasets.DatasetDict({"train": _set(2), "val": _set(2), "validation": _set(2)}).save_to_disk(tmp_path / "twice")
    with pytest.raises(TlkitError, match="the splits are train, val, validation"):
        hf(path=str(tmp_path / "twice"))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match=r"data\.path=nobody/nothing: Hugging Face datasets cannot load it: "):
        hf(path="nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TlkitError, match="cannot load it"):
        hf(path=str(tmp_path / "empty"))
