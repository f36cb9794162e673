"""The commands as Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit.classifier import Classifier
from tlkit.ensembles.ensemble import Ensemble, load_classifier
from tlkit.runs import MODEL, find
from tlkit.workflow import Run

if TYPE_CHECKING:
    from tlkit.backbones.summary import Summary
    from tlkit.comparison.command import Comparison


def fit(run_dir: str | Path | None = None, **settings: Any) -> Run:  # noqa: ANN401
    """Do what `tlkit fit` does, and return the run.

    Args:
        run_dir: the new run directory; `runs/DATA/BACKBONE-STRATEGY/TIME` when None.
        settings: as on the command line: a name chooses an option of a group, a mapping with a name sets its
            settings too: `data={"name": "folder", "root": "photos"}, backbone="resnet50", seed=2`.

    Raises:
        UsageError: settings that do not fit, all of them at once.
        TlkitError: what stops the run; nothing is left behind then but a checkpoint to `resume` from, if there is one.
    """
    from tlkit import config, validate, workflow

    composed, default_dir = config.compose("fit", settings)
    if composed["resume"] is not None:
        composed = workflow.resumed(composed, alone=len(settings) == 1)
    validate.check(workflow.fit, composed)
    return workflow.fit(Path(run_dir or default_dir), **composed)


def load(run: str | Path, weights: str | None = None) -> Classifier | Ensemble:
    """Read the classifier, or the ensemble, of a finished run.

    Args:
        run: the run directory.
        weights: where the backbone's weights are now, if not where they were.

    Raises:
        TlkitError: no finished run is there, or its weights cannot be had.
    """
    return load_classifier(find(run) / MODEL, weights)


def ensemble(runs: str | Path | Sequence[str | Path], run_dir: str | Path | None = None, **settings: Any) -> Run:  # noqa: ANN401
    """Do what `tlkit ensemble` does: let finished runs vote, and return the run that this is.

    Args:
        runs: run directories, and folders with runs below them.
        run_dir: the new run directory; `runs/ensemble/TIME` when None.
        settings: as on the command line: `voting="hard"`.

    Returns:
        the run; `metrics["members"]` has the ensemble beside its members.

    Raises:
        UsageError: settings that do not fit, all of them at once, or fewer than two runs.
        TlkitError: no such runs, or they cannot vote together.
    """
    from tlkit import combine, config, validate

    composed, default_dir = config.compose("ensemble", {"runs": _named(runs), **settings})
    validate.check(combine.ensemble, composed)
    return Run(*combine.ensemble(Path(run_dir or default_dir), **composed))


def compare(runs: str | Path | Sequence[str | Path], out: str | Path | None = None) -> Comparison:
    """Do what `tlkit compare` does: rank finished runs, and tell which of them really differ.

    Args:
        runs: run directories, and folders with runs below them.
        out: a new folder for tables and pictures; None prints only.

    Returns:
        two DataFrames: `runs`, the best first, and `pairs` of them.

    Raises:
        UsageError: no run is named.
        TlkitError: there are none, one is damaged, or `out` cannot be written.
    """
    from tlkit.comparison import compare

    return compare(runs=_named(runs), out=None if out is None else str(out))


def extract(out: str | Path, **settings: Any) -> Path:  # noqa: ANN401
    """Do what `tlkit extract` does: write codes of labelled images, and return where; `tlkit.codes.load` reads them.

    Args:
        out: a new folder, or a file that ends in .parquet, .safetensors or .h5.
        settings: as on the command line: `data="digits", backbone="tiny", taps=["layer1", "pool"]`.

    Raises:
        UsageError: settings that do not fit, all of them at once.
        TlkitError: what stops it; nothing is left behind then.
    """
    from tlkit import config, validate, workflow

    composed, _ = config.compose("extract", {**settings, "out": str(out)})
    validate.check(workflow.extract, composed)
    return workflow.extract(**composed)


def summary(backbone: str | dict[str, Any], **settings: Any) -> Summary:  # noqa: ANN401
    """Do what `tlkit summary` does: print a network layer by layer, and return what was measured.

    Args:
        backbone: a name, or a mapping of a name and settings; its weights are not needed and not loaded.
        settings: as on the command line: `input_size=299, batch=64, out="FILE or FOLDER"`.

    Raises:
        UsageError: settings that do not fit, all of them at once.
        TlkitError: the network cannot take images of that size, or `out` cannot be written.
    """
    from tlkit import config, summaries, validate

    composed, _ = config.compose("summary", {"backbone": backbone, **settings})
    validate.check(summaries.summary, composed)
    return summaries.summary(**composed)


def _named(runs: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(runs)] if isinstance(runs, str | Path) else [str(run) for run in runs]
