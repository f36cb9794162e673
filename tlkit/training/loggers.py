"""Where a run is logged beside its own files: Lightning's own loggers, into the run directory, nothing sent anywhere.

Of probes and trainings alike: settings, what was measured, pictures and the files of the run; of a training its curves.
Who wants a server says so as its makers have it: `MLFLOW_TRACKING_URI`, `WANDB_MODE=online`.
A run that goes on from a checkpoint goes on in the same place; MLflow and wandb keep steps that were done twice twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tlkit import files
from tlkit.errors import UsageError
from tlkit.training import CHECKPOINT, LOGS

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

log = logging.getLogger(__name__)

Name = Literal["tensorboard", "mlflow", "wandb"]
NAMES: tuple[str, ...] = get_args(Name)

_PROJECT = "tlkit"
_MODEL, _LOG = "model", "log.txt"  # of the run directory, see `tlkit.runs`
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
        return [self._logger(name, steps) for name in self.names]

    def _logger(self, name: str, steps: int = 0) -> Logger:
        if name not in self._made:
            place = self.folder / name
            new = not place.exists()
            place.mkdir(parents=True, exist_ok=True)
            with _silent():
                self._made[name] = _MAKERS[name](place, self._title(), steps)
                if new:
                    self._made[name].log_hyperparams(dict(self.config))
        return self._made[name]

    def result(self, metrics: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Log what came out of a run whose files are all written: numbers, pictures and the files themselves.

        Whatever fails here is told and no more: the run is whole.

        Args:
            metrics: Of the held-out images.
            training: Facts about how the classifier was made.
        """
        numbers = _numbers(metrics, training)
        for name in self.names:
            with self._telling(name):
                logger: Any = self._logger(name)
                if name == "tensorboard":  # its table of runs takes settings together with what they came to
                    logger.log_hyperparams(dict(self.config), numbers)
                else:
                    logger.log_metrics(numbers)
                _KEEPERS[name](logger, self.folder.parent)

    def close(self, status: str) -> None:
        """End what was logged, with "success" or "failed"."""
        for name, logger in self._made.items():
            with self._telling(name):
                logger.finalize(status)
                if name == "wandb":
                    own: Any = logger
                    own.experiment.finish(exit_code=0 if status == "success" else 1)
        self._made.clear()

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Make a warning of what a tracker cannot do: its server may be gone when a training of hours is done."""
        try:
            yield
        except Exception as err:
            place = self.folder.parent
            log.warning("warning: logger=%s: %s: %s. The run itself is whole: %s", name, type(err).__name__, err, place)

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


def _numbers(metrics: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a run is one number: of the held-out images, of cross-validation, and the seconds it took.

    >>> _numbers({"accuracy": 0.9, "n": 20}, {"cv_accuracy": 0.8, "seconds": {"head": 2}})
    {'final_accuracy': 0.9, 'cv_accuracy': 0.8, 'seconds/head': 2.0}
    """
    final = {f"final_{name}": value for name, value in metrics.items() if isinstance(value, float)}
    ends = zip(("final_accuracy_low", "final_accuracy_high"), metrics.get("accuracy_interval", ()), strict=False)
    cross_validated = {name: training[name] for name in ("cv_accuracy",) if training.get(name) is not None}
    seconds = {f"seconds/{part}": float(value) for part, value in (training.get("seconds") or {}).items()}
    return {**final, **dict(ends), **cross_validated, **seconds}


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


def _keep_in_tensorboard(logger: Any, run: Path) -> None:  # noqa: ANN401
    """Show the pictures; TensorBoard has no place for other files."""
    import numpy as np
    from PIL import Image

    for path in _pictures(run):
        with Image.open(path) as picture:
            logger.experiment.add_image(path.stem, np.asarray(picture.convert("RGB")), dataformats="HWC")


def _keep_in_mlflow(logger: Any, run: Path) -> None:  # noqa: ANN401
    for path in _files(run):
        logger.experiment.log_artifact(logger.run_id, str(path))
    logger.experiment.log_artifacts(logger.run_id, str(run / _MODEL), _MODEL)


def _keep_in_wandb(logger: Any, run: Path) -> None:  # noqa: ANN401
    import wandb

    for path in _pictures(run):
        logger.log_image(path.stem, [str(path)])
    with _environment("WANDB_CACHE_DIR", str(run / LOGS / "wandb" / "cache")):
        model = [path for path in (run / _MODEL).rglob("*") if path.is_file()]
        for kind, folder, paths in (("results", run, _files(run)), (_MODEL, run / _MODEL, model)):
            artifact = wandb.Artifact(f"{logger.experiment.id}-{kind}", kind)
            for path in paths:  # if these were not immutable, they would be copied to the home directory first
                artifact.add_file(str(path), path.relative_to(folder).as_posix(), policy="immutable")
            logger.experiment.log_artifact(artifact)


def _pictures(run: Path) -> list[Path]:
    return sorted(run.glob("*.png"))


def _files(run: Path) -> list[Path]:
    """Return the files of a run, without what is still written or soon removed."""
    return sorted(path for path in run.glob("[!.]*") if path.is_file() and path.name not in (CHECKPOINT, _LOG))


_MAKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
_KEEPERS: dict[str, Callable[[Any, Path], None]] = {
    "tensorboard": _keep_in_tensorboard,
    "mlflow": _keep_in_mlflow,
    "wandb": _keep_in_wandb,
}


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the packages from telling how they set themselves up."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
