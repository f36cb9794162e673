"""What every strategy may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlkit.codes import CodesStore
from tlkit.training.loggers import Logging


@dataclass(frozen=True)
class Resources:
    """What a run shares with its strategy.

    Attributes:
        store: codes of images, computed once for fitting, evaluation and whatever comes after.
        trainer: settings for the Lightning Trainer.
        seed: of everything random.
        folder: the run directory, for logs of what is under way; None without one.
        logging: where else training is logged; None for nowhere.
        rates_to_try: how many steps at rising rates are made in place of a training; None for a training.
    """

    store: CodesStore
    trainer: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1
    folder: Path | None = None
    logging: Logging | None = None
    rates_to_try: int | None = None
