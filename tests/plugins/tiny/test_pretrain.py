"""Pretraining really runs, learns, and writes what timm reads."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from tlkit_plugins.tiny import pretrain
from tlkit_plugins.tiny.fractals import dataset
from tlkit_plugins.tiny.pretrain import MEAN, SIZE, STD, hub_config, paint, parser, train, write

CHANNELS = [8, 16, 24, 32]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_mini_pretraining_lowers_the_loss() -> None:
    torch.manual_seed(0)
    figures, labels = dataset({"ifs": 3, "contour": 2, "glyph": 3}, 40, size=32, seed=0)
    model = timm.create_model("resnet10t", num_classes=8, channels=[16, 32, 64, 96])
    args = parser().parse_args(["--out", "x", "--epochs", "12", "--batch-size", "16", "--lr", "5e-3", "--mix", "0"])
    history = train(model, figures, labels, args)
    assert len(history) == 12
    assert history[-1] < history[0] - 0.4
    assert history[-1] < 1.7  # a guess costs log(8) = 2.08


def test_the_command_writes_a_folder_that_timm_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--architecture resnet10t --channels 8 16 24 32 --ifs 2 --contours 2 --glyphs 2 --images 8 --epochs 1"
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


def test_painted_pictures_are_normalised_varied_and_repeatable() -> None:
    figures, _ = dataset({"glyph": 4}, 8, size=32, seed=0)
    tint = torch.full((32, 3), 0.5)
    pictures, partner, share = paint(figures, tint, torch.Generator().manual_seed(1), 0.5)
    again, _, _ = paint(figures, tint, torch.Generator().manual_seed(1), 0.5)
    other, _, _ = paint(figures, tint, torch.Generator().manual_seed(2), 0.5)
    assert torch.equal(pictures, again)
    assert not torch.equal(pictures, other)
    assert pictures.shape == (32, 3, 32, 32)
    assert pictures.min() >= (0 - MEAN) / STD
    assert pictures.max() <= (1 - MEAN) / STD
    assert sorted(partner.tolist()) == list(range(32))
    assert set(share.tolist()) == {0.5, 1.0}
    assert (pictures.std((1, 2, 3)) > 0.02).all()


def test_no_second_figure_without_mix() -> None:
    figures, _ = dataset({"glyph": 2}, 4, size=16, seed=0)
    assert (paint(figures, torch.ones(8, 3), torch.Generator().manual_seed(0), 0.0)[2] == 1).all()


def test_classes_keep_their_colour() -> None:
    figures = torch.full((200, 32, 32), 255, dtype=torch.uint8)
    red = torch.tensor([1.0, 0.2, 0.2]).repeat(200, 1)
    pictures, _, _ = paint(figures, red, torch.Generator().manual_seed(0), 0.0)
    centre = pictures[:, :, 12:20, 12:20].mean((2, 3))
    colourful = (centre.amax(1) - centre.amin(1)) > 0.1
    assert 0.5 < colourful.float().mean() < 0.9  # the others are grey
    assert (centre[colourful].argmax(1) == 0).all()
