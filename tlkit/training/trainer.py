"""The loop: Lightning's Trainer with defaults that suit fine-tuning; what a user gives for it goes through."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from tlkit import ranks
from tlkit.errors import UsageError
from tlkit.training import CHECKPOINT, LOGS
from tlkit.training.checkpoints import Checkpoints, earlier_rows, go_on, read
from tlkit.training.freezing import Policy

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from tlkit.training.loading import Batch
    from tlkit.training.module import FineTuning

EPOCHS = 10


def train(
    module: FineTuning,
    training: DataLoader[Batch],
    validation: DataLoader[Batch],
    trainer: Mapping[str, Any],
    folder: Path | None,
    task: Mapping[str, str] | None = None,
) -> None:
    """Train in place; afterwards the module's network is the best one, on the CPU and in eval mode.

    A checkpoint that the same training left in the folder is where it goes on from.

    Args:
        module: What is trained.
        training: Batches to learn from.
        validation: Batches to choose the epoch by.
        trainer: Arguments of Lightning's Trainer.
        folder: The run directory, for logs and checkpoints; None for none.
        task: What is trained on what, and how; see `Checkpoints`.

    Raises:
        TlkitError: The folder has a checkpoint that does not fit.
    """
    task, folder = task or {}, ranks.everyones(folder)[0]
    state = read(folder / CHECKPOINT, task) if folder else None
    done = state is not None and state["done"]
    logs = not ranks.launched() and not done  # else the log is whole already
    patience = module.plan.settings.early_stopping
    callbacks: list[pl.Callback] = [EarlyStopping("val_loss", patience=patience)] if patience else []
    callbacks += [Checkpoints(folder / CHECKPOINT, task, state)] if folder else []
    module.network.to(memory_format=torch.channels_last)
    module.network.freeze(module.plan.policy.first)  # DDP never looks at the gradients of what is frozen now
    with tempfile.TemporaryDirectory() as scratch, _quiet(), torch.random.fork_rng(devices=[]):
        usual = {
            "max_epochs": EPOCHS,
            "logger": _logger(folder, state["steps"] if state else 0) if folder and logs else False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **_processes(module.plan.policy),
            "log_every_n_steps": 10,
            "default_root_dir": folder or scratch,
            "callbacks": callbacks,
        }
        lightning = pl.Trainer(**{**usual, **_without_processes(trainer)})
        if state is not None:
            go_on(lightning, module, training, state)
        if not done:
            with _interruptible(), ranks.company():
                lightning.fit(module, training, validation)
    network = module.judged
    if module.best is not None:
        network.load_state_dict(module.best[1])
    module.network = network.cpu().to(memory_format=torch.contiguous_format).eval()
    module.network.module.requires_grad_(True)


def _processes(policy: Policy) -> dict[str, Any]:
    """Return what tells Lightning which of several processes this is, one device each."""
    _, size = ranks.world()
    if size == 1:
        return {"devices": 1}
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    # Buffers are made alike where they matter, in validation, of which ranks may have unequally many batches.
    known = signature(DistributedDataParallel).parameters
    own_buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return {
        "devices": here,
        "num_nodes": size // here,
        "strategy": DDPStrategy(find_unused_parameters=policy.every is not None, **own_buffers),
        "plugins": [TorchElasticEnvironment()],  # the ranks are where torchrun would say
        "use_distributed_sampler": False,
    }


def _without_processes(trainer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trainer.items() if key not in ("devices", "num_nodes")}


def _logger(folder: Path, steps: int) -> CSVLogger:
    """Return a logger that goes on with what it had logged of the first steps."""
    rows = earlier_rows(folder, steps)
    logger = CSVLogger(folder, name=None, version=LOGS)
    logger.experiment.metrics = list(rows)
    logger.save()  # at once, for the process may be killed again before the next checkpoint
    return logger


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse what fine-tuning cannot do.

    Raises:
        UsageError: several devices or machines, weights of half precision, or no end.
    """
    for key, there in (("devices", "LOCAL_WORLD_SIZE"), ("num_nodes", "GROUP_WORLD_SIZE")):
        if trainer.get(key, 1) not in (1, int(os.environ.get(there, "1"))):
            raise UsageError(
                f"trainer.{key}={trainer[key]}: there are not as many processes. `tlkit fit trainer.devices=2` "
                "starts two, torchrun starts any number, on several machines too."
            )
    if str(trainer.get("precision", "")).endswith("-true") and trainer["precision"] != "32-true":
        raise UsageError(
            f"trainer.precision={trainer['precision']}: the steps of fine-tuning are too small for such weights. Take "
            "bf16-mixed or 16-mixed."
        )
    if (trainer.get("max_epochs") or EPOCHS) < 1:
        raise UsageError(f"trainer.max_epochs={trainer['max_epochs']}: give a number of epochs, at least 1.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from telling what the user can see, or has chosen."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning's, about torch's next version
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be Ctrl-C: Lightning turns it into an exit, and ignores the next ones."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as err:
        raise KeyboardInterrupt from err
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
