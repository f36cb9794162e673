"""At which rate each stage learns: a tenth of the rate that the backbone was originally trained at, as a start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from tlkit.backbones import Recipe
from tlkit.training.freezing import Policy, first_epoch

if TYPE_CHECKING:
    from torch import nn

    from tlkit.backbones import Backbone
    from tlkit.training.network import Network
    from tlkit.training.settings import Settings

FINE_TUNING = 0.1  # of the original rate (CS231n, "Transfer Learning")
NEW_HEAD = 10.0  # times the backbone's rate
NEW = "new head"  # beside the stages, of which one may be called "head"

# What networks of unknown history are taken to have been trained with, by their kind.
_RESNET = Recipe(optimizer="sgd", lr=0.1, batch_size=256, momentum=0.9, weight_decay=1e-4, schedule=None)
_VGG = Recipe(optimizer="sgd", lr=1e-2, batch_size=256, momentum=0.9, weight_decay=5e-4, schedule=None)
# DeiT (Touvron et al. 2020, 5e-4 for 512 images) and ConvNeXt (Liu et al. 2022, 4e-3 for 4,096) agree.
_DEIT = Recipe(optimizer="adamw", lr=1e-3, batch_size=1024, momentum=None, weight_decay=0.05, schedule="cosine")


@dataclass(frozen=True)
class Rates:
    """What an optimizer is made with.

    Attributes:
        optimizer: "sgd" or "adamw".
        momentum: Of sgd.
        weight_decay: Of what decays.
        stages: Learning rate of each stage.
        head: Learning rate of the head.
        exempt: Whether biases, norms and what the network itself names do not decay; the custom with AdamW.
    """

    optimizer: str
    momentum: float
    weight_decay: float
    stages: tuple[float, ...]
    head: float
    exempt: bool


def rates(backbone: Backbone, settings: Settings, images_a_step: int, *, scratch: bool = False) -> Rates:
    """Work out all rates from the backbone's original recipe and what the user says.

    Args:
        backbone: Its `recipe` is the original one; see `original_recipe` for those without.
        settings: Of the training.
        images_a_step: Of one step of the optimizer; the original rate is scaled linearly with it (Goyal et al. 2017).
        scratch: Train at the original rate, the head too.
    """
    recipe = original_recipe(backbone, settings.optimizer)
    original = cast("float", recipe.lr) * images_a_step / cast("int", recipe.batch_size)
    last = settings.lr or original * (1.0 if scratch else FINE_TUNING)
    n = len(backbone.stages)
    decay = recipe.weight_decay or 0.0
    return Rates(
        optimizer="adamw" if recipe.optimizer == "adamw" else "sgd",
        momentum=recipe.momentum or 0.9,
        weight_decay=decay if settings.weight_decay is None else settings.weight_decay,
        stages=tuple(last * settings.layer_decay ** (n - 1 - stage) for stage in range(n)),
        head=last if scratch else NEW_HEAD * last,
        exempt=recipe.optimizer == "adamw",
    )


def original_recipe(backbone: Backbone, optimizer: str = "auto") -> Recipe:
    """Return the recipe of the backbone, or for another optimizer, or where nothing is known, that of its kind.

    With BatchNorm that is ResNet's, without any normalisation VGG's, and otherwise that of DeiT and ConvNeXt. RMSprop's
    rates are taken for SGD, which those recipes follow with momentum as well.
    """
    usual = _of_its_kind(backbone.module)
    own = backbone.recipe or usual
    if optimizer == "adamw" and own.optimizer != "adamw":
        return _DEIT
    if optimizer == "sgd" and own.optimizer == "adamw":
        return usual if usual.optimizer == "sgd" else _RESNET
    if own.lr is None or own.batch_size is None:
        own = replace(own, lr=usual.lr, batch_size=usual.batch_size)
    return replace(own, weight_decay=usual.weight_decay) if own.weight_decay is None else own


def _of_its_kind(module: nn.Module) -> Recipe:
    kinds = {type(part).__name__ for part in module.modules()}
    if any("BatchNorm" in kind for kind in kinds):
        return _RESNET
    return _DEIT if any("Norm" in kind and "Identity" not in kind for kind in kinds) else _VGG


def parameter_groups(network: Network, rates: Rates) -> list[dict[str, Any]]:
    """Return a group or two for each stage, frozen or not, and for the head, as torch's optimizers take them.

    Auxiliary classifiers are new as the head is, and in its group.
    """
    parameters = dict(network.module.named_parameters())
    named = [[(name, parameters[name]) for name in stage.parameters] for stage in network.stages]
    named.append([(f"head.{name}", parameter) for name, parameter in network.head.named_parameters()])
    named[-1] += [(f"auxiliary.{name}", parameter) for name, parameter in network.auxiliary.named_parameters()]
    labels = [*(stage.name for stage in network.stages), NEW]
    spared = _spared(network.module)
    groups = []
    for label, lr, members in zip(labels, [*rates.stages, rates.head], named, strict=True):
        decaying: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in members:
            free = rates.exempt and (parameter.ndim < 2 or name in spared)
            (others if free else decaying).append(parameter)
        for chosen, decay in ((decaying, rates.weight_decay), (others, 0.0)):
            if chosen:
                groups.append({"name": label, "params": chosen, "lr": lr, "weight_decay": decay})
    return groups


def _spared(module: nn.Module) -> set[str]:
    """Return the names that timm's networks say should not decay, such as position embeddings."""
    named: Any = getattr(module, "no_weight_decay", set)
    return set(named())


def stage_table(network: Network, rates: Rates, policy: Policy) -> list[dict[str, Any]]:
    """Return a row for each stage and the head: stage, parameters, training ("frozen", "trained", ...) and lr."""
    sizes = {name: parameter.numel() for name, parameter in network.module.named_parameters()}
    rows = []
    for number, (stage, lr) in enumerate(zip(network.stages, rates.stages, strict=True)):
        since = first_epoch(policy, len(network.stages), number)
        state = "frozen" if since is None else f"from epoch {since + 1}" if since else "trained"
        count = sum(sizes[name] for name in stage.parameters)
        rows.append({"stage": stage.name, "parameters": count, "training": state, "lr": 0.0 if since is None else lr})
    new = (*network.head.parameters(), *network.auxiliary.parameters())
    count = sum(parameter.numel() for parameter in new)
    return [*rows, {"stage": NEW, "parameters": count, "training": "trained", "lr": rates.head}]
