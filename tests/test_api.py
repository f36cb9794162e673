"""The commands as Python functions do what the words do, and say the same of wrong settings."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tlkit
from tlkit.cli import main
from tlkit.errors import TlkitError, UsageError

DIGITS = {"codes": {"engine": "torch"}, "strategy": {"name": "linear_probe", "head": "prototype", "scale": "none"}}


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two finished runs."""
    folder = tmp_path_factory.mktemp("probes")
    for tap in ("layer2", "pool"):
        tlkit.fit(folder / tap, codes=DIGITS["codes"], strategy={**DIGITS["strategy"], "tap": tap})
    return folder


def test_every_public_name_is_there_at_once() -> None:
    code = "import tlkit; [getattr(tlkit, name) for name in tlkit.__all__]; tlkit.codes.load, tlkit.plots.save"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_vote(probes: Path, tmp_path: Path) -> None:
    run = tlkit.ensemble([probes / "layer2", probes / "pool"], tmp_path / "vote", voting="hard")
    assert run.path == tmp_path / "vote"
    assert json.loads((run.path / "metrics.json").read_text())["accuracy"] == run.metrics["accuracy"]
    assert [row["name"] for row in run.metrics["members"]] == ["layer2", "pool", "ensemble"]
    assert (run.predictions["predicted"] == run.predictions["label"]).mean() == pytest.approx(run.metrics["accuracy"])
    loaded = tlkit.load(run.path)
    assert loaded.classes == run.classifier.classes
    with pytest.raises(UsageError, match="voting"):
        tlkit.ensemble(probes, tmp_path / "other", voting="loud")
    with pytest.raises(UsageError, match="an ensemble takes two at least"):
        tlkit.ensemble(probes / "pool", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_runs_are_compared(probes: Path, tmp_path: Path) -> None:
    table, pairs = tlkit.compare(probes, out=tmp_path / "compared")
    assert sorted(table["run"]) == ["layer2", "pool"]
    assert len(pairs) == 1
    assert (tmp_path / "compared" / "leaderboard.png").is_file()
    with pytest.raises(TlkitError, match="nowhere"):
        tlkit.compare(tmp_path / "nowhere")


def test_codes_are_extracted(tmp_path: Path) -> None:
    out = tlkit.extract(tmp_path / "codes.parquet", taps=["layer2", "pool"], codes=DIGITS["codes"])
    frame = tlkit.codes.load(out).to_frame()
    assert len(frame) == 1797
    assert frame["label"].nunique() == 10
    assert main(["extract", "taps=[layer2,pool]", f"out={tmp_path / 'words.parquet'}", "codes.engine=torch"]) == 0
    pd.testing.assert_frame_equal(frame, tlkit.codes.load(tmp_path / "words.parquet").to_frame())
    with pytest.raises(UsageError, match=r"(?s)sed: no such.*tap: no such"):
        tlkit.extract(tmp_path / "other", tap="pool", sed=2)


def test_a_network_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = tlkit.summary("vgg16", out=str(tmp_path / "vgg16.csv"))
    assert measured.params == 138_357_544
    told = capsys.readouterr().out
    assert main(["summary", "backbone=vgg16", f"out={tmp_path / 'vgg16.csv'}"]) == 0
    assert capsys.readouterr().out == told
    layers = pd.read_csv(tmp_path / "vgg16.csv")
    assert np.nansum(layers["weights"]) + np.nansum(layers["biases"]) == measured.params
    assert tlkit.summary({"name": "resnet_cifar", "depth": 20}, input_size=32).input_size == (3, 32, 32)
    with pytest.raises(UsageError, match="batch=0"):
        tlkit.summary("vgg16", batch=0)
