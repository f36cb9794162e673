"""How the learning rates change: torch's schedulers, as Lightning takes them."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

if TYPE_CHECKING:
    from tlkit.training.settings import Settings

PATIENCE = 3  # epochs


def scheduled(optimizer: Optimizer, settings: Settings, steps: int) -> dict[str, Any]:
    """Return what `LightningModule.configure_optimizers` returns, for a training of `steps` steps."""
    if settings.schedule == "plateau":
        plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=PATIENCE)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
    scheduler: Any
    if settings.schedule == "onecycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        scheduler = OneCycleLR(optimizer, rates, total_steps=steps + 1)  # one is taken when it is made
    elif settings.schedule == "step":
        scheduler = LambdaLR(optimizer, partial(by_thirds, steps))
    else:
        scheduler = LambdaLR(optimizer, partial(cosine, steps, round(settings.warmup * steps)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cosine(steps: int, warm: int, done: int) -> float:
    """Return the share of the rate after `done` steps: a linear rise over `warm` steps, then half a cosine.

    >>> [round(cosine(10, 2, done), 2) for done in range(10)]
    [0.33, 0.67, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
    """
    if done < warm:
        return (done + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (done - warm) / max(1, steps - warm))) / 2


def by_thirds(steps: int, done: int) -> float:
    """Return 1, a tenth and a hundredth in the three thirds of all steps.

    >>> [by_thirds(6, done) for done in range(6)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    True
    """
    return (1.0, 0.1, 0.01)[min(2, 3 * done // max(1, steps))]
