"""Fine-tuning by several real processes: one result, of exactly the images that one process sees."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tlkit import ranks, runs
from tlkit.cli import main
from tlkit.data import ImageData
from tlkit.errors import TlkitError, UsageError
from tlkit.training.loading import Shuffled, training_loader, validation_loader

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]


def test_ranks_deal_out_the_batches_of_one_process() -> None:
    whole = [row for _, row in Shuffled(23, 5)]
    shares = [[row for _, row in Shuffled(23, 5, rank, 2)] for rank in range(2)]
    assert [len(share) for share in shares] == [len(Shuffled(23, 5, 0, 2))] * 2
    for batch in range(23 // 8):
        together = {row for share in shares for row in share[4 * batch : 4 * batch + 4]}
        assert together == {*whole[8 * batch : 8 * batch + 8]}


def test_what_cannot_be_shared_is_refused(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world", lambda: (1, 2))
    with pytest.raises(UsageError, match=r"batch_size=5: give a multiple of 2"):
        training_loader(digits, lambda image: torch.zeros(1), 5, 1, 1)
    with pytest.raises(TlkitError, match="too few for 2 processes"):
        training_loader(digits.select([0]), lambda image: torch.zeros(1), 4, 1, 1)
    assert list(validation_loader(digits.select(range(5)), lambda image: torch.zeros(1), 4, 1, 1).sampler) == [
        (0, 1),
        (0, 3),
        (0, 0),
    ]


def scans(folder: Path, validated: int) -> Path:
    """Write scans of three digits into class folders, with a split."""
    scans = load_digits(n_class=3)
    for row in range(40 + validated + 9):
        split = "train" if row < 40 else "val" if row < 40 + validated else "test"
        place = folder / split / str(scans.target[row])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((scans.images[row] * 15).astype(np.uint8)).save(place / f"{row}.png")
    return folder


def words(images: Path, run: Path, *more: str) -> list[str]:
    settings = ["backbone=tiny", "codes.engine=torch", "strategy=partial", "strategy.batch_size=8", "strategy.lr=0.01"]
    settings += ["strategy.head_init=random", "strategy.augment=none", "strategy.optimizer=sgd"]
    settings += ["strategy.batch_norm=kept", "trainer.accelerator=cpu", "trainer.max_epochs=2"]
    return ["-m", "tlkit", "fit", "data=folder", f"data.root={images}", f"hydra.run.dir={run}", *settings, *more]


def start(arguments: Sequence[str], cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TLKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def epochs(run: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((run / runs.METRICS).read_text())["training"]["epochs"]
    return rows


@pytest.mark.parametrize("validated", [7, *(pytest.param(n, marks=pytest.mark.full) for n in (8, 9))])
def test_two_processes_have_the_result_of_one(validated: int, tmp_path: Path) -> None:
    images, one, two, other = (
        scans(tmp_path / "scans", validated),
        *(tmp_path / name for name in ("1", "2", "torchrun")),
    )
    assert main([*words(images, one)[2:], f"cache.dir={tmp_path / 'cache'}"]) == 0
    for arguments in (words(images, two, "trainer.devices=2"), [*TORCHRUN, *words(images, other)]):
        process = start(arguments, tmp_path / "cache")
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.count("results:") == 1
    for run in (two, other):
        assert {path.name for path in run.iterdir()} - {"log.txt"} == {p.name for p in one.iterdir()} - {"log.txt"}
        for here, there in zip(epochs(run), epochs(one), strict=True):
            right = here["val_accuracy"] * validated
            assert right == pytest.approx(round(right), abs=1e-4)
            assert round(right) == round(there["val_accuracy"] * validated)
            assert here["val_loss"] == pytest.approx(there["val_loss"], rel=1e-4)
            assert here["train_loss"] == pytest.approx(there["train_loss"], rel=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"scans", "cache", "1", "2", "torchrun"}


@pytest.mark.full
def test_two_processes_balance_classes_as_one_and_log_once(tmp_path: Path) -> None:
    images, one, two = (tmp_path / name for name in ("scans", "1", "2"))
    for row, path in enumerate(sorted(scans(images, 8).glob("train/0/*.png"))):
        if row > 2:
            path.unlink()  # a small class
    more = ("strategy.sampler=balanced", "logger=tensorboard")
    for run, devices in ((one, 1), (two, 2)):
        process = start(words(images, run, *more, f"trainer.devices={devices}"), tmp_path / "cache")
        _, err = process.communicate()
        assert process.returncode == 0, err
    for here, there in zip(epochs(two), epochs(one), strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    names = [sorted(path.name for path in run.glob("training/*")) for run in (one, two)]
    assert names[0] == names[1] == ["metrics.csv", "tensorboard"]
    lines = [len((run / "training" / "metrics.csv").read_text().splitlines()) for run in (one, two)]
    assert lines[0] == lines[1]


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
@pytest.mark.parametrize("when", ["at its start", "in training"])
@pytest.mark.parametrize("who", ["the first", "another"])
def test_a_dead_process_ends_the_job(who: str, when: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = words(scans(tmp_path / "scans", 8), run, "trainer.devices=2", "trainer.max_epochs=5000")
    process = start(arguments, tmp_path / "cache")
    while child(process.pid) is None or (when == "in training" and not (run / "checkpoint.pt").exists()):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(child(process.pid) or 0 if who == "another" else process.pid, signal.SIGKILL)
    died = time.monotonic()
    _, err = process.communicate(timeout=60)
    while left := members(process.pid):
        assert time.monotonic() - died < 60, left
        time.sleep(0.05)
    print(f"{who} was killed {when}: the last process ended {time.monotonic() - died:.1f} s later")
    if who == "another":
        assert process.returncode == 1
        assert "another process of this job" in err
    if when == "in training":
        assert "process of this job is gone" in err
        assert f"tlkit fit resume={run}" in err or who == "the first"


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")
def test_a_signal_to_all_processes_of_a_job_still_leaves_a_checkpoint(tmp_path: Path) -> None:
    """As SLURM sends it: to those that load images too, and to each rank once more by torchrun."""
    run = tmp_path / "run"
    words = ["fit", f"hydra.run.dir={run}", "strategy=full", "strategy.head_init=random", "strategy.batch_size=8"]
    words += ["codes.engine=torch", "trainer.accelerator=cpu", "trainer.max_epochs=5000"]
    environment = {**os.environ, "TLKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *TORCHRUN, "-m", "tlkit", *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (run / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert f"terminated; Go on from the last checkpoint with: tlkit fit resume={run}" in err
    assert torch.load(run / "checkpoint.pt", weights_only=True)["batches"] > 0


def processes() -> Iterator[tuple[int, int, int, str]]:
    """Return all living processes: their number, parent, group and command."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (folder / "stat").read_text().rpartition(") ")[2].split()
            if state[0] != "Z":
                yield int(folder.name), int(state[1]), int(state[2]), (folder / "cmdline").read_text()


def child(parent: int) -> int | None:
    """Return the process that another has started with `tlkit _rank`, if it has."""
    return next((pid for pid, above, _, said in processes() if above == parent and "_rank" in said), None)


def members(group: int) -> list[int]:
    """Return the living processes of a group."""
    return [pid for pid, _, of, _ in processes() if of == group]
