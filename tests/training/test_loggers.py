"""What loggers have when a run is done, read back with their own readers."""

import os
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tlkit
from tlkit import runs
from tlkit.errors import UsageError
from tlkit.training import loggers

TRAINED: dict[str, Any] = {
    "strategy": {"name": "partial", "head_init": "random", "lr": 1e-3, "batch_size": 16, "augment": "none"},
    "trainer": {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "limit_train_batches": 6},
    "codes": {"engine": "torch"},
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


def test_a_run_that_goes_on_is_one_curve(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, end in ((0, 8), (5, 10)):  # the second goes on from a checkpoint
        with loggers.logged(["tensorboard"], tmp_path, {"seed": 1}) as logs:
            for step in range(begun, end):
                logs.loggers(begun)[0].log_metrics({"loss": float(step + begun)}, step)
    events = EventAccumulator(str(tmp_path / "training" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [*range(10)]
    assert [event.value for event in events.Scalars("loss")] == [*range(5), *range(10, 15)]


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


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_wandb_is_offline_in_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tlkit.fit(tmp_path / "run", logger="wandb", **TRAINED)
    assert not [*tmp_path.glob(".*/wandb")]
    (place,) = (run.path / "training" / "wandb").glob("offline-run-*")
    (path,) = place.glob("*.wandb")
    names, settings = set(), set()
    for data in parts(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(data)
        names |= {item.key or "/".join(item.nested_key) for item in record.history.item}
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
