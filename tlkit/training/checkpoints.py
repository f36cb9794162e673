"""Where a training stands, in one file that is written whole: the last state and the best one, to go on from exactly.

Order, augmentation, dropout and mixing depend on seed, epoch and step alone. So a state is weights, optimizer,
schedule, and how far it is. Lightning's own checkpoints miss a step of a plateau, and begin an epoch's data again.
"""

from __future__ import annotations

import csv
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from tlkit import files, ranks
from tlkit.errors import Terminated, TlkitError
from tlkit.training import LOGS
from tlkit.training.sharding import gathered, scattered

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from tlkit.training.loading import Batch
    from tlkit.training.module import FineTuning

EVERY = 300.0  # seconds, inside an epoch
ECHO = 5.0  # seconds in which torchrun passes on what SLURM has told all processes already
_FORMAT = 2

State = dict[str, Any]
"""Plain containers, numbers and tensors, as `torch.load(weights_only=True)` reads them."""


def read(path: Path, task: Mapping[str, str]) -> State | None:
    """Return the state of an unfinished training of this task; None if there is none yet.

    Args:
        path: The checkpoint.
        task: What is trained on what, and how; see `Checkpoints`.

    Raises:
        TlkitError: The checkpoint is damaged, or is another task's.
    """
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        known, kept = state["format"] == _FORMAT, state["task"]
    except (RuntimeError, UnpicklingError, EOFError, OSError, KeyError, TypeError) as err:
        raise TlkitError(f"{path}: cannot be read ({err}). Remove it, and training begins again.") from err
    changed = [name for name, value in task.items() if kept.get(name) != value] if known else ["tlkit itself"]
    if changed:
        raise TlkitError(
            f"{path}: training began with something else: {' and '.join(changed)} changed since. Bring back what it "
            "was to go on, or start a new run."
        )
    return state


class Checkpoints(pl.Callback):
    """Keep the state of a training: at each epoch's end, inside long ones, and when SIGTERM tells the process to end.

    Args:
        path: The file.
        task: What is trained on what, and how: only the same task goes on from it.
        state: What the training goes on from; None at its beginning.
    """

    def __init__(self, path: Path, task: Mapping[str, str], state: State | None) -> None:
        self.path, self.task, self.state = path, dict(task), state
        self.kept_steps = state["steps"] if state else 0
        self.since = time.monotonic()
        self.told_to_end: float | None = None  # when

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on from the state, and listen to SIGTERM in place of Lightning, which would not wait for a checkpoint."""
        if self.state is not None:
            optimizer = trainer.optimizers[0]
            optimizer.load_state_dict(scattered(self.state["optimizer"], optimizer))
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.state["schedule"])
            trainer.precision_plugin.load_state_dict(self.state["precision"])
            self.state = None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._end)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what the epoch before came to."""
        self._keep(trainer, trainer.current_epoch, 0)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Keep what was done so far in this epoch, if it is time, and between two steps of the optimizer."""
        due = self.told_to_end is not None or time.monotonic() - self.since > EVERY
        if batch_idx % trainer.accumulate_grad_batches == 0 and ranks.anyone(due):
            self._keep(trainer, trainer.current_epoch, batch_idx)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the result."""
        self._keep(trainer, trainer.current_epoch, 0, done=True)

    def _keep(self, trainer: pl.Trainer, epoch: int, batches: int, *, done: bool = False) -> None:
        if done or trainer.global_step > self.kept_steps:
            where = {"epoch": epoch, "batches": batches, "steps": trainer.global_step, "done": done}
            self._write(trainer, {"format": _FORMAT, "task": self.task, **where, **_state(trainer)})
        self.kept_steps, self.since = trainer.global_step, time.monotonic()
        if ranks.anyone(self.told_to_end is not None):
            raise Terminated

    def _write(self, trainer: pl.Trainer, state: State) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            with files.replacing(self.path) as file:
                torch.save(state, file)

    def _end(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.told_to_end is None:
            self.told_to_end = now
        elif now - self.told_to_end > ECHO:  # twice: at once
            raise Terminated


def _state(trainer: pl.Trainer) -> State:
    """Return what every rank needs; every rank has to call it."""
    module: Any = trainer.lightning_module
    return {
        **module.state(),
        "optimizer": gathered(trainer.optimizers[0].state_dict()),
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "precision": trainer.precision_plugin.state_dict(),
        "early_stopping": [callback.state_dict() for callback in trainer.early_stopping_callbacks],
    }


def go_on(trainer: pl.Trainer, module: FineTuning, training: DataLoader[Batch], state: State) -> None:
    """Bring a training that has not begun to a state; the optimizer follows when `Checkpoints` sees it begin."""
    module.restore(state)
    epoch, batches, steps = state["epoch"], state["batches"], state["steps"]
    sampler: Any = training.sampler
    sampler.go_on(epoch, batches * (training.batch_size or 1))
    for callback, kept in zip(trainer.early_stopping_callbacks, state["early_stopping"], strict=True):
        callback.load_state_dict(kept)
    loop = trainer.fit_loop.epoch_loop
    _count(trainer.fit_loop.epoch_progress, epoch)
    _count(loop.batch_progress, batches)
    loop.automatic_optimization.optim_progress.optimizer.step.total.completed = steps
    loop._batches_that_stepped = steps
    loop._restarting = batches > 0  # else it would count this epoch's batches from 0


def _count(progress: Any, n: int) -> None:  # noqa: ANN401
    for counter in (progress.total, progress.current):
        counter.ready = counter.started = counter.processed = counter.completed = n


def earlier_rows(folder: Path, steps: int) -> list[dict[str, str]]:
    """Take the rows of the first steps out of the CSV log that a training left behind, and remove it."""
    path = folder / LOGS / "metrics.csv"
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < steps]
    path.unlink(missing_ok=True)
    if steps == 0:
        shutil.rmtree(folder / LOGS, ignore_errors=True)
    return rows
