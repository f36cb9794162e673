"""The template distribution: installed from a wheel, it is a plugin like any other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "plugins/example"


def run(*words: str, **environment: str) -> str:
    told = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, **environment}, cwd=EXAMPLE.anchor
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_it_is_found_described_and_checked_once_installed(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    run("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site), str(source))
    path = {"PYTHONPATH": str(site)}
    assert "tlkit-example-backbone 0.1.0" in run("-m", "tlkit", "plugins", "show=smallnet", **path)
    assert "smallnet passes all checks" in run("-m", "tlkit", "plugins", "check=smallnet", **path)
    job = run("-m", "tlkit", "fit", "backbone=smallnet_wide", "--cfg", "job", "-p", "backbone", **path)
    assert job.splitlines()[1:3] == ["name: smallnet", "width: 32"]  # after a line that names the package
    small = [
        "strategy=linear_probe",
        "strategy.allow_random=true",
        "strategy.C=0.001",
        "strategy.cv=2",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert "test accuracy" in run("-m", "tlkit", "fit", "backbone=smallnet", "backbone.width=8", *small, **path)
    run("-m", "pytest", "-q", "-W", "error", "-c", str(source / "pyproject.toml"), str(source / "tests"), **path)
