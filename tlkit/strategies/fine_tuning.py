"""Training goes on: from some stage on (`partial`), through everything (`full`), or from nothing (`scratch`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tlkit.errors import UsageError, did_you_mean
from tlkit.strategies.linear_probe import refuse_random
from tlkit.training import Policy, Settings
from tlkit.training.settings import with_settings

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier
    from tlkit.data import ImageData
    from tlkit.strategies.resources import Resources


@with_settings
def partial(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    train_from: str | None = None,
    train_last: int | None = None,
    unfreeze_every: int | None = None,
    head_init: Literal["probe", "random"] = "probe",
    allow_random: bool = False,
    **settings: Any,  # noqa: ANN401
) -> Classifier:
    """Train the last stages of the backbone and a new head; the stages below stay as they are, statistics and all.

    Args:
        backbone: the network; it is not changed.
        data: labelled images; the train split is learned from.
        resources: what the run shares.
        train_from: the first stage that is trained.
        train_last: or how many stages are trained, counted from the end; 1 if neither is given.
        unfreeze_every: epochs after which one stage more is trained, beginning with the head alone.
        head_init: "probe" starts from the cross-validated linear probe (LP-FT, Kumar et al. 2022).
        allow_random: go on from a backbone that has no pretrained weights.
        settings: the fields of `tlkit.training.Settings`.

    Raises:
        UsageError: no such stage, or a setting makes no sense.
        TlkitError: no pretrained weights, or too few images.
    """
    from tlkit.strategies.fitting import fit

    refuse_random(backbone, allow_random)
    policy = Policy(_first(backbone, train_from, train_last), _checked(unfreeze_every))
    return fit("partial", backbone, data, resources, policy, Settings(**settings), probe=head_init == "probe")


@with_settings
def full(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    unfreeze_every: int | None = None,
    head_init: Literal["probe", "random"] = "probe",
    allow_random: bool = False,
    **settings: Any,  # noqa: ANN401
) -> Classifier:
    """Train the whole backbone, at a tenth of its original learning rate, and a new head.

    Args:
        backbone: the network; it is not changed.
        data: labelled images; the train split is learned from.
        resources: what the run shares.
        unfreeze_every: epochs after which one stage more is trained, beginning with the head alone; None: all at once.
        head_init: "probe" starts from the cross-validated linear probe (LP-FT, Kumar et al. 2022).
        allow_random: go on from a backbone that has no pretrained weights.
        settings: the fields of `tlkit.training.Settings`.

    Raises:
        UsageError: a setting makes no sense.
        TlkitError: no pretrained weights, or too few images.
    """
    from tlkit.strategies.fitting import fit

    refuse_random(backbone, allow_random)
    policy = Policy(0, _checked(unfreeze_every))
    return fit("full", backbone, data, resources, policy, Settings(**settings), probe=head_init == "probe")


@with_settings
def scratch(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    **settings: Any,  # noqa: ANN401
) -> Classifier:
    """Train the architecture from random weights at its original learning rate: what pretraining has to beat.

    Args:
        backbone: the network whose architecture is taken.
        data: labelled images; the train split is learned from.
        resources: what the run shares.
        settings: the fields of `tlkit.training.Settings`.

    Raises:
        UsageError: a setting makes no sense.
        TlkitError: too few images.
    """
    from tlkit.strategies.fitting import fit, reborn

    fresh = reborn(backbone, resources.seed)
    return fit("scratch", fresh, data, resources, Policy(), Settings(**settings), probe=False)


def _first(backbone: Backbone, train_from: str | None, train_last: int | None) -> int:
    """Return the number of the first stage that is trained."""
    names = [stage.name for stage in backbone.stages]
    if train_from is not None and train_last is not None:
        raise UsageError("strategy.train_from and strategy.train_last say the same in two ways: give one of them.")
    if train_from is not None:
        if train_from not in names:
            known = f"{did_you_mean(train_from, names)} Stages: {', '.join(names)}."
            raise UsageError(f"strategy.train_from={train_from}: {backbone.name} has no such stage.{known}")
        return names.index(train_from)
    last = 1 if train_last is None else train_last
    if not 0 < last <= len(names):
        raise UsageError(
            f"strategy.train_last={last}: {backbone.name} has {len(names)} stages; give 1 to {len(names)}."
        )
    return len(names) - last


def _checked(unfreeze_every: int | None) -> int | None:
    if unfreeze_every is not None and unfreeze_every < 1:
        raise UsageError(f"strategy.unfreeze_every={unfreeze_every}: give a number of epochs, at least 1.")
    return unfreeze_every
