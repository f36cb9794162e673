"""The command line, mostly in process; what it prints and the number it returns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit.cli import COMMANDS, _codes_words, _run_words, main

CLI = [sys.executable, "-m", "tlkit"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def _fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command that must fail: one message, nothing on stdout, nothing left behind."""
    code = main(words)
    out, err = capsys.readouterr()
    assert code != 0
    assert "Traceback" not in err
    assert not out
    assert not list(Path.cwd().iterdir())
    return code, err


def test_help_lists_the_commands_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in COMMANDS)
    code = "import sys, tlkit.cli; tlkit.cli.main(['--help']); print({'hydra', 'torch', 'yaml'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_lists_every_group_and_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    for line in ("backbone: ", "data: ", "strategy: ", "vgg16", "flowers", "folder", "linear_probe"):
        assert line in out, out
    assert f"usage: tlkit {command} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tlkit 0.")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _fails(["fti"], capsys)
    assert (code, err) == (2, "tlkit: no command called 'fti'. Did you mean 'fit'? See tlkit --help.\n")


def test_settings_can_be_printed_without_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--cfg", "job", "-p", "seed"]) == 0
    assert capsys.readouterr().out.strip() == "1"
    assert main(["fit", "backbone=timm/resnet50.a1_in1k", "backbone.weights=x", "--cfg", "job", "-p", "backbone"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["# @package backbone", "name: timm", "model: resnet50.a1_in1k", "weights: x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backbone=resnte50"], "backbone=resnte50: no backbone called 'resnte50'. Did you mean 'resnet50'"),
        (["backbone=timm/resnte50"], "backbone=timm/resnte50: timm has no model called 'resnte50'. Did you mean"),
        (["data=fodler"], "data=fodler: no data called 'fodler'. Did you mean 'folder'"),
        (["data=flowrs"], "data=flowrs: no data called 'flowrs'. Did you mean 'flowers'"),
        (["strategy=linear"], "strategy=linear: no strategy called 'linear'."),
        (["sed=2"], "sed: no such setting. Did you mean 'seed'?"),
        (["bakbone=vgg16"], "bakbone: no such setting. Did you mean 'backbone'?"),
        (["backbone.dept=2"], "backbone.dept: no such setting."),
        (["strategy.C=1"], "strategy.C: no such setting. It is a setting of strategy=linear_probe."),
        (["strategy.lr=1"], "strategy.lr: no such setting. It is a setting of strategy=full and strategy=partial and"),
        (["strategy.confidnt=1"], "strategy.confidnt: no such setting. Did you mean 'confident'?"),
        (["data.similarity=so"], "data.similarity: expected 'similar' or 'different' or null, got 'so'."),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'"),
        (["data=folder"], "data.root: a value is required."),
        (
            ["trainer.strategy=fsdp"],
            "trainer.strategy=fsdp: one process (trainer.devices=1) holds the network",
        ),
        (["hydra/launcher=nope"], "hydra/launcher=nope: no such option."),
    ],
)
def test_a_wrong_word_is_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _fails(["fit", *words], capsys)
    assert code == 2
    assert err.startswith(f"tlkit fit: {message}")


def test_two_wrong_settings_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _fails(
        ["fit", "strategy=linear_probe", "strategy.C=abc", "trainer.foo=1", "backbone=resnte50", "sed=1"], capsys
    )
    assert code == 2
    for problem in ("strategy.C: expected", "trainer.foo: no such setting", "backbone=resnte50: no", "sed: no such"):
        assert problem in err


def test_missing_values_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _fails(["predict"], capsys)
    assert (code, err) == (2, "tlkit predict: give a value: images=... run=...\n")


def test_no_such_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = _fails(["predict", "run=nowhere", "images=x.jpg"], capsys)
    assert code == 1
    assert "images=x.jpg: no such folder, file or pattern" in err


def test_full_error_gives_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="sed: no such setting"):
        main(["fit", "sed=2"])


def test_arguments_and_environment_are_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.argv), dict(os.environ)
    main(["fit", "sed=2"])
    main(["fit", "--cfg", "job"])
    assert (sys.argv, dict(os.environ)) == before


