"""The loop: Lightning's Trainer with defaults that suit fine-tuning; what a user gives for it goes through."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch.nn.parallel import DistributedDataParallel

from tlkit import ranks
from tlkit.errors import UsageError
from tlkit.training import CHECKPOINT, LOGS
from tlkit.training.checkpoints import Checkpoints, earlier_rows, go_on, read
from tlkit.training.compiling import compiled
from tlkit.training.freezing import Policy
from tlkit.training.loading import dismiss
from tlkit.training.settings import check_sharing, in_shards
from tlkit.training.sharding import gathered

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from tlkit.training.loading import Batch
    from tlkit.training.loggers import Logging
    from tlkit.training.module import FineTuning

EPOCHS = 10
BARE = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
"""What of Lightning's Trainer is tlkit's own."""


def train(
    module: FineTuning,
    training: DataLoader[Batch],
    validation: DataLoader[Batch],
    trainer: Mapping[str, Any],
    folder: Path | None,
    task: Mapping[str, str] | None = None,
    logging: Logging | None = None,
) -> None:
    """Train in place; afterwards the module's network is the best one, on the CPU and in eval mode.

    A network that was trained in shards is whole again on the first rank only.

    A checkpoint that the same training left in the folder is where it goes on from.

    Args:
        module: What is trained.
        training: Batches to learn from.
        validation: Batches to choose the epoch by.
        trainer: Arguments of Lightning's Trainer.
        folder: The run directory, for logs and checkpoints; None for none.
        task: What is trained on what, and how; see `Checkpoints`.
        logging: Where else losses, accuracy and rates are logged.

    Raises:
        TlkitError: The folder has a checkpoint that does not fit.
    """
    task, folder = task or {}, ranks.everyones(folder)[0]
    state = read(folder / CHECKPOINT, task) if folder else None
    done = state is not None and state["done"]  # and its log is whole already
    patience = module.plan.settings.early_stopping
    callbacks: list[pl.Callback] = [EarlyStopping("val_loss", patience=patience)] if patience else []
    callbacks += [Checkpoints(folder / CHECKPOINT, task, state)] if folder else []
    module.network.to(memory_format=torch.channels_last)
    module.network.freeze(module.plan.policy.first)  # DDP never looks at the gradients of what is frozen now
    module.sharded = in_shards(trainer)
    plain = deepcopy(module.network) if module.sharded and not ranks.launched() else None
    with tempfile.TemporaryDirectory() as scratch, quiet(), torch.random.fork_rng(devices=[]):
        usual = {
            "max_epochs": EPOCHS,
            "logger": _loggers(folder, logging, state["steps"] if state else 0) if folder and not done else False,
            **BARE,
            "num_sanity_val_steps": 0,
            **_processes(module.plan.policy, sharded=module.sharded),
            "log_every_n_steps": 10,
            "default_root_dir": folder or scratch,
            "callbacks": callbacks,
        }
        lightning = pl.Trainer(**{**usual, **of_lightning(trainer)})
        if state is not None:
            go_on(lightning, module, training, state)
        if not done:
            compile = bool(trainer.get("compile"))
            try:
                with interruptible(), ranks.company(), compiled(module.network, compile=compile):
                    lightning.fit(module, training, validation)
            finally:
                dismiss(training)
                dismiss(validation)
    weights = module.best[1] if module.best else gathered(module.judged.state_dict())
    if module.sharded and plain is None:
        return
    network = plain or module.judged  # not the one of shards: these have changed what its modules are
    network.load_state_dict(weights)
    module.network = network.cpu().to(memory_format=torch.contiguous_format).eval()
    module.network.module.requires_grad_(True)


def _processes(policy: Policy, *, sharded: bool) -> dict[str, Any]:
    """Return what tells Lightning which of several processes this is, one device each."""
    _, size = ranks.world()
    if size == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}  # also inside a SLURM job, of whatever size
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    there = {
        "devices": here,
        "num_nodes": size // here,
        "plugins": [TorchElasticEnvironment()],  # the ranks are where torchrun would say
        "use_distributed_sampler": False,
    }
    if sharded:  # what a validation gathers is room that the next step gathers in
        return {**there, "strategy": ModelParallelStrategy(size, 1), "inference_mode": False}
    # Buffers are made alike where they matter, in validation.
    known = signature(DistributedDataParallel).parameters
    own_buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return {**there, "strategy": DDPStrategy(find_unused_parameters=policy.every is not None, **own_buffers)}


def of_lightning(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are left to Lightning as they are."""
    return {key: value for key, value in trainer.items() if key not in ("devices", "num_nodes", "strategy", "compile")}


def _loggers(folder: Path, logging: Logging | None, steps: int) -> list[Logger]:
    """Return loggers that go on with what they had logged of the first steps; on the first rank only."""
    if ranks.launched():
        return []
    rows = earlier_rows(folder, steps)
    logger = CSVLogger(folder, name=None, version=LOGS)
    logger.experiment.metrics = list(rows)
    logger.save()  # at once, for the process may be killed again before the next checkpoint
    return [logger, *(logging.loggers(steps) if logging else [])]


def check_trainer(trainer: Mapping[str, Any], strategy: Mapping[str, Any] | None = None) -> None:
    """Refuse what fine-tuning cannot do.

    Args:
        trainer: Arguments of Lightning's Trainer.
        strategy: Settings of the training that may not go with these.

    Raises:
        UsageError: processes that are not there, or cannot share it so, weights of half precision, or no end.
    """
    check_sharing(trainer, strategy or {})
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
def quiet() -> Iterator[None]:
    """Keep Lightning from telling what the user can see, or has chosen."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", "Experiment logs directory")  # other loggers have their folders in it
        warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning's, about torch's next version
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be Ctrl-C: Lightning turns it into an exit, and ignores the next ones."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as err:
        raise KeyboardInterrupt from err
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
