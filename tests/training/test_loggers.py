"""What loggers have when a run is done, read back with their own readers."""

import os
import struct
import subprocess
import sys
import time
import tomllib
from ast import literal_eval
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import tlkit
from tlkit import runs
from tlkit.errors import UsageError
from tlkit.training import loggers

TRAINED: dict[str, Any] = {
    "strategy": {"name": "partial", "head_init": "random", "lr": 1e-3, "batch_size": 16, "augment": "none"},
    "trainer": {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "limit_train_batches": 6},
    "codes": {"engine": "torch"},
}
PROBED: dict[str, Any] = {
    "strategy": {"name": "linear_probe", "head": "ridge", "scale": "none"},
    "codes": {"engine": "torch"},
}
MEASURED = {"final_accuracy", "final_accuracy_low", "final_balanced_accuracy", "final_log_loss", "final_ece"}
KEPT = {
    *("metrics.json", "predictions.csv", "config.yaml", "images.csv", "environment.json"),
    *("confusion_matrix.png", "reliability.png", "model/classifier.json", "model/head.safetensors"),
}
CURVES = {"train_loss", "val_loss", "val_accuracy", "lr/layer4", "lr/new head"}


def csv(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "training" / "metrics.csv")


def test_tensorboard_has_the_curves_of_the_csv_file_the_settings_and_the_result(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tlkit.fit(tmp_path / "run", logger="tensorboard", **TRAINED)
    events = EventAccumulator(str(run.path / "training" / "tensorboard")).Reload()
    assert CURVES | {"final_accuracy", "final_log_loss"} <= {*events.Tags()["scalars"]}
    table = csv(run.path)
    assert {*table.columns} >= CURVES
    for name in CURVES:
        seen = [(event.step, event.value) for event in events.Scalars(name)]
        told = table[["step", name]].dropna()
        assert [step for step, _ in seen] == told["step"].tolist()
        assert [value for _, value in seen] == pytest.approx(told[name].tolist(), rel=1e-6)
    assert events.Scalars("final_accuracy")[0].value == pytest.approx(run.metrics["accuracy"])
    settings = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"strategy/head_init" in settings
    assert runs.read_config(run.path)["logger"] == "tensorboard"
    assert len([*(run.path / "training" / "tensorboard").glob("events.*")]) <= 2
    assert {"confusion_matrix", "training"} <= {*events.Tags()["images"]}


def test_tensorboard_has_the_numbers_the_settings_and_the_pictures_of_a_probe(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tlkit.fit(tmp_path / "run", logger="tensorboard", **PROBED)
    events = EventAccumulator(str(run.path / "training" / "tensorboard")).Reload()
    assert {*events.Tags()["scalars"]} >= MEASURED | {"cv_accuracy", "seconds/head"}
    for name, value in (("accuracy", run.metrics["accuracy"]), ("accuracy_low", run.metrics["accuracy_interval"][0])):
        assert events.Scalars(f"final_{name}")[0].value == pytest.approx(value)
    assert events.Scalars("cv_accuracy")[0].value == pytest.approx(run.classifier.training["cv_accuracy"])
    assert b"strategy/head" in events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    pictures = {path.stem: path for path in run.path.glob("*.png")}
    assert {*events.Tags()["images"]} == {*pictures} > {"confusion_matrix", "regularisation"}
    for name, path in pictures.items():
        with Image.open(BytesIO(events.Images(name)[0].encoded_image_string)) as seen, Image.open(path) as drawn:
            assert seen.tobytes() == drawn.convert("RGB").tobytes()
    assert {path.name for path in (run.path / "training").iterdir()} == {"tensorboard"}


def test_a_tracker_that_is_gone_at_the_end_does_not_take_the_run_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "training").touch()  # no folder can be made there
    with loggers.logged(["tensorboard"], tmp_path, {}) as logs:
        logs.result({"accuracy": 1.0}, {})
    (told,) = caplog.records
    assert told.getMessage().startswith("warning: logger=tensorboard: NotADirectoryError: ")
    assert "The run itself is whole" in told.getMessage()


def test_a_probe_without_a_logger_does_not_load_lightning(tmp_path: Path) -> None:
    code = f"import sys, tlkit; tlkit.fit({str(tmp_path / 'run')!r}, **{PROBED}); print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "'tlkit.training.loggers'" in loaded
    assert not {"pytorch_lightning", "tensorboard", "mlflow"} & {*literal_eval(loaded)}
    assert not (tmp_path / "run" / "training").exists()


def test_a_run_that_goes_on_is_one_curve(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, end in ((0, 8), (5, 10)):  # the second goes on from a checkpoint
        with loggers.logged(["tensorboard"], tmp_path, {"seed": 1}) as logs:
            for step in range(begun, end):
                logs.loggers(begun)[0].log_metrics({"loss": float(step + begun)}, step)
    events = EventAccumulator(str(tmp_path / "training" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [*range(10)]
    assert [event.value for event in events.Scalars("loss")] == [*range(5), *range(10, 15)]


def artefacts(folder: Path) -> set[str]:
    """The files below a folder of MLflow's, which is called after the run."""
    return {path.relative_to(folder).as_posix().partition("artifacts/")[2] for path in folder.rglob("*.*")}


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_mlflow_keeps_a_probe_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tlkit.fit(tmp_path / "run", logger="mlflow", **PROBED)
    place = run.path / "training" / "mlflow"
    client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (kept,) = client.search_runs([client.get_experiment_by_name("tlkit").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics.keys() >= MEASURED | {"cv_accuracy", "seconds/head"}
    assert kept.data.metrics["final_accuracy"] == pytest.approx(run.metrics["accuracy"])
    assert (kept.data.params["strategy/head"], kept.data.params["seed"]) == ("ridge", "1")
    assert {file.path for file in client.list_artifacts(kept.info.run_id)} >= {"model", "predictions.csv"}
    copies = artefacts(place / "artifacts")
    assert copies >= KEPT
    assert not {"log.txt", "checkpoint.pt"} & copies
    (copy,) = (place / "artifacts").rglob("predictions.csv")
    assert copy.read_bytes() == (run.path / "predictions.csv").read_bytes()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_mlflow_keeps_one_run_in_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tlkit.fit(tmp_path / "run", logger=["mlflow"], **TRAINED)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    place = run.path / "training" / "mlflow"
    client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (kept,) = client.search_runs([client.get_experiment_by_name("tlkit").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics.keys() >= CURVES
    assert kept.data.metrics["final_accuracy"] == pytest.approx(run.metrics["accuracy"])
    assert kept.data.params["strategy/head_init"] == "random"
    assert artefacts(place / "artifacts") >= KEPT | {"training.png", "model/backbone/model.safetensors"}
    table = csv(run.path)[["step", "train_loss"]].dropna()
    history = client.get_metric_history(kept.info.run_id, "train_loss")
    assert [point.step for point in history] == table["step"].tolist()
    with loggers.logged(["mlflow"], run.path, {}) as logs:  # as after a stop
        logs.loggers(12)[0].log_metrics({"train_loss": 0.5}, 12)
    assert len(client.search_runs([kept.info.experiment_id])) == 1
    assert client.get_metric_history(kept.info.run_id, "train_loss")[-1].value == 0.5


def parts(file: bytes) -> Iterator[bytes]:
    """Yield the records of a file of wandb's: LevelDB's log format behind 7 bytes."""
    place, whole = 7, b""
    while place + 7 <= len(file):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        length, kind = struct.unpack("<HB", file[place + 4 : place + 7])
        whole += file[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its end
            yield whole
            whole = b""


def records(place: Path) -> list[Any]:
    """Return what wandb wrote down of an offline run; its own process may be a little late."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    (path,) = place.glob("*.wandb")
    for _ in range(100):
        found = []
        for data in parts(path.read_bytes()):
            record = messages.Record()
            record.ParseFromString(data)
            found.append(record)
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def names_of(item: Any) -> str:  # noqa: ANN401
    return item.key or "/".join(item.nested_key)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_wandb_has_a_probe_with_its_pictures_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tlkit.fit(tmp_path / "run", logger="wandb", **PROBED)
    assert not [path for path in tmp_path.rglob("*wandb*") if tmp_path / "run" not in path.parents]
    (place,) = (run.path / "training" / "wandb").glob("offline-run-*")
    found = records(place)
    logged = {names_of(item): item.value_json for record in found for item in record.history.item}
    assert MEASURED | {"cv_accuracy", "seconds/head", "confusion_matrix/_type", "regularisation/_type"} <= {*logged}
    assert float(logged["final_accuracy"]) == pytest.approx(run.metrics["accuracy"])
    pictures = [path.name for path in (place / "files" / "media" / "images").glob("*.png")]
    assert any(name.startswith("confusion_matrix_") for name in pictures)
    kept = {record.artifact.type: record.artifact for record in found if record.WhichOneof("record_type") == "artifact"}
    files = {kind: {entry.path for entry in artifact.manifest.contents} for kind, artifact in kept.items()}
    assert files["model"] >= {"classifier.json", "head.safetensors"}
    assert files["results"] >= {"predictions.csv", "metrics.json", "config.yaml"}


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_wandb_is_offline_in_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tlkit.fit(tmp_path / "run", logger="wandb", **TRAINED)
    assert not [*tmp_path.glob(".*/wandb")]
    (place,) = (run.path / "training" / "wandb").glob("offline-run-*")
    names, settings = set(), set()
    for record in records(place):
        names |= {names_of(item) for item in record.history.item}
        settings |= {item.key for item in (*record.config.update, *record.run.config.update)}
    assert CURVES | {"final_accuracy"} <= names
    assert {"strategy", "backbone", "seed"} <= settings
    with loggers.logged(["wandb"], run.path, {}) as logs:  # as after a stop
        logs.loggers(12)[0].log_metrics({"train_loss": 0.5}, 12)
    again = {path.name.rpartition("-")[2] for path in place.parent.glob("offline-run-*")}
    assert again == {place.name.rpartition("-")[2]}


def test_what_is_missing_or_unknown_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"logger=mlflow needs the package mlflow: pip install 'tlkit\[mlflow\]'"):
        tlkit.fit(tmp_path / "run", logger="mlflow", data={"name": "folder", "root": "nowhere"})
    assert not (tmp_path / "run").exists()
    for wrong in ("tensorbord", ["wandb", "x"]):
        with pytest.raises(UsageError, match=r"logger: expected 'tensorboard' or 'mlflow' or 'wandb' or list\["):
            tlkit.fit(tmp_path / "run", logger=wrong)


def test_each_logger_is_an_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {*loggers.NAMES} <= project["optional-dependencies"].keys()


def test_nothing_is_imported_for_no_logger() -> None:
    code = "import sys, tlkit.training.loggers as l; l.chosen(None); print({'torch', 'tensorboard'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "set()\n"
