"""Sweeps whose jobs run in other processes, through real launchers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from tlkit import config

ALL = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tlkit", "fit", "-m", "strategy=linear_probe", "hydra.sweep.dir=sweep", *words]
    environment = {**os.environ, "TLKIT_CACHE": str(folder.parent / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )


@pytest.mark.parametrize(
    "launcher", ["joblib", *(pytest.param(name, marks=pytest.mark.full) for name in ("submitit_local", "ray"))]
)
def test_jobs_that_fail_elsewhere_are_named_and_the_exit_status_tells(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(ALL[launcher])
    done = sweep(tmp_path / launcher, f"hydra/launcher={launcher}", "seed=-1,-2")
    assert done.returncode == 2, done.stderr
    assert "tlkit fit: job 0 (strategy=linear_probe seed=-1): seed: expected a whole number" in done.stderr
    assert "All that failed: sweep/failed.txt" in done.stderr
    assert "Traceback" not in done.stderr
    listed = sorted((tmp_path / launcher / "sweep" / "failed.txt").read_text().splitlines())
    assert [line[:37] for line in listed] == [f"job {n} (strategy=linear_probe seed={-n - 1})" for n in (0, 1)]
    assert not list((tmp_path / launcher / "sweep").glob("*-seed*"))


def test_jobs_that_fail_here_are_named_too(tmp_path: Path) -> None:
    done = sweep(tmp_path / "here", "seed=-1,-2")
    assert done.returncode == 1
    assert "tlkit fit: job 0 (strategy=linear_probe seed=-1): seed: expected" in done.stderr
    assert "\njob 1 (strategy=linear_probe seed=-2): seed: expected" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize("launcher", ALL)
def test_jobs_elsewhere_have_the_results_of_jobs_here(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(ALL[launcher])
    more = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    here = sweep(tmp_path / "here", "seed=1,2")
    there = sweep(tmp_path / "there", f"hydra/launcher={launcher}", "seed=1,2,-3", *more)
    assert here.returncode == 0, here.stderr
    assert there.returncode == 2, there.stderr
    assert "job 2 (strategy=linear_probe seed=-3): seed: expected" in there.stderr
    runs = sorted(path.parent for path in (tmp_path / "here").glob("sweep/*/metrics.json"))
    assert len(runs) == 2
    for run in runs:
        twin = tmp_path / "there" / run.relative_to(tmp_path / "here")
        assert {path.name for path in twin.iterdir()} == {path.name for path in run.iterdir()}
        assert (twin / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
        assert json.loads((twin / "metrics.json").read_text())["accuracy"] > 0.95


def test_a_launcher_that_is_not_there_names_its_extra() -> None:
    for launcher, extra in (("joblib", "joblib"), ("submitit_slurm", "submitit"), ("ray", "ray")):
        err = MissingConfigException("no such option", f"hydra/launcher/{launcher}", ["basic"])
        assert config.explain(err) == f"hydra/launcher={launcher}: it is not installed. pip install 'tlkit[{extra}]'"


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this is a SLURM cluster")
def test_slurm_is_asked_for_where_there_is_none(tmp_path: Path) -> None:
    done = sweep(tmp_path / "slurm", "hydra/launcher=submitit_slurm", "seed=1,2")
    assert (done.returncode, done.stderr) == (
        2,
        "tlkit fit: hydra/launcher=submitit_slurm: no srun here, so no SLURM. submitit_local needs none.\n",
    )
    assert not list((tmp_path / "slurm").iterdir())
