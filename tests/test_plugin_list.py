"""`tlkit plugins`."""

from collections.abc import Callable

import pytest

from tlkit.cli import main

Install = Callable[[str, str, str], None]


def test_list_has_every_kind_and_a_broken_one_breaks_nothing(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("bad-net", "raise RuntimeError('[boom]')", "[tlkit.backbones]\nbadnet = bad_net:build\n")
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    for name in ("vgg16", "tiny", "folder", "digits", "linear_probe"):
        assert name in out
    assert "badnet" in out
    assert "bad-net 1.0" in out
    assert "BROKEN" in out
    assert "[boom]" in out.replace("\n", "")


def test_show_describes_with_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show=folder"]) == 0
    out = capsys.readouterr().out
    assert "data=folder, from tlkit" in out
    assert "data.root: str, required" in out
    assert "data.test_size: float, default 0.2" in out


def test_check_runs_the_conformance_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check=tiny"]) == 0
    out = capsys.readouterr().out
    assert out.count("passed  ") >= 8
    assert "tiny passes all checks." in out


def test_check_fails_a_backbone_that_breaks_the_contract(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import dataclasses\n"
        "def build(*, weights: str | None = None):\n"
        "    'Build resnet18 without its first stage of parameters.'\n"
        "    from tlkit.backbones import from_timm\n"
        "    good = from_timm('resnet10t', weights=None, name='leaky')\n"
        "    return dataclasses.replace(good, stages=good.stages[1:])\n"
    )
    install("leaky-net", code, "[tlkit.backbones]\nleaky = leaky_net:build\n")
    assert main(["plugins", "check=leaky"]) == 1
    captured = capsys.readouterr()
    assert "FAILED  stages cover" in captured.out
    assert "check=leaky: 1 of the checks failed" in captured.err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("show=vgg61", "show=vgg61: no plugin has that name. Did you mean 'vgg19' or 'vgg16'"),
        ("check=folder", "backbone=folder: no backbone called 'folder'."),
    ],
)
def test_unknown_names(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", word]) == 2
    assert message in capsys.readouterr().err
