"""What is frozen: a pure function of policy and epoch, and what it takes for a part of a network to stand still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from tlkit.backbones import Stage


@dataclass(frozen=True)
class Policy:
    """Which stages learn, and from when on.

    Attributes:
        first: The first stage that is ever trained; those before it stay frozen.
        every: Epochs after which one stage more is trained, from the last to the first, beginning with the head alone
            (gradual unfreezing, Howard and Ruder 2018); None for all at once.
    """

    first: int = 0
    every: int | None = None


def first_trained(policy: Policy, stages: int, epoch: int) -> int:
    """Return the first of `stages` stages that is trained in an epoch; `stages` if only the head is.

    >>> [first_trained(Policy(first=1, every=2), 4, epoch) for epoch in range(8)]
    [4, 4, 3, 3, 2, 2, 1, 1]
    """
    return policy.first if policy.every is None else max(policy.first, stages - epoch // policy.every)


def first_epoch(policy: Policy, stages: int, stage: int) -> int | None:
    """Return the epoch from which on a stage is trained; None for never.

    >>> [first_epoch(Policy(first=1, every=2), 4, stage) for stage in range(4)]
    [None, 6, 4, 2]
    """
    if stage < policy.first:
        return None
    return 0 if policy.every is None else (stages - stage) * policy.every


def freeze(
    module: nn.Module, stages: Sequence[Stage], first: int, input_size: tuple[int, int, int]
) -> tuple[nn.Module, ...]:
    """Let the stages from `first` on have gradients, and nothing else.

    Returns:
        The parts that have to be in eval mode for the rest to stand still: those whose parameters are all frozen (for
        their statistics), and those without parameters that only frozen ones feed (dropout behind an embedding).
    """
    trained = {name for stage in stages[first:] for name in stage.parameters}
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    known = {id(parameters[name]) for stage in stages for name in stage.parameters}  # so without the old classifier
    fed = _fed_by_trained(module, input_size, known)
    still = [part for part in module.modules() if _stands_still(part, known, fed)]
    return tuple(dict.fromkeys(inner for part in still for inner in part.modules()))


def _stands_still(part: nn.Module, known: set[int], fed: set[nn.Module]) -> bool:
    learns = [parameter.requires_grad for parameter in part.parameters() if id(parameter) in known]
    return not any(learns) if learns else part not in fed


def _fed_by_trained(module: nn.Module, input_size: tuple[int, int, int], known: set[int]) -> set[nn.Module]:
    """Return the parts without `known` parameters whose output has a gradient, as a pass over a black image tells."""
    import torch

    from tlkit.backbones.taps import evaluating

    fed: set[nn.Module] = set()

    def hook(part: nn.Module, _inputs: object, output: object) -> None:
        outputs = output if isinstance(output, list | tuple) else [output]
        if any(isinstance(item, torch.Tensor) and item.requires_grad for item in outputs):
            fed.add(part)

    bare = [part for part in module.modules() if not any(id(parameter) in known for parameter in part.parameters())]
    handles = [part.register_forward_hook(hook) for part in bare]
    try:
        weight = next(module.parameters())
        with torch.enable_grad(), evaluating(module):
            module(torch.zeros(1, *input_size, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return fed
