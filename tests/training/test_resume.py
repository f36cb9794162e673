"""A training that was stopped, in whatever way, goes on to the very same result."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import tlkit
from tlkit import config, runs
from tlkit.errors import TlkitError, UsageError
from tlkit.training.checkpoints import read

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

# A checkpoint after every step, so that a kill finds all kinds of them.
PROGRAM = "from tlkit.training import checkpoints; checkpoints.EVERY = 0.0; from tlkit.cli import program; program()"
SETTINGS = (
    *("backbone=tiny", "codes.engine=torch", "strategy=full", "strategy.batch_size=16", "strategy.lr=1e-3"),
    *("strategy.ema=0.9", "strategy.mixup=0.2", "strategy.augment=randaugment", "strategy.schedule=plateau"),
    *("strategy.early_stopping=20", "strategy.head_init=random", "trainer.accelerator=cpu"),
)


def scans(folder: Path, n: int = 100) -> Path:
    """Write small scans of three digits into class folders."""
    digits = load_digits(n_class=3)
    for row in range(n):
        place = folder / "scans" / str(digits.target[row])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15).astype(np.uint8)).save(place / f"{row}.png")
    return folder / "scans"


def command(images: Path, epochs: int) -> list[str]:
    """Return the words of a fit."""
    return ["fit", "data=folder", f"data.root={images}", *SETTINGS, f"trainer.max_epochs={epochs}"]


def start(words: list[str], cache: Path) -> subprocess.Popen[str]:
    """Start a tlkit that keeps a checkpoint after every step."""
    elsewhere = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}  # another file system changes nothing
    environment = {**os.environ, **elsewhere, "TLKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(words: list[str], cache: Path) -> str:
    """Run a tlkit to its end."""
    process = start(words, cache)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out + err


def stop(words: list[str], cache: Path, run: Path, seconds: float, how: int = signal.SIGKILL) -> tuple[int, str]:
    """Start a tlkit and send it a signal some time after its first new checkpoint, or after a minute without one."""
    process, before = start(words, cache), _changed(run)
    deadline = time.monotonic() + 60
    while _changed(run) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(how)
    _, err = process.communicate()
    return process.returncode, err


def _changed(run: Path) -> int:
    path = run / "checkpoint.pt"
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def going_on(words: list[str], run: Path) -> list[str]:
    """Return the words that go on with a run, or begin it if it was killed before it had written a thing."""
    return ["fit", f"resume={run}"] if (run / runs.CONFIG).is_file() else [*words, f"hydra.run.dir={run}"]


def weights(run: Path) -> dict[str, bytes]:
    """Return the files of a finished model that hold numbers."""
    return {path.name: path.read_bytes() for path in (run / runs.MODEL).glob("*.safetensors")}


def history(run: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((run / runs.METRICS).read_text())["training"]["epochs"]
    return rows


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "epochs"), [(3, 4), pytest.param(20, 16, marks=pytest.mark.full)])
def test_a_fit_that_is_killed_again_and_again_has_the_same_result(kills: int, epochs: int, tmp_path: Path) -> None:
    images, cache, pick = scans(tmp_path), tmp_path / "cache", random.Random(1)
    words, whole, run = command(images, epochs), tmp_path / "whole", tmp_path / "run"
    finish([*words, f"hydra.run.dir={whole}"], cache)
    for _ in range(kills):
        stop(going_on(words, run), cache, run, pick.uniform(0, 0.5))
    assert not (run / runs.METRICS).exists()
    finish(going_on(words, run), cache)
    assert weights(run) == weights(whole)
    assert history(run) == history(whole)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    lines = [(folder / "training" / "metrics.csv").read_text().splitlines() for folder in (run, whole)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_fit_says_how_to_go_on(how: int, code: int, tmp_path: Path) -> None:
    images, run = scans(tmp_path), tmp_path / "run"
    words = [*command(images, epochs=50), f"hydra.run.dir={run}"]
    returned, err = stop(words, tmp_path / "cache", run, 0.2, how)
    assert returned == code, err
    assert f"Go on from the last checkpoint with: tlkit fit resume={run}" in err
    assert "Traceback" not in err
    assert {path.name for path in run.iterdir()} == {"checkpoint.pt", "config.yaml", "log.txt", "training"}
    state = read(run / "checkpoint.pt", {})
    assert state is not None
    assert not state["done"]
    with pytest.raises(TlkitError, match=r"The run did not finish\. Go on with: tlkit fit resume="):
        tlkit.load(run)
    with pytest.raises(UsageError, match=r"asked for something else: .*seed was 1, is now 2"):
        tlkit.fit(resume=run, seed=2)
    (images / "0" / "new.png").write_bytes((images / "0" / "0.png").read_bytes())
    with pytest.raises(TlkitError, match="the list of images and the images changed since"):
        tlkit.fit(resume=run)
    assert (run / "checkpoint.pt").exists()


def test_what_cannot_go_on_is_refused(tmp_path: Path) -> None:
    run = tlkit.fit(tmp_path / "run", cache={"max_gb": 0}).path
    with pytest.raises(TlkitError, match="this run is finished"):
        tlkit.fit(resume=run)
    with pytest.raises(TlkitError, match=r"no such folder\. Did you mean 'run'"):
        tlkit.fit(resume=tmp_path / "runn")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TlkitError, match=r"no config\.yaml in it"):
        tlkit.fit(resume=tmp_path / "empty")


def test_a_damaged_checkpoint_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert read(path, {}) is None
    path.write_bytes(b"half")
    with pytest.raises(TlkitError, match="Remove it, and training begins again"):
        read(path, {})
    torch.save({"format": 2, "task": {"the images": "a"}}, path)
    with pytest.raises(TlkitError, match="the images changed since"):
        read(path, {"the images": "b"})


def test_a_run_without_a_checkpoint_begins_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with runs.directory(run, config.compose("fit", {"seed": 3})[0]):
        pass
    assert tlkit.fit(resume=run).path == run
    assert runs.read_config(run)["seed"] == 3
