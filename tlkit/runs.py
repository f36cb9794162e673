"""The run directory: one folder a result; without `metrics.json` it is an unfinished run.

config.yaml        what was asked, resolved; written first
model/             the classifier: JSON and safetensors
images.csv         file, label and split of every image that was used
predictions.csv    file, label, predicted, probability, p(CLASS)... of the held-out images
probabilities.parquet  the same exactly, and those of training images out of fold: what tlkit ensemble votes on
decision.json      what strategy=auto measured, chose and why
data.json          source, counts, duplicates, placeholders, unreadable files; of tlkit ensemble the source alone
environment.json   versions and machine
taps.csv           what strategy.tap=auto compared
stages.csv         what was trained and how fast, stage by stage
members.csv        an ensemble beside its members
training/          what the training logged
checkpoint.pt      where the training stands, until metrics.json is there; `tlkit fit resume=RUN` goes on from it
*.png              pictures
log.txt            what was printed
report.html        all of it on one page
metrics.json       what came out; written last
"""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlkit import files
from tlkit.errors import TlkitError, did_you_mean
from tlkit.training import CHECKPOINT, LOGS

CONFIG, METRICS, MODEL, IMAGES, LOG = "config.yaml", "metrics.json", "model", "images.csv", "log.txt"
PROBABILITIES, REPORT = "probabilities.parquet", "report.html"
_FOLDERS = (MODEL, LOGS)
_TABLES = ("predictions.csv", "taps.csv", "stages.csv", "lr_find.csv", "members.csv", "leaderboard.csv", "pairs.csv")
_OTHERS = ("deconvnet.csv", "index.parquet", PROBABILITIES, REPORT)
_COMPARED = ("comparison.json", "comparison.md")
_FIXED = (CONFIG, METRICS, IMAGES, LOG, "data.json", "decision.json", "environment.json")
_NAMES = (*_FIXED, *_TABLES, *_OTHERS, *_COMPARED)
_SUFFIXES = (".png", ".npy")
_LIBRARIES = ("timm", "torchvision", "scikit-learn", "numpy", "Pillow", "pytorch-lightning")
_PACKAGES = ("tlkit", "torch", "openvino", *_LIBRARIES)


@contextmanager
def directory(run_dir: Path, config: Mapping[str, Any], *, resume: bool = False) -> Iterator[Path]:
    """Open a new directory for results, or an unfinished one again.

    Whatever stops the work in it also removes what was written, but for a training that can go on from a checkpoint.

    Raises:
        TlkitError: something is in a new one already, or it cannot be written.
    """
    from omegaconf import OmegaConf

    run_dir = run_dir.absolute()
    if not resume and run_dir.exists() and (not run_dir.is_dir() or {p.name for p in run_dir.iterdir()} - {LOG}):
        raise TlkitError(f"{run_dir} is there already and not empty. Choose another folder, or remove it.")
    try:
        if not resume:
            files.write_text(run_dir / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        yield run_dir
        (run_dir / CHECKPOINT).unlink(missing_ok=True)
    except BaseException as err:
        if (run_dir / CHECKPOINT).exists():
            err.add_note(f"Go on from the last checkpoint with: tlkit fit resume={short(run_dir)}")
        else:
            _discard(run_dir)
        raise


def unfinished(run: str | Path) -> Path:
    """Return the directory of an unfinished run, rid of the files that a killed process was just writing.

    Raises:
        TlkitError: there is no such directory, or nothing to go on with in it.
    """
    run_dir = Path(run).expanduser().absolute()
    if not run_dir.is_dir():
        raise TlkitError(f"resume={run}: no such folder.{_similar(run_dir)}")
    if (run_dir / METRICS).is_file():
        raise TlkitError(f"resume={run}: this run is finished, there is nothing left to do in it.")
    if not (run_dir / CONFIG).is_file():
        raise TlkitError(f"resume={run}: no {CONFIG} in it, so this is no run that could go on. Start it anew.")
    for path in run_dir.glob(f"**/{files.UNFINISHED}"):
        path.unlink(missing_ok=True)
    return run_dir


def short(path: Path) -> str:
    """Return a path as a user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _similar(run_dir: Path) -> str:
    siblings = [p.name for p in run_dir.parent.iterdir()] if run_dir.parent.is_dir() else []
    return did_you_mean(run_dir.name, siblings)


def _discard(run_dir: Path) -> None:
    """Remove what a run wrote, and nothing else that may have come into its folder meanwhile."""
    for name in _FOLDERS:
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for path in run_dir.iterdir() if run_dir.is_dir() else ():
        if path.name in _NAMES or path.suffix in _SUFFIXES:
            path.unlink(missing_ok=True)
    remove_empty(run_dir)


def remove_empty(run_dir: Path) -> None:
    """Remove a run directory that nothing was written to, and empty folders above it, below the working directory."""
    with suppress(OSError):  # rmdir refuses, which ends this, at the first folder that is not empty
        for folder in (run_dir.absolute(), *run_dir.absolute().parents):
            if Path.cwd() not in folder.parents:
                break
            folder.rmdir()


def find(run: str | Path) -> Path:
    """Return the directory of a finished run.

    Raises:
        TlkitError: there is no such directory, or no finished run in it.
    """
    run_dir = Path(run).expanduser()
    if not run_dir.is_dir():
        raise TlkitError(f"run={run}: no such folder.{_similar(run_dir)}")
    if not (run_dir / METRICS).is_file():
        runs = sorted(str(path.parent) for path in run_dir.glob(f"**/{METRICS}"))
        hint = f" Runs below it: {', '.join(runs[-3:])}." if runs else " The run did not finish, or this is no run."
        if (run_dir / CHECKPOINT).is_file():
            hint = f" The run did not finish. Go on with: tlkit fit resume={run}"
        raise TlkitError(f"run={run}: no {METRICS} in it.{hint}")
    return run_dir


def environment() -> dict[str, Any]:
    """Describe versions and machine."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "accelerator": str(accelerator) if accelerator else None,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def read_config(run_dir: Path) -> dict[str, Any]:
    """Read what a run was asked to do.

    Raises:
        TlkitError: its config.yaml is missing or damaged.
    """
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        config = OmegaConf.to_container(OmegaConf.load(run_dir / CONFIG), resolve=False)
    except (OSError, ValueError, YAMLError) as err:
        raise TlkitError(f"{run_dir / CONFIG}: cannot be read: {err}") from err
    if not isinstance(config, dict):
        raise TlkitError(f"{run_dir / CONFIG}: not the configuration of a run.")
    return {str(key): value for key, value in config.items()}
