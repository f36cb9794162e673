"""Where a run is logged beside its CSV file: Lightning's own loggers, into the run directory, nothing sent anywhere.

Who wants a server says so as its makers have it: `MLFLOW_TRACKING_URI`, `WANDB_MODE=online`.
A run that goes on from a checkpoint goes on in the same place; MLflow and wandb keep steps that were done twice twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tlkit import files
from tlkit.errors import UsageError
from tlkit.training import LOGS

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

Name = Literal["tensorboard", "mlflow", "wandb"]
NAMES: tuple[str, ...] = get_args(Name)

_PROJECT = "tlkit"
_FLUSH = 5  # seconds; what TensorBoard has not written yet is lost when the process is killed


def chosen(logger: str | Sequence[str] | None) -> list[str]:
    """Return the names that the setting `logger` stands for, each once.

    Raises:
        UsageError: a package is missing.

    >>> chosen(None)
    []
    """
    names = list(dict.fromkeys([logger] if isinstance(logger, str) else logger or []))
    for name in names:
        if find_spec(name) is None:
            raise UsageError(
                f"logger={name} needs the package {name}: pip install 'tlkit[{name}]', or leave logger out; "
                f"{LOGS}/metrics.csv is always written."
            )
    return names


class Logging:
    """The loggers of one run; they are made when there is something to log.

    Args:
        names: What `chosen` returns.
        folder: The run directory.
        config: What the run was asked to do.
    """

    def __init__(self, names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> None:
        self.names, self.folder, self.config = names, folder / LOGS, config
        self._made: dict[str, Logger] = {}

    def loggers(self, steps: int = 0) -> list[Logger]:
        """Return the loggers; those of a run that was stopped go on after its first `steps` steps."""
        for name in self.names if not self._made else ():
            place = self.folder / name
            new = not place.exists()
            place.mkdir(parents=True, exist_ok=True)
            with _silent():
                self._made[name] = _MAKERS[name](place, self._title(), steps)
                if new:
                    self._made[name].log_hyperparams(dict(self.config))
        return list(self._made.values())

    def result(self, metrics: Mapping[str, Any]) -> None:
        """Log what was measured on the held-out images."""
        final = {f"final_{name}": value for name, value in metrics.items() if isinstance(value, float)}
        for name, logger in zip(self.names, self.loggers(), strict=True):
            if name == "tensorboard":  # its table of runs takes settings together with what they came to
                logger.log_hyperparams(dict(self.config), final)
            else:
                logger.log_metrics(final)

    def close(self, status: str) -> None:
        """End what was logged, with "success" or "failed"."""
        for name, logger in self._made.items():
            logger.finalize(status)
            if name == "wandb":
                own: Any = logger
                own.experiment.finish(exit_code=0 if status == "success" else 1)
        self._made.clear()

    def _title(self) -> str:
        return "/".join(self.folder.parent.parts[-3:])


@contextmanager
def logged(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> Iterator[Logging]:
    """Yield the loggers of a run, and end what they log together with the block."""
    started = Logging(names, folder, config)
    try:
        yield started
    except BaseException:
        started.close("failed")
        raise
    started.close("success")


def _tensorboard(place: Path, title: str, steps: int) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    going_on: dict[str, Any] = {"purge_step": steps} if steps else {}  # what was logged after the checkpoint is hidden
    return TensorBoardLogger(
        place.parent, name="", version=place.name, default_hp_metric=False, flush_secs=_FLUSH, **going_on
    )


def _mlflow(place: Path, title: str, steps: int) -> Logger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from pytorch_lightning.loggers import MLFlowLogger

    kept = place / "run_id.txt"
    logger = MLFlowLogger(
        os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        title,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place / 'mlflow.db'}",
        artifact_location=None if os.environ.get("MLFLOW_TRACKING_URI") else (place / "artifacts").as_uri(),
        run_id=kept.read_text() if kept.exists() else None,
    )
    files.write_text(kept, str(logger.run_id))
    return logger


def _wandb(place: Path, title: str, steps: int) -> Logger:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    mode: Any = os.environ.get("WANDB_MODE", "offline")
    earlier = sorted(place.glob("*run-*-*"))  # named after time and run
    with _environment("WANDB_CACHE_DIR", str(place / "cache")):  # or it writes below the home directory
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=title,
            dir=place.parent,  # to which wandb appends its own name
            id=earlier[-1].name.rpartition("-")[2] if earlier else None,
            resume="allow",
            mode=mode,
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True
            ),
        )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while, unless the user has."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


_MAKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the packages from telling how they set themselves up."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
