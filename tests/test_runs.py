"""Run directories: whole or not at all."""

from pathlib import Path

import pytest

from tlkit import files, runs
from tlkit.errors import TlkitError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_was_asked_is_written_first() -> None:
    with runs.directory(Path("runs/a/b"), {"seed": 1}) as out:
        assert (out / runs.CONFIG).read_text() == "seed: 1\n"
        assert runs.read_config(out) == {"seed": 1}


def _stop(run_dir: Path, error: type[BaseException]) -> None:
    with runs.directory(run_dir, {}) as out:
        files.write_text(out / "model" / "head.json", "{}")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, TlkitError])
def test_nothing_is_left_of_a_run_that_was_stopped(error: type[BaseException]) -> None:
    with pytest.raises(error):
        _stop(Path("runs/a/b"), error)
    assert not Path("runs").exists()


def test_what_came_into_the_folder_meanwhile_stays() -> None:
    def work() -> None:
        with runs.directory(Path("mine"), {}) as out:
            files.write_text(out / "predictions.csv", "x")
            files.write_text(out / "thesis" / "chapter.txt", "keep")
            (out / "notes.txt").write_text("keep")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        work()
    assert sorted(p.name for p in Path("mine").iterdir()) == ["notes.txt", "thesis"]


@pytest.mark.parametrize("name", [runs.METRICS, runs.CONFIG, "notes.txt"])
def test_nothing_is_ever_written_over(name: str) -> None:
    Path("old").mkdir()
    Path("old", name).write_text("{}")
    with pytest.raises(TlkitError, match="is there already and not empty"), runs.directory(Path("old"), {}):
        pass
    assert Path("old", name).read_text() == "{}"


def test_an_unfinished_run_says_so() -> None:
    with runs.directory(Path("half"), {}):
        pass
    with pytest.raises(TlkitError, match=r"run=half: no metrics\.json in it\. The run did not finish"):
        runs.find("half")


def test_a_wrong_name_gets_a_suggestion() -> None:
    Path("runs/digits").mkdir(parents=True)
    with pytest.raises(TlkitError, match="Did you mean 'digits'"):
        runs.find("runs/digitz")


def test_runs_below_a_folder_are_named() -> None:
    Path("runs/digits/tiny/1").mkdir(parents=True)
    Path("runs/digits/tiny/1/metrics.json").write_text("{}")
    with pytest.raises(TlkitError, match="Runs below it: runs/digits/tiny/1"):
        runs.find("runs")
