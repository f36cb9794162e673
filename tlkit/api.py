"""The commands as Python functions."""

from pathlib import Path
from typing import Any

from tlkit.classifier import Classifier
from tlkit.ensembles import Ensemble, load_classifier
from tlkit.runs import MODEL, find
from tlkit.workflow import Run


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
