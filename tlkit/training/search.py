"""Which rate to train at: the loss while the rate rises from far too low to far too high (Smith 2017).

Lightning's own finder gives all groups of the optimizer one rate; here the rates of stages and head keep their ratios.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch

from tlkit.errors import TlkitError
from tlkit.training.compiling import compiled
from tlkit.training.trainer import BARE, interruptible, of_lightning, quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.utils.data import DataLoader

    from tlkit.training.loading import Batch
    from tlkit.training.module import FineTuning

REACH = 1e3  # times the usual rate, and that part of it
LOWER = 10.0  # the edge is no place to train at for long; fast.ai's rule
_DIVERGED = 4.0  # times the lowest loss, and worse than chance
_ABOUT = 0.05  # of the way from the lowest loss to that of chance
_MEMORY = 0.9  # of the mean that tells so
_SMOOTH = 2.0  # steps, standard deviation
FEWEST = 10  # steps


@dataclass
class Found(Exception):
    """What was found, raised in place of a training.

    Attributes:
        usual: The rate of the last stage, as the settings have it.
        rates: Of the last stage, (n,), rising.
        losses: At each.
        chance: The loss of whoever knows nothing.
    """

    usual: float
    rates: Sequence[float]
    losses: Sequence[float]
    chance: float

    @property
    def smooth(self) -> NDArray[np.float64]:
        """The losses without the noise of single batches."""
        from scipy.ndimage import gaussian_filter1d

        smooth: NDArray[np.float64] = gaussian_filter1d(np.asarray(self.losses), _SMOOTH, mode="nearest")
        return smooth

    @property
    def edge(self) -> float:
        """The highest rate at which the loss is about as low as at its best.

        A head that starts from a probe has its lowest loss anywhere at the beginning, by chance.
        """
        smooth = self.smooth
        low = smooth.min()
        good = smooth <= low + _ABOUT * (max(self.chance, smooth[0]) - low)
        return float(self.rates[int(np.flatnonzero(good)[-1])])

    @property
    def suggested(self) -> float:
        """The rate to train at, of two digits."""
        return float(f"{self.edge / LOWER:.1e}")


class _Rising(pl.Callback):
    """Raise all rates from step to step, and remember the losses."""

    def __init__(self, usual: float, steps: int, chance: float) -> None:
        self.usual, self.steps, self.chance = usual, steps, chance
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._micro: list[float] = []  # losses of the batches that are one step
        self._mean = 0.0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Set the rates of this step, whatever the schedule says."""
        times = REACH ** (2 * len(self.rates) / max(1, self.steps - 1) - 1)
        for group in optimizer.param_groups:
            group["lr"] = times * group["initial_lr"]
        self.rates.append(times * self.usual)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Take the loss; end when it has grown beyond any doubt."""
        self._micro.append(float(trainer.callback_metrics["train_loss"]))
        if len(self.losses) == len(self.rates):
            return
        loss = sum(self._micro) / len(self._micro)
        self._micro.clear()
        if not math.isfinite(loss):
            self.rates.pop()
            trainer.should_stop = True
            return
        self.losses.append(loss)
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * loss
        recent = self._mean / (1 - _MEMORY ** len(self.losses))
        trainer.should_stop = recent > max(_DIVERGED * min(self.losses), self.chance)


def search(module: FineTuning, training: DataLoader[Batch], trainer: Mapping[str, Any], steps: int) -> NoReturn:
    """Train a few steps at rising rates.

    Args:
        module: What is trained; it is spoilt afterwards.
        training: Batches to learn from.
        trainer: Arguments of Lightning's Trainer.
        steps: How many rates are tried.

    Raises:
        Found: The losses, always.
        TlkitError: There are none.
    """
    usual = module.plan.rates.stages[-1]
    chance = math.log(len(module.plan.class_weights))
    rising = _Rising(usual, steps, chance)
    module.plan = replace(module.plan, settings=replace(module.plan.settings, schedule="cosine"))  # any but plateau
    module.network.to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as scratch, quiet(), torch.random.fork_rng(devices=[]):
        own = {
            "max_epochs": -1,
            "max_steps": steps,
            "limit_val_batches": 0,
            "logger": False,
            "callbacks": [rising],
            **BARE,
            "devices": 1,
            "default_root_dir": scratch,
        }
        lightning = pl.Trainer(**{**of_lightning(trainer), **own})
        with interruptible(), compiled(module.network, compile=bool(trainer.get("compile"))):
            lightning.fit(module, training)
    if len(rising.losses) < FEWEST:
        raise TlkitError(
            f"the loss was a number for {len(rising.losses)} steps only, from a rate of {usual / REACH:.2g} on. Give a "
            "lower strategy.lr to search around, or more steps."
        )
    raise Found(usual, rising.rates, rising.losses, chance)
