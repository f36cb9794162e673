"""Stages: the ordered groups of layers that are frozen or trained together."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from tlkit.backbones.contract import Stage

if TYPE_CHECKING:
    from torch import nn


def find_stages(module: nn.Module) -> tuple[Stage, ...]:
    """Group the parameters outside the classifier by timm's coarse `group_matcher`, or else by block.

    >>> import timm
    >>> [stage.name for stage in find_stages(timm.create_model("resnet10t"))]
    ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    """
    excluded = classifier_parameters(module)
    groups = [[name for name in group if name not in excluded] for group in _groups(module)]
    groups = [group for group in groups if group]
    return tuple(Stage(name, tuple(group)) for name, group in zip(_labels(groups), groups, strict=True))


def classifier_parameters(module: nn.Module) -> set[str]:
    """Names of the classifier's parameters; a distilled network has two classifiers."""
    model: Any = module
    found = model.get_classifier()
    classifiers = found if isinstance(found, list | tuple) else [found]
    own = {id(parameter) for classifier in classifiers for parameter in classifier.parameters()}
    return {name for name, parameter in module.named_parameters() if id(parameter) in own}


def _groups(module: nn.Module) -> list[list[str]]:
    from timm.models import group_parameters

    model: Any = module
    try:
        matcher = model.group_matcher(coarse=True)
    except (AttributeError, AssertionError):  # this network has none, or no coarse one
        blocks: dict[str, list[str]] = {}
        for name, _ in module.named_parameters():
            blocks.setdefault(_block(name, 0), []).append(name)
        return list(blocks.values())
    groups = group_parameters(module, matcher)
    return [groups[number] for number in sorted(groups)]


def _block(name: str, shared: int) -> str:
    """The block that a parameter belongs to, below the `shared` names that all parameters have in front.

    >>> _block("encoder.blocks.3.mlp.weight", 1), _block("conv1.weight", 0), _block("cls_token", 0)
    ('encoder.blocks.3', 'conv1', 'cls_token')
    """
    parts = name.split(".")
    numbered = len(parts) > shared + 2 and parts[shared + 1].isdigit()
    return ".".join(parts[: shared + (2 if numbered else 1)])


def _labels(groups: list[list[str]]) -> list[str]:
    """Name each group by its blocks, or by their parent if that has no part in another group.

    >>> _labels([["conv.weight", "bn.weight"], ["layer1.0.weight", "layer1.1.weight"], ["blocks.0.a"], ["blocks.1.a"]])
    ['stem', 'layer1', 'blocks.0', 'blocks.1']
    """
    paths = [name.split(".")[:-1] for group in groups for name in group]
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False)))
    parents = [{_parent(name, shared) for name in group} for group in groups]
    labels: list[str] = []
    for group in groups:
        tops = [_parent(name, shared) for name in group]
        alone = {top for top in set(tops) if sum(top in other for other in parents) == 1}
        blocks = [top if top in alone else _block(name, shared) for top, name in zip(tops, group, strict=True)]
        labels.append(_unique(_join(list(dict.fromkeys(blocks)), first=not labels), labels))
    return labels


def _parent(name: str, shared: int) -> str:
    return ".".join(name.split(".")[: shared + 1])


def _join(blocks: list[str], first: bool) -> str:
    if len(blocks) > 1 and first:
        return "stem"
    return "+".join(blocks) if len(blocks) < 3 else f"{blocks[0]}..{blocks[-1]}"


def _unique(name: str, taken: list[str]) -> str:
    number = 2
    wanted = name
    while name in taken:
        name, number = f"{wanted}#{number}", number + 1
    return name
