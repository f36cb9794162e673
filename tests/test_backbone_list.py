"""`tlkit backbones`."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tlkit import backbone_list
from tlkit.backbone_list import Listed
from tlkit.cli import _pattern_words, main

Install = Callable[[str, str, str], None]


def names(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["backbones", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    end = next(row for row, line in enumerate(lines) if "top-5: published" in line)
    return [line.split()[0] for line in lines[1:end]]


def test_everything_by_year_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    found = names([], capsys)
    known = [name for name in found if name in ("vgg16", "resnet18", "resnet50", "mobilenetv1_100", "tiny", "timm")]
    assert known == ["vgg16", "resnet18", "resnet50", "mobilenetv1_100", "tiny", "timm"]
    assert found == [listed.name for listed in backbone_list.installed()]


@pytest.mark.parametrize(
    ("words", "there", "missing"),
    [
        (["resnet*"], {"resnet18", "resnet50"}, {"vgg16"}),
        (["pattern=mobilenetv?_100"], {"mobilenetv1_100", "mobilenetv2_100"}, {"resnet18"}),
        (["family=vgg"], {"vgg16"}, {"resnet18", "timm"}),
        (["year=2014"], {"vgg16"}, {"resnet18", "timm"}),
        (["year=2014-2015", "max_params=20e6"], {"resnet18"}, {"vgg16", "resnet50", "mobilenetv2_100"}),
        (["max_params=4000000"], {"mobilenetv2_100", "tiny"}, {"mobilenetv1_100", "timm"}),
    ],
)
def test_filters(words: list[str], there: set[str], missing: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = set(names(words, capsys))
    assert there <= found
    assert not missing & found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rsenet50"], "pattern=rsenet50: no installed backbone is like that. Did you mean 'resnet50'"),
        (["family=vgh"], "family=vgh: no installed backbone is like that. Did you mean 'vgg'? Families: "),
        (
            ["resnet18", "resnet50"],
            "resnet18 resnet50: give one pattern, in quotes where the shell would make file names",
        ),
        (["year=soon"], "year=soon: give a year, 2014, or the first and the last, 2014-2016."),
        (["max_params=few"], "max_params: expected float or null, got 'few'."),
        (["out=list.xls"], "out=list.xls: give a folder, or a file that ends in .csv, .json, .md."),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", *words]) == 2
    assert capsys.readouterr().err.startswith(f"tlkit backbones: {message}")


def test_patterns_are_no_expressions() -> None:
    assert _pattern_words(["res[nt]*", "year=2015", "-h"]) == ["pattern='res[nt]*'", "year=2015", "-h"]


def test_what_is_published_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "vgg16"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:6] == ["vgg16", "2014", "138", "M", "15.5", "G"]
    for word in ("224x224x3", "timm/vgg16.tv_in1k", "tlkit"):
        assert word in line


def test_unknown_and_broken_plugins_are_listed(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(
        "bare-net",
        "def build(*, weights: str | None = None):\n    'A net.'\n",
        "[tlkit.backbones]\nbare = bare_net:build\n",
    )
    install("bad-net", "raise RuntimeError('[boom]')", "[tlkit.backbones]\nbadnet = bad_net:build\n")
    assert main(["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("bare ") and "bare-net 1.0" in line for line in lines)
    assert any(line.startswith("badnet ") and "BROKEN" in line and "bad-net 1.0" in line for line in lines)
    assert any(line.startswith("badnet: BROKEN: ") and "[boom]" in line for line in lines)


@pytest.mark.parametrize("width", [80, 200])
def test_it_fits_a_terminal(width: int) -> None:
    text = StringIO()
    found: list[Listed] = backbone_list.installed()
    backbone_list.show(found, Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(line.startswith(listed.name[:12]) for line in lines) for listed in found)


def test_the_list_is_written_with_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", f"out={tmp_path}"]) == 0
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["accuracy.png", "backbones.csv", "backbones.json", "backbones.md", "timeline.png"]
    assert "wrote " in capsys.readouterr().out
    rows = list(csv.DictReader(StringIO((tmp_path / "backbones.csv").read_text())))
    told = json.loads((tmp_path / "backbones.json").read_text())
    assert [row["name"] for row in rows] == [row["name"] for row in told]
    (vgg,) = [row for row in told if row["name"] == "vgg16"]
    assert (vgg["parameters"], vgg["multiply-adds"], vgg["year"]) == (138_357_544, 15_470_264_320, 2014)
    assert "| vgg16 |" in (tmp_path / "backbones.md").read_text()


def test_one_file_and_no_empty_picture(tmp_path: Path) -> None:
    assert main(["backbones", "tiny", f"out={tmp_path / 'list.csv'}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]
    assert main(["backbones", "tiny", f"out={tmp_path / 'all'}"]) == 0
    assert "accuracy.png" not in [path.name for path in (tmp_path / "all").iterdir()]


def test_no_network_is_built_for_a_list() -> None:
    heavy = "{'torch', 'timm', 'pandas', 'matplotlib'} & set(sys.modules)"
    code = f"import sys; from tlkit.cli import main; main(['backbones']); print({heavy})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "set()"
