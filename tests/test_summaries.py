"""`tlkit summary`: what is printed and written."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from tlkit import registry, summaries
from tlkit.backbones.summary import Summary, summarize
from tlkit.cli import main
from tlkit.tables import short


def summary_of(name: str) -> Summary:
    with torch.device("meta"):
        return summarize(registry.build("backbone", {**registry.choice_settings("backbone", name), "weights": None}))


def shown(measured: Summary, width: int) -> list[str]:
    text = StringIO()
    summaries.show(measured, 32, Console(file=text, width=width))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "timm/inception_v3"])
@pytest.mark.parametrize("width", [80, 200])
def test_it_fits_a_terminal_and_no_number_is_cut(name: str, width: int) -> None:
    measured = summary_of(name)
    lines = shown(measured, width)
    assert max(map(len, lines)) <= width
    for layer in measured.layers:
        size = "x".join(map(str, layer.output))
        macs = f"{layer.macs:,}" if width == 200 else short(layer.macs)
        assert any(size in line and (not layer.macs or macs in line) for line in lines), (layer.name, size, macs)
    assert any("pool" in line for line in lines)
    assert any("classifier" in line for line in lines)


def test_totals_beside_what_is_published() -> None:
    text = "\n".join(shown(summary_of("vgg16"), 200))
    assert "15,237,608 values for one image, 61 MB in float32" in text
    assert "138,357,544 (138,344,128 weights, 13,416 biases), 553 MB in float32" in text
    assert "138 M parameters, top-1 error 25.6 %, top-5 error 8.1 %" in text
    assert "32 images in float32: forward pass 1.39 GB, training step 4 GB" in text


def test_every_format_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    assert main(["summary", "backbone=resnet18", "data.input_size=64x96", "batch=2", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    names = ["network.png", "summary.csv", "summary.json", "summary.md", "summary.txt"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert all(f"wrote {out / name}" in printed for name in names)
    told = json.loads((out / "summary.json").read_text())
    rows = list(csv.DictReader(StringIO((out / "summary.csv").read_text())))
    assert len(rows) == len(told["layers"])
    assert [row["output"] for row in rows[:2]] == ["64x96x3", "32x48x64"]
    assert sum(int(row["multiply-adds"] or 0) for row in rows) == told["macs"]
    learned = (int(row[kind] or 0) for row in rows for kind in ("weights", "biases", "other"))
    assert sum(learned) == told["params"] == 11_689_512
    assert told["memory_bytes"]["batch"] == 2
    table = [line for line in (out / "summary.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
    assert "layer1.0.conv1" in (out / "summary.txt").read_text()
    with Image.open(out / "network.png") as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize("suffix", [".csv", ".svg"])
def test_one_file(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", f"out={tmp_path / f'net{suffix}'}"]) == 0
    assert "tiny on images of 64x64x3" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [f"net{suffix}"]


def test_weights_are_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "backbone=resnet50", f"backbone.weights={tmp_path / 'nowhere'}", "input_size=96"]) == 0
    assert "25,557,032" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["data.input_size=64x"],
            2,
            "data.input_size=64x: give the side of the images in pixels, 224, or HEIGHTxWIDTH",
        ),
        (["data.input_size=0"], 2, "data.input_size=0: give the side"),
        (["batch=0"], 2, "batch=0: give the number of images, 1 or more."),
        (
            ["out=net.doc"],
            2,
            "out=net.doc: give a folder, or a file that ends in .txt, .csv, .json, .md, .png, .svg, .pdf.",
        ),
        (["backbone=vgg61"], 2, "backbone=vgg61: no backbone called 'vgg61'. Did you mean 'vgg19' or 'vgg16'"),
        (["bacth=2"], 2, "bacth: no such setting. Did you mean 'batch'?"),
        (
            ["backbone=timm/vit_tiny_patch16_224", "input_size=100"],
            1,
            "timm/vit_tiny_patch16_224 cannot be run on images",
        ),
    ],
)
def test_wrong_words(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", *words]) == code
    assert capsys.readouterr().err.startswith(f"tlkit summary: {message}")
