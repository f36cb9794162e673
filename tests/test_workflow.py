"""The road from images to a run directory to predictions, on real data, through the command line."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

import tlkit
from tlkit.cli import main
from tlkit.errors import TlkitError, UsageError

CLI = [sys.executable, "-m", "tlkit"]


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "it"
    return tlkit.fit(folder, data={"name": "folder", "root": str(scans)}, strategy={"name": "linear_probe"}).path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _copy(scans: Path, here: Path) -> Path:
    return Path(shutil.copytree(scans, here / "scans"))


def test_a_run_directory_is_whole(run: Path) -> None:
    names = {path.name for path in run.iterdir()} - {"tsne.png"}  # not drawn if another test had the same codes
    assert names == {
        "config.yaml",
        "confusion_matrix.png",
        "data.json",
        "environment.json",
        "images.csv",
        "metrics.json",
        "model",
        "pca.png",
        "predictions.csv",
        "probabilities.parquet",
        "regularisation.png",
        "reliability.png",
        "report.html",
    }
    for name in ("metrics.json", "data.json", "environment.json"):
        assert json.loads((run / name).read_text())
    with Image.open(run / "confusion_matrix.png") as picture:
        assert min(picture.size) > 300


def test_metrics_are_those_of_the_predictions(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    table = pd.read_csv(run / "predictions.csv")
    assert metrics["split"] == "test"
    assert metrics["n"] == len(table) == 24
    assert metrics["accuracy"] == pytest.approx(accuracy_score(table["label"], table["predicted"]))
    classes = ["digit 0", "digit 1", "digit 2"]
    probabilities = table[[f"p({name})" for name in classes]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert metrics["log_loss"] == pytest.approx(log_loss(table["label"], probabilities, labels=classes), rel=1e-3)
    assert metrics["accuracy"] >= 0.95


def test_fit_on_the_command_line_leaves_one_run(here: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", "data=folder", f"data.root={scans}", "strategy=linear_probe", "strategy.C=0.001", "seed=5"]) == 0
    )
    (run,) = (here / "runs" / "folder" / "tiny-linear_probe").iterdir()
    out = capsys.readouterr().out
    assert "test accuracy" in out
    assert f"tlkit predict run={run.relative_to(here)} images=FOLDER" in out
    assert "log.txt" in {path.name for path in run.iterdir()}
    assert "seed: 5" in (run / "config.yaml").read_text()


def test_the_same_seed_gives_the_same_bits(here: Path, scans: Path, run: Path) -> None:
    again = tlkit.fit(here / "again", data={"name": "folder", "root": str(scans)}, strategy="linear_probe")
    assert (again.path / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    other = tlkit.fit(here / "other", data={"name": "folder", "root": str(scans)}, strategy="linear_probe", seed=2)
    assert set(other.predictions["file"]) != set(again.predictions["file"])


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_predict_writes_one_row_a_file(here: Path, scans: Path, run: Path, name: str) -> None:
    photos = _copy(scans, here)
    (photos / "digit 0" / "broken.png").write_bytes(b"not a picture")
    assert main(["predict", f"run={run}", f"images={photos}", f"out={name}"]) == 0
    read: dict[str, Callable[[str], pd.DataFrame]] = {
        "csv": pd.read_csv,
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "parquet": pd.read_parquet,
    }
    table = read[name.split(".")[1]](name)
    assert len(table) == 121
    broken = table[table["file"].str.endswith("broken.png")].iloc[0]
    assert isinstance(broken["error"], str)
    assert pd.isna(broken["predicted"])
    good = table[table["error"].isna()]
    truth = good["file"].map(lambda file: Path(file).parent.name)
    assert (good["predicted"] == truth).mean() >= 0.95


def test_evaluate_without_data_repeats_the_run(here: Path, run: Path) -> None:
    copied = Path(shutil.copytree(run, here / "run"))
    assert main(["evaluate", f"run={copied}"]) == 0
    (folder,) = (copied / "evaluations").iterdir()
    was, now = (json.loads((p / "metrics.json").read_text()) for p in (run, folder))
    assert was.pop("passes").keys() == {"forwards", "decoded"}
    was.pop("training")
    assert was == now


def test_evaluate_measures_the_images_of_the_run_though_the_folder_has_grown(here: Path, scans: Path) -> None:
    photos = _copy(scans, here)
    run = tlkit.fit(here / "run", data={"name": "folder", "root": "scans"}, strategy="linear_probe")
    for digit in range(3):
        for path in list((photos / f"digit {digit}").iterdir())[:20]:
            shutil.copy(path, path.with_name(f"new {path.name}"))
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)  # the relative root of the run holds from here too
    assert main(["evaluate", f"run={run.path}", "out=again"]) == 0
    assert (elsewhere / "again" / "predictions.csv").read_bytes() == (run.path / "predictions.csv").read_bytes()
    next((photos / "digit 0").glob("[0-9]*.png")).unlink()
    assert main(["evaluate", f"run={run.path}", "out=more"]) == 1


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n", b"\xff\xfe"])
def test_evaluate_explains_a_damaged_list_of_images(
    content: bytes | None, here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(run, here / "run"))
    (copied / "images.csv").unlink()
    if content is not None:
        (copied / "images.csv").write_bytes(content)
    assert main(["evaluate", f"run={copied}"]) == 1
    err = capsys.readouterr().err
    assert "it does not say which images the run used" in err
    assert "Traceback" not in err


def test_evaluate_on_one_class_only(here: Path, scans: Path, run: Path) -> None:
    photos = _copy(scans, here)
    shutil.rmtree(photos / "digit 0")
    shutil.rmtree(photos / "digit 1")
    assert main(["evaluate", f"run={run}", "data=folder", f"data.root={photos}", "out=measured"]) == 0
    assert json.loads((here / "measured" / "metrics.json").read_text())["n"] == 40


@pytest.mark.parametrize("word", ["data.test_size=0.5", "data.similarity=similar", "seed=7"])
def test_evaluate_refuses_what_it_would_ignore(
    word: str, scans: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", f"run={run}", "data=folder", f"data.root={scans}", word]) == 2
    assert word.partition("=")[0] in capsys.readouterr().err


def test_an_unreadable_test_split_is_no_result_on_val(here: Path, scans: Path) -> None:
    for split, rows in (("train", slice(0, 20)), ("val", slice(20, 30)), ("test", slice(30, 40))):
        for digit in range(3):
            (here / "parts" / split / f"digit {digit}").mkdir(parents=True)
            for path in sorted((scans / f"digit {digit}").iterdir())[rows]:
                target = here / "parts" / split / f"digit {digit}" / path.name
                target.write_bytes(path.read_bytes() if split != "test" else b"broken")
    probe = {"name": "linear_probe", "head": "prototype"}
    with pytest.raises(TlkitError, match="split=test: folder has no such images"):
        tlkit.fit(here / "run", data={"name": "folder", "root": here / "parts"}, strategy=probe)


def test_groups_by_a_regular_expression_stay_together(here: Path, scans: Path) -> None:
    photos = _copy(scans, here)
    for path in sorted(photos.rglob("*.png")):
        path.rename(path.with_name(f"p{int(path.stem) % 7}_{path.name}"))
    assert (
        main(
            [
                "fit",
                "data=folder",
                f"data.root={photos}",
                "data.group=p([0-9]+)_",
                "strategy=linear_probe",
                "strategy.C=0.001",
            ]
        )
        == 0
    )
    (table,) = (here / "runs").glob("*/*/*/images.csv")
    images = pd.read_csv(table)
    images["group"] = images["file"].str.extract(r"p(\d+)_")[0]
    assert images.groupby("group")["split"].nunique().max() == 1
    assert set(images["split"]) == {"train", "test"}


def test_a_root_with_brackets_spaces_and_quotes(here: Path, scans: Path) -> None:
    photos = shutil.copytree(scans, here / "my 'best' photos (2024), all")
    assert main(["fit", "data=folder", f"data.root={photos}", "strategy=linear_probe", "strategy.C=0.001"]) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("strategy.C=-1", "strategy.C=-1: give one number or several"),
        ("strategy.cv=1", "strategy.cv=1: cross-validation needs at least 2 folds"),
        ("codes.batch_size=0", "codes.batch_size=0"),
        ("seed=-1", "seed: expected a whole number from 0"),
    ],
)
def test_impossible_numbers_are_refused_before_any_work(
    word: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "strategy=linear_probe", word]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "images through" not in err
    assert not list(here.iterdir())


def test_only_fit_sweeps(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"run={run}", "images=a.png,b.png", "-m"]) == 2
    assert "only fit sweeps" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_extract_never_mixes_two_results(here: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["extract", "data=folder", f"data.root={scans}", "taps=[layer3,pool]"]
    assert main(words) == 0
    assert {path.name for path in (here / "codes").iterdir()} == {
        "config.yaml",
        "index.parquet",
        "layer3.npy",
        "pool.npy",
    }
    assert main(words) == 1
    assert "codes is there already and not empty" in capsys.readouterr().err


def test_evaluate_aligns_classes_by_name(here: Path, scans: Path, run: Path) -> None:
    photos = _copy(scans, here)
    shutil.rmtree(photos / "digit 0")  # the class numbers of what is left are not those of the run
    assert main(["evaluate", f"run={run}", "data=folder", f"data.root={photos}", "out=measured"]) == 0
    metrics = json.loads((here / "measured" / "metrics.json").read_text())
    assert metrics["n"] == 80
    assert metrics["accuracy"] >= 0.95
    assert metrics["per_class"]["digit 1"]["support"] == 40


def test_evaluate_refuses_classes_that_the_run_does_not_know(
    here: Path, scans: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = _copy(scans, here)
    (photos / "digit 0").rename(photos / "digit O")
    assert main(["evaluate", f"run={run}", "data=folder", f"data.root={photos}", "out=measured"]) == 1
    assert "unknown classes: digit O. Did you mean" in capsys.readouterr().err
    assert not (here / "measured").exists()


def test_unreadable_files_are_listed_counted_and_left_out(here: Path, scans: Path) -> None:
    photos = _copy(scans, here)
    for digit in range(3):
        (photos / f"digit {digit}" / "broken.png").write_bytes(b"not a picture")
    run = tlkit.fit(here / "run", data={"name": "folder", "root": str(photos)}, strategy="linear_probe")
    listed = json.loads((run.path / "data.json").read_text())["unreadable"]
    assert sorted(listed) == [f"digit {digit}/broken.png" for digit in range(3)]
    assert run.metrics["unreadable"] == 3
    assert not run.predictions["file"].str.contains("broken").any()
    with pytest.raises(TlkitError, match=r"3 unreadable: digit 0/broken\.png"):
        tlkit.fit(here / "strict", data={"name": "folder", "root": str(photos), "on_error": "raise"})
    assert not (here / "strict").exists()


def test_a_sweep_runs_every_job_and_reports_the_broken_one(
    here: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "data=folder",
        f"data.root={scans}",
        "strategy=linear_probe",
        "strategy.C=0.001",
        "strategy.tap=pool,nowhere",
        "-m",
    ]
    assert main(["fit", *words]) == 2
    assert "strategy.tap=nowhere" in capsys.readouterr().err
    finished = list((here / "runs").glob("sweep-*/*/metrics.json"))
    assert len(finished) == 1


def test_python_reports_wrong_settings_all_at_once(here: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)sed: no such setting.*strategy\.C: expected float"):
        tlkit.fit(strategy={"name": "linear_probe", "C": "abc"}, sed=1)
    with pytest.raises(UsageError, match="no backbone called 'vg16'"):
        tlkit.fit(backbone="vg16")
    assert not list(here.iterdir())


def test_a_loaded_run_predicts_what_the_run_predicted(run: Path, scans: Path) -> None:
    table = pd.read_csv(run / "predictions.csv")
    predicted = tlkit.load(run).predict([scans / file for file in table["file"]])
    assert predicted["predicted"].tolist() == table["predicted"].tolist()
    np.testing.assert_allclose(predicted["probability"], table["probability"], rtol=1e-5)


def test_a_moved_run_still_predicts(here: Path, run: Path, scans: Path) -> None:
    moved = Path(shutil.copytree(run, here / "elsewhere" / "it"))
    assert len(tlkit.load(moved).predict([next(scans.rglob("*.png"))])) == 1


def _as_it_is(root: Path) -> None:
    """Leave the images alone."""


def _one_class(root: Path) -> None:
    shutil.rmtree(root / "digit 1")
    shutil.rmtree(root / "digit 2")


def _empty_class(root: Path) -> None:
    (root / "digit 3").mkdir()


def _all_broken(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("arrange", "words", "message"),
    [
        (_as_it_is, ["data.root=nowhere"], "no such folder"),
        (_one_class, [], "at least two classes, found digit 0"),
        (_empty_class, [], "digit 3"),
        (_all_broken, [], "no readable training image is left of class digit 0, digit 1, digit 2"),
        (_as_it_is, ["backbone=vgg16", "backbone.weights=nowhere"], "nowhere"),
        (_as_it_is, ["codes.device=warp"], "codes.device=warp: not available here"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    here: Path,
    scans: Path,
    arrange: Callable[[Path], None],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = _copy(scans, here)
    arrange(photos)
    code = main(["fit", "data=folder", f"data.root={photos}", *words])
    err = capsys.readouterr().err
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err
    assert [path.name for path in here.iterdir()] == ["scans"]


def test_ctrl_c_leaves_nothing_behind(here: Path) -> None:
    import time

    job = subprocess.Popen([*CLI, "fit", "cache.max_gb=0"], stderr=subprocess.PIPE, text=True, cwd=here)
    deadline = time.monotonic() + 60
    while not list(here.glob("runs/*/*/*/config.yaml")) and time.monotonic() < deadline:
        time.sleep(0.05)
    while job.poll() is None and time.monotonic() < deadline:
        job.send_signal(signal.SIGINT)  # again: an import that it hits may swallow the first
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(timeout=2)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "tlkit fit: interrupted" in err
    assert "Traceback" not in err
    assert not list(here.iterdir())
