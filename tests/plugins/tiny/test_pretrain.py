"""Pretraining really runs, learns, and writes what timm reads."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from tlkit_plugins.tiny import pretrain
from tlkit_plugins.tiny.pretrain import MEAN, SIZE, STD, Scenes, hub_config, paint, parser, train, write
from torch import Generator, Tensor

CHANNELS = [8, 16, 24, 32]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _arguments(words: str) -> argparse.Namespace:
    arguments: argparse.Namespace = parser().parse_args(["--out", "x", "--batch-size", "16", *words.split()])
    return arguments


def _scenes(words: str = "--ifs 2 --contours 2 --glyphs 4 --textures 4 --images 8") -> Scenes:
    return Scenes.draw(_arguments(words))


def _paint(scenes: Scenes, seed: int, mix: float = 0.5, free: float = 0.0, size: int = SIZE) -> tuple[Tensor, ...]:
    rows = torch.arange(len(scenes.figures))
    painted: tuple[Tensor, ...] = paint(
        scenes, rows, rows % len(scenes.textures), Generator().manual_seed(seed), size, mix, free
    )
    return painted


def test_a_mini_pretraining_lowers_the_loss() -> None:
    torch.manual_seed(0)
    args = _arguments("--ifs 3 --contours 2 --glyphs 3 --textures 2 --images 40 --epochs 12 --mix 0 --small 32")
    model = timm.create_model("resnet10t", num_classes=10, channels=[16, 32, 64, 96])
    history = train(model, Scenes.draw(args), args)
    assert len(history) == 12
    assert history[-1] < history[0] - 0.4


def test_the_command_writes_a_folder_that_timm_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--architecture resnet10t --channels 8 16 24 32 --ifs 2 --contours 2 --glyphs 2 --textures 2"
    words += " --images 8 --epochs 1"
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(tmp_path / "w"), "--batch-size", "16", *words.split()])
    pretrain.main()
    assert "epoch 1/1 loss" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["config.json", "model.safetensors"]
    model = timm.create_model(f"local-dir:{tmp_path / 'w'}", pretrained=True)
    stored = load_file(tmp_path / "w" / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor.to(stored[name].dtype), stored[name]) for name, tensor in model.state_dict().items())
    assert getattr(model, "pretrained_cfg", {})["input_size"] == [3, SIZE, SIZE]
    assert json.loads((tmp_path / "w" / "config.json").read_text())["pretraining"]["epochs"] == 1


def test_a_failed_write_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pretrain, "save_file", full)
    model = timm.create_model("resnet10t", num_classes=2, channels=CHANNELS)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path, model, hub_config(model, "resnet10t", {"channels": CHANNELS}, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"


@pytest.mark.parametrize("size", [48, SIZE])
def test_painted_pictures_are_normalised_varied_and_repeatable(size: int) -> None:
    scenes = _scenes()
    pictures, partner, share, clear = _paint(scenes, 1, size=size)
    assert torch.equal(pictures, _paint(scenes, 1, size=size)[0])
    assert not torch.equal(pictures, _paint(scenes, 2, size=size)[0])
    assert pictures.shape == (64, 3, size, size)
    assert pictures.min() >= (0 - MEAN) / STD
    assert pictures.max() <= (1 - MEAN) / STD
    assert sorted(partner.tolist()) == list(range(64))
    assert set(share.tolist()) == {0.5, 1.0}
    assert clear.min() == 0
    assert 0.5 < clear.max() <= 1
    assert (pictures.std((1, 2, 3)) > 0.02).float().mean() > 0.9


def test_no_second_figure_without_mix() -> None:
    assert (_paint(_scenes(), 0, mix=0.0)[2] == 1).all()


@pytest.mark.parametrize("free", [0.0, 1.0])
def test_classes_keep_their_colour_until_it_is_set_free(free: float) -> None:
    blots = {"figures": torch.full((200, SIZE, SIZE), 255, dtype=torch.uint8), "labels": torch.zeros(200).long()}
    scenes = dataclasses.replace(_scenes(), **blots, tints=torch.tensor([[1.0, 0.2, 0.2]]))
    pictures = _paint(scenes, 0, mix=0.0, free=free)[0]
    centre = pictures[:, :, 28:36, 28:36].mean((2, 3))
    colourful = (centre.amax(1) - centre.amin(1)) > 0.1
    assert 0.5 < colourful.float().mean() < 0.9  # the others are grey
    red = (centre[colourful].argmax(1) == 0).float().mean()
    assert red > 0.95 if free == 0 else 0.4 < red < 0.85
