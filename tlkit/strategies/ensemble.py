"""Several probes on one extraction, which vote: other backbones, other taps, other heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from tlkit import ranks, registry, validate
from tlkit.codes import ShareDone, compute_together, known_taps
from tlkit.ensembles.voting import Voting
from tlkit.errors import UsageError
from tlkit.progress import progress
from tlkit.strategies.linear_probe import linear_probe, refuse_random

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble
    from tlkit.strategies.resources import Resources

log = logging.getLogger(__name__)

HeadName = Literal["svm", "softmax", "ridge", "knn", "prototype"]


def ensemble(
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    *,
    backbones: list[str | dict[str, Any]] | None = None,
    taps: list[str | list[str]] | None = None,
    heads: list[HeadName] | None = None,
    voting: Voting = "soft",
    allow_random: bool = False,
) -> Ensemble:
    """Fit a linear probe for each backbone, tap and head, and let them vote (CS231n, "Model ensembles").

    Args:
        backbone: the first network; it is not changed.
        data: labelled images; only its train split is learned from.
        resources: what the run shares.
        backbones: more networks, by name or as settings: [resnet18, {name: vgg16, weights: FILE}].
        taps: where codes are taken; every backbone needs to have them. [pool] if not given.
        heads: kinds of heads. [svm] if not given.
        voting: "soft" (mean of the calibrated probabilities), "hard" (majority), "weighted", "greedy" or "stacking",
            fitted on out-of-fold probabilities.
        allow_random: let a backbone vote that has no pretrained weights.

    Raises:
        UsageError: one member only, no such backbone, tap or head.
        TlkitError: unreadable images with `data.on_error=raise`, or too few are left.
    """
    from tlkit.ensembles.making import make_ensemble

    wanted = taps or ["pool"]
    kinds: list[HeadName] = heads or ["svm"]
    if (1 + len(backbones or [])) * len(wanted) * len(kinds) < 2:
        raise UsageError(
            "strategy=ensemble: one member cannot vote. Give more backbones, strategy.backbones=[resnet18,vgg16], "
            "taps, strategy.taps=[…], or heads, strategy.heads=[svm,softmax]."
        )
    chosen = [_checked(settings) for settings in backbones or []]  # all of them, before the first is loaded
    networks = [backbone, *map(_built, chosen)]
    store = resources.store.staying()
    asks = []
    for network in networks:
        refuse_random(network, allow_random)
        known = [tap for one in wanted for tap in known_taps(network, one, "strategy.taps")]
        asks.append((store, network, list(dict.fromkeys(known))))
    compute_together(asks, data.images)
    if ranks.launched():
        raise ShareDone
    resources = replace(resources, store=store.alone())
    members, names = [], []
    for network, tap, kind in product(networks, wanted, kinds):
        members.append(linear_probe(network, data, resources, tap=tap, head=kind, allow_random=allow_random))
        names.append(_named(network, tap, kind, [len(networks), len(wanted), len(kinds)]))
    return make_ensemble(members, _distinct(names), voting, resources.seed)


def _checked(settings: str | Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = registry.choice_settings("backbone", settings) if isinstance(settings, str) else settings
    try:
        validate.check_plugin("backbone", chosen)
    except UsageError as err:
        raise UsageError(f"strategy.backbones: {err}") from err
    return chosen


def _built(chosen: Mapping[str, Any]) -> Backbone:
    with progress(f"loading {chosen['name']}"):
        built: Backbone = registry.build("backbone", chosen)
    return built


def _named(network: Backbone, tap: str | Sequence[str], kind: str, counts: Sequence[int]) -> str:
    """Name a member by what tells it from the others."""
    parts = [network.name, tap if isinstance(tap, str) else "+".join(tap), kind]
    return " ".join(part for part, count in zip(parts, counts, strict=True) if count > 1)


def _distinct(names: Sequence[str]) -> list[str]:
    return [f"{name} #{names[:at].count(name) + 1}" if names.count(name) > 1 else name for at, name in enumerate(names)]
