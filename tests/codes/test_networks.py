"""Converted networks: made once, checked, and given up where OpenVINO cannot have them."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone
from tlkit.codes.engines import engine_version, make_engine, networks
from tlkit.codes.engines.frozen import Frozen, gap, noise
from tlkit.codes.engines.networks import find_network, keep_network

MakeSmall = Callable[..., Backbone]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


@pytest.fixture(scope="module")
def converted(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the converted network of tiny, and nothing else; not to be changed."""
    folder = tmp_path_factory.mktemp("converted")
    make_engine(tiny, ["pool"], cache=folder)
    return folder


def reference(backbone: Backbone, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    return Frozen(backbone.module.eval(), backbone.preprocess, [backbone.tap("pool")], "avg").codes(pixels)


def test_a_network_is_converted_once(tiny: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pixels = noise(tiny.preprocess, 2)
    first = make_engine(tiny, ["pool"], cache=tmp_path)(pixels)
    (folder,) = tmp_path.iterdir()
    before = {file.name: file.stat().st_ino for file in folder.iterdir()}
    assert set(before) == {"network.xml", "network.bin", "network.json"}
    again = make_engine(tiny, ["layer1", "pool"], precision="bf16", batch_size=1, cache=tmp_path)(pixels)
    assert {file.name: file.stat().st_ino for file in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]
    assert not caplog.records
    np.testing.assert_array_equal(make_engine(tiny, ["pool"], cache=tmp_path)(pixels)["pool"], first["pool"])
    assert 0 < gap([again["pool"]], [first["pool"]]) < 0.05
    np.testing.assert_array_equal(make_engine(tiny, ["pool"])(pixels)["pool"], first["pool"])


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "record", "empty"])
def test_a_damaged_network_is_noticed_and_converted_again(
    damage: str, tiny: Backbone, converted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = noise(tiny.preprocess, 2)
    first = make_engine(tiny, ["pool"], cache=converted)(pixels)["pool"]
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    (folder,) = tmp_path.iterdir()
    weights = folder / "network.bin"
    content = weights.read_bytes()
    if damage == "bit":
        weights.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif damage == "cut":
        weights.write_bytes(content[:-1])
    elif damage == "gone":
        weights.unlink()
    else:
        (folder / "network.json").write_text("{}" if damage == "record" else "")
    np.testing.assert_array_equal(make_engine(tiny, ["pool"], cache=tmp_path)(pixels)["pool"], first)
    assert "is damaged" in caplog.text
    assert weights.read_bytes() == content
    caplog.clear()
    make_engine(tiny, ["pool"], cache=tmp_path)
    assert not caplog.records
    assert list(tmp_path.iterdir()) == [folder]


def test_of_two_that_convert_at_once_the_first_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "digest"

    def write(target: Path, text: str = "second") -> None:
        if text == "second":  # meanwhile another process is done
            keep_network(folder, lambda other: write(other, "first"))
        for name in ("network.xml", "network.bin"):
            (target / name).write_text(text)

    assert keep_network(folder, write).read_text() == "first"
    assert find_network(folder) == folder / "network.xml"
    assert list(tmp_path.iterdir()) == [folder]


def test_whatever_changes_the_network_converts_it_again(small_backbone: MakeSmall, tmp_path: Path) -> None:
    def build(mean: float = 0.5) -> Backbone:
        torch.manual_seed(0)
        return small_backbone(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), mean=mean)

    make_engine(build(), ["pool"], cache=tmp_path)
    make_engine(build(), ["pool"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    weights, padding, eps = build(), build(), build()
    weights.module.get_parameter("blocks.0.bias").data += 1
    padding.module.get_submodule("blocks.0").padding = (0, 0)  # type: ignore[assignment]
    eps.module.get_submodule("blocks.1").eps = 0.5  # type: ignore[assignment]
    mean = build(0.4)
    pixels = noise(mean.preprocess, 3)
    for number, changed in enumerate([weights, padding, eps, mean], 2):
        codes = make_engine(changed, ["pool"], cache=tmp_path)(pixels)["pool"]
        assert gap([codes], reference(changed, pixels)) < 1e-5
        assert len(list(tmp_path.iterdir())) == number
    make_engine(build(), ["pool"], pooling="max", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_cache_that_cannot_be_written_costs_a_warning(
    tiny: Backbone, tmp_path: Path, converted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    engine = make_engine(tiny, ["pool"], cache=file)
    assert engine.name == "openvino"
    assert "no place for the converted network" in caplog.text
    pixels = noise(tiny.preprocess, 2)
    np.testing.assert_array_equal(engine(pixels)["pool"], make_engine(tiny, ["pool"], cache=converted)(pixels)["pool"])


class CountsImages(nn.Module):
    """Takes the number of images for a constant when it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(len(x))


class Refuses(nn.Module):
    """Cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit._trace.is_tracing():  # type: ignore[no-untyped-call]
            raise RuntimeError("this network will not be traced")
        return x * 2


@pytest.mark.parametrize(("layer", "reason"), [(CountsImages, "differ from torch's"), (Refuses, "cannot convert it")])
def test_a_network_that_cannot_be_converted_runs_in_torch(
    layer: type[nn.Module], reason: str, small_backbone: MakeSmall, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = small_backbone(nn.Conv2d(3, 4, 3), layer())
    pixels = noise(backbone.preprocess, 4)
    for _ in range(2):  # the second time it is remembered
        engine = make_engine(backbone, ["pool"], batch_size=4, cache=tmp_path)
        assert engine.name == "torch"
        assert engine.version == engine_version(engine="torch") != engine_version()
        assert gap([engine(pixels)["pool"]], reference(backbone, pixels)) < 1e-5
        assert "small runs in torch, which is slower: " in caplog.text
        assert reason in caplog.text
        caplog.clear()
        (record,) = tmp_path.rglob("*.*")
        assert record.name == "network.json"


def test_networks_that_nobody_uses_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> None:
        for name in networks.FILES:
            (folder / name).write_bytes(bytes(1000))

    monkeypatch.setattr(networks, "MOST_BYTES", 5000)
    for number in range(3):
        networks.keep_network(tmp_path / str(number), write)
        os.utime(tmp_path / str(number), (number, number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    (tmp_path / ".killed.tmp").mkdir()
    os.utime(tmp_path / ".killed.tmp", (0, 0))
    assert networks.find_network(tmp_path / "1")  # so that it is the last one used
    networks.keep_network(tmp_path / "3", write)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]
