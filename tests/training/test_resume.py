"""A training that was stopped, in whatever way, goes on to the very same result."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
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

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
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


def command(images: Path, epochs: int, *more: str) -> list[str]:
    """Return the words of a fit."""
    return ["fit", "data=folder", f"data.root={images}", *SETTINGS, f"trainer.max_epochs={epochs}", *more]


def start(words: list[str], cache: Path, program: tuple[str, ...] = ("-c", PROGRAM)) -> subprocess.Popen[str]:
    """Start a tlkit that keeps a checkpoint after every step, in a process group of its own."""
    elsewhere = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}  # another file system changes nothing
    environment = {**os.environ, **elsewhere, "TLKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *program, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(words: list[str], cache: Path, program: tuple[str, ...] = ("-c", PROGRAM)) -> str:
    """Run a tlkit to its end."""
    process = start(words, cache, program)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out + err


def stop(
    words: list[str],
    cache: Path,
    until: Callable[[], bool],
    seconds: float,
    how: int = signal.SIGKILL,
    *,
    group: bool = False,
) -> tuple[int, str]:
    """Start a tlkit and send it a signal.

    Args:
        words: Of the command.
        cache: Its cache.
        until: What has to be true first, or a minute has to be over.
        seconds: What has to pass then.
        how: The signal.
        group: To all its processes.

    Returns:
        exit code and what it said.
    """
    process, deadline = start(words, cache), time.monotonic() + 60
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(seconds)
    if group:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, err = process.communicate()
    return process.returncode, err


def started() -> bool:
    """Wait for nothing."""
    return True


def new_checkpoint(run: Path) -> Callable[[], bool]:
    """Wait for the next checkpoint of a run."""
    before = _changed(run)
    return lambda: _changed(run) != before


def model_written(run: Path) -> Callable[[], bool]:
    """Wait for the end of a run's training."""
    return (run / runs.MODEL).exists


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


def same(run: Path, whole: Path) -> None:
    """Check that a run which was stopped and went on has left what an undisturbed one has."""
    assert weights(run) == weights(whole)
    assert history(run) == history(whole)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    lines = [(folder / "training" / "metrics.csv").read_text().splitlines() for folder in (run, whole)]
    assert lines[0] == lines[1]


def stage(run: Path) -> str:
    """Tell how far a run has come."""
    state = read(run / "checkpoint.pt", {})
    if state is None:
        return "without a checkpoint"
    return "after the training" if state["done"] else "inside an epoch" if state["batches"] else "between epochs"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "epochs"), [(3, 4), pytest.param(20, 16, marks=pytest.mark.full)])
def test_a_fit_that_is_killed_again_and_again_has_the_same_result(kills: int, epochs: int, tmp_path: Path) -> None:
    images, pick, found = scans(tmp_path), random.Random(1), Counter[str]()
    words, whole, run = command(images, epochs), tmp_path / "whole", tmp_path / "run"
    finish([*words, f"hydra.run.dir={whole}"], tmp_path / "cache1")
    cache = tmp_path / "cache2"
    for kill in range(kills):
        if kill == 19:
            until, most = model_written(run), 0.02
        elif kill % 4:
            until, most = new_checkpoint(run), 0.5
        else:
            until, most = started, 8.0  # while it starts, reads and looks the images over
        before = _changed(run)
        stop(going_on(words, run), cache, until, pick.uniform(0, most))
        found[stage(run) if _changed(run) != before else "on its way to a checkpoint"] += 1
    print("killed:", dict(found))
    assert not (run / runs.METRICS).exists()
    finish(going_on(words, run), cache)
    same(run, whole)


KEPT = ("strategy=partial", "strategy.augment=none", "strategy.mixup=0", "strategy.train_last=2")
CASES = {
    "two ranks": ("trainer.devices=2",),
    "two ranks, unfreezing": ("trainer.devices=2", "strategy.unfreeze_every=1"),
    "unfreezing": ("strategy.unfreeze_every=1",),
    "kept activations": KEPT,
    "kept activations, from the probe": (*KEPT, "strategy.head_init=probe"),
}


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_whatever_is_trained_goes_on_to_the_same_result(case: tuple[str, ...], tmp_path: Path) -> None:
    images, pick, ranks = scans(tmp_path), random.Random(2), "trainer.devices=2" in case
    words, whole, run = command(images, 6, *case), tmp_path / "whole", tmp_path / "run"
    said = finish([*words, f"hydra.run.dir={whole}"], tmp_path / "cache1")
    assert ("the frozen stages run once" in said) == ("strategy=partial" in case)
    cache = tmp_path / "cache2"
    for how, group in (
        (signal.SIGKILL, True),
        (signal.SIGTERM, False),
        (signal.SIGKILL, ranks),
        (signal.SIGTERM, True),
    ):
        code, err = stop(going_on(words, run), cache, new_checkpoint(run), pick.uniform(0, 0.1), how, group=group)
        assert code == (143 if how == signal.SIGTERM else -signal.SIGKILL), err
        assert not (run / runs.METRICS).exists()
    assert stage(run) != "after the training"
    finish(going_on(words, run), cache)
    same(run, whole)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_torchrun_goes_on_too(tmp_path: Path) -> None:
    images, cache, program = scans(tmp_path), tmp_path / "cache", (*TORCHRUN, "-m", "tlkit")
    words, whole, run = command(images, 30), tmp_path / "whole", tmp_path / "run"
    finish([*words, f"hydra.run.dir={whole}"], cache, program)
    process = start([*words, f"hydra.run.dir={run}"], cache, program)
    while not (run / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode != 0
    assert "Go on from the last checkpoint with" in err
    assert stage(run) in ("inside an epoch", "between epochs")
    finish(["fit", f"resume={run}"], cache, program)
    same(run, whole)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_fit_says_how_to_go_on(how: int, code: int, tmp_path: Path) -> None:
    images, run = scans(tmp_path), tmp_path / "run"
    words = [*command(images, epochs=50), f"hydra.run.dir={run}"]
    returned, err = stop(
        words, tmp_path / "cache", new_checkpoint(run), 0.2, how, group=True
    )  # as a terminal or a scheduler does
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


def test_a_run_without_a_checkpoint_begins_again_and_what_cannot_go_on_is_refused(tmp_path: Path) -> None:
    run, probe = tmp_path / "run", {"name": "linear_probe", "head": "prototype"}
    with runs.directory(run, config.compose("fit", {"seed": 3, "strategy": probe})[0]):
        pass
    assert tlkit.fit(resume=run).path == run
    assert runs.read_config(run)["seed"] == 3
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