def test_configs_of_ones_own_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my" / "data").mkdir(parents=True)
    (tmp_path / "my" / "data" / "bees.yaml").write_text("name: folder\nroot: bees\n")
    assert main(["fit", "--config-dir", "my", "data=bees", "--cfg", "job", "-p", "data"]) == 0
    assert capsys.readouterr().out.splitlines() == ["# @package data", "name: folder", "root: bees"]
    assert main(["fit", "--config-dir=nowhere"]) == 2
    assert capsys.readouterr().err == "tlkit fit: --config-dir nowhere: no such folder.\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tlkit ", set(COMMANDS)),
        ("tlkit fit backb", {"backbone=", "backbone."}),
        ("tlkit fit backbone=vg", {"backbone=vgg16"}),
        ("tlkit fit backbone=timm/convnext_tin", {"backbone=timm/convnext_tiny"}),
        ("tlkit fit data=fl", {"data=flowers"}),
        ("tlkit fit se", {"seed="}),
        ("tlkit summary backbone=vg", {"backbone=vgg16"}),
        ("tlkit summary ba", {"backbone=", "batch="}),
        ("tlkit backbones pa", {"pattern="}),
    ],
)
def test_completion(
    line: str, offered: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    main(["-sc", "query=bash"])
    assert offered <= set(capsys.readouterr().out.split())


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--install-completion", "bash"]) == 0
    assert "complete " in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error() -> None:
    words = f"{sys.executable} -m tlkit plugins | head -1"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("kind")
    assert done.stderr == ""


def test_a_hydra_program_may_call_us(tmp_path: Path) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from tlkit import config

    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        composed, _ = config.compose("fit", {"seed": 3, "data": {"name": "folder", "root": tmp_path}})
        assert GlobalHydra.instance().is_initialized()
    assert composed["seed"] == 3
    assert composed["data"] == {"name": "folder", "root": str(tmp_path)}


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_can_be_a_value_on_the_command_line(text: str) -> None:
    """Unless it means something to Hydra: a list, a number, a sweep, an interpolation..."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from tlkit import config

    (word,) = config.admit([f"data.root={text}"])
    parsed = OverridesParser.create().parse_override(word)
    if "'" in word and "'" not in text:
        assert parsed.value() == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["show", "12e4"], ["action=show", "id='12e4'"]),
        (["prune", "id=1234"], ["action=prune", "id='1234'"]),
        (["verify"], ["action=verify"]),
        (["action=list", "cache.dir=x"], ["action=list", "cache.dir=x"]),
        (["--cfg", "job", "list"], ["--cfg", "job", "action=list"]),
    ],
)
def test_ids_of_codes_are_no_numbers(typed: list[str], meant: list[str]) -> None:
    assert _codes_words(typed) == meant


@pytest.mark.parametrize("name", ["a b", "it's", "a\\b", "a\\", "\\'", "[a,b]", "0-seed=1", "x/seed=1", "naïve {}"])
def test_runs_to_compare_are_named_by_words(name: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    word, *rest = _run_words([name, "out=x", "-p", "runs", "other", "hydra/help=y"])
    assert OverridesParser.create().parse_override(word).value() == [name, "other"]
    assert rest == ["out=x", "-p", "runs", "hydra/help=y"]


def test_a_folder_is_a_run_whatever_it_is_called() -> None:
    assert _run_words(["seed=1"]) == ["seed=1"]
    Path("seed=1").mkdir()
    assert _run_words(["seed=1"]) == ["runs=['seed=1']"]


def test_codes_are_listed_checked_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = f"cache.dir={tmp_path / 'cache'}"
    assert main(["extract", f"out={tmp_path / 'codes.parquet'}", "codes.engine=torch", cache]) == 0
    assert main(["extract", f"out={tmp_path / 'codes.parquet'}", "codes.engine=torch", cache]) == 1
    assert main(["extract", f"out={tmp_path / 'codes.csv'}", cache]) == 2
    assert main(["codes", "verify", cache]) == 0
    capsys.readouterr()
    assert main(["codes", cache]) == 0
    listed = capsys.readouterr().out
    (line,) = [line for line in listed.splitlines() if " tiny " in line]
    short = line.split()[0]
    assert main(["codes", "show", short[:6], cache]) == 0
    assert '"engine": "torch' in capsys.readouterr().out
    (array,) = (tmp_path / "cache" / "codes").glob("*.f32")
    data = bytearray(array.read_bytes())
    data[1000] ^= 1
    array.write_bytes(data)
    assert main(["codes", "verify", cache]) == 1
    assert main(["codes", "verify", cache]) == 0
    assert main(["codes", "prune", cache]) == 2
    assert main(["codes", "prune", "all=true", cache]) == 0
    assert not list((tmp_path / "cache" / "codes").glob("*.f32"))
