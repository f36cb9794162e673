"""A network in two: the frozen part up to a boundary, and the trained part, which goes on from what was kept there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tlkit.backbones import Tap, activations

if TYPE_CHECKING:
    from tlkit.training.network import Network

log = logging.getLogger(__name__)

_IMAGES = 5  # of the trial
_TRIES = 4  # parts that may be the boundary, from the last one back
_TOLERANCE = 1e-4  # relative; both ways multiply the same numbers


class NoSplit(Exception):
    """The trained part needs more than one tensor of the frozen part; the message says which was tried last."""


class _Reached(Exception):
    """The pass has come to something that is trained."""


@dataclass(frozen=True)
class Split:
    """Where a network can be begun.

    Attributes:
        tap: The output of the last frozen part, flattened as it is.
        shape: Of that output, for one image.
        channels_last: Whether it lies in memory that way.
        skipped: What does not run, in order, up to the tap: path of each frozen part, shape of its output for an image.
    """

    tap: Tap
    shape: tuple[int, ...]
    channels_last: bool
    skipped: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def width(self) -> int:
        """Numbers that are kept of an image."""
        return prod(self.shape)


@contextmanager
def begun(module: nn.Module, split: Split, kept: Tensor, input_size: tuple[int, int, int]) -> Iterator[Tensor]:
    """Let a pass over `module` begin behind the boundary: nothing that is frozen before it runs inside the block.

    Args:
        module: The backbone's.
        split: From `find_split`.
        kept: (n, *shape), the outputs at the boundary.
        input_size: Of the network.

    Yields:
        what stands in for the images, (n, *input_size): not a number, in no memory.
    """
    left = deque(split.skipped)

    def nothing(*shape: int) -> Tensor:
        return torch.full((), torch.nan, dtype=kept.dtype, device=kept.device).expand(len(kept), *shape)

    def stand_in(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> Any:  # noqa: ANN401
            if not left or left[0][0] != path:
                return forward(*args, **kwargs)
            _, shape = left.popleft()
            return nothing(*shape) if left else kept

        return call

    if split.channels_last:
        kept = kept.contiguous(memory_format=torch.channels_last)
    with ExitStack() as stack:
        for path in {path for path, _ in split.skipped}:
            part = module.get_submodule(path)
            stack.enter_context(_forwarding(part, stand_in(path, part.forward)))
        yield nothing(*input_size)


@contextmanager
def _forwarding(part: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = vars(part).get("forward")
    part.forward = forward
    try:
        yield
    finally:
        del part.forward
        if own is not None:
            part.forward = own


def find_split(network: Network) -> Split:
    """Find out where the network, frozen as it is now, can be begun, and make sure that it then computes the same.

    A copy is tried on noise: logits and the gradients of everything that is trained have to be those of the whole.

    Raises:
        NoSplit: it cannot be begun anywhere near what is trained.
    """
    trial = deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_IMAGES, *network.input_size, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    outputs = _frozen_outputs(trial, images)
    wanted = _answers(trial, images)
    for end in range(len(outputs), max(0, len(outputs) - _TRIES), -1):
        split = _split(outputs[:end])
        if _tells_the_same(trial, split, images, wanted):
            return split
    where = network.stages[network.first].name
    tried = f" ({outputs[-1][0]})" if outputs else ""
    raise NoSplit(f"{where} and what follows need more than the output of one part before them{tried}")


def _split(outputs: list[tuple[str, Tensor]]) -> Split:
    path, last = outputs[-1]
    # "NCHW" is the layout that is flattened as it is, whatever the dimensions mean.
    tap = Tap(path, path, last.shape[1], None, "NCHW")
    channels_last = last.ndim == 4 and not last.is_contiguous()
    skipped = tuple((path, tuple(output.shape[1:])) for path, output in outputs)
    return Split(tap, tuple(last.shape[1:]), channels_last, skipped)


def _frozen_outputs(network: Network, images: Tensor) -> list[tuple[str, Tensor]]:
    """Path and output of the outermost frozen parts that run before anything that is trained does, in order.

    Those that do not give a tensor with a row for each image, such as a table of position biases, are left to run.
    """
    found: list[tuple[str, Tensor]] = []
    inside: list[str] = []

    def leave(path: str, output: object) -> None:
        inside.pop()
        if not inside and isinstance(output, Tensor) and output.ndim > 1 and len(output) == len(images):
            found.append((path, output))

    def reach(*_: object) -> None:
        raise _Reached

    with ExitStack() as stack, torch.no_grad(), suppress(_Reached):
        for path, part in network.module.named_modules():
            if any(parameter.requires_grad for parameter in part.parameters(recurse=False)):
                stack.callback(part.register_forward_pre_hook(reach).remove)
            elif not any(parameter.requires_grad for parameter in part.parameters()):
                enter = part.register_forward_pre_hook(lambda *_, path=path: inside.append(path))
                stack.callback(enter.remove)
                stack.callback(part.register_forward_hook(lambda *a, path=path: leave(path, a[-1])).remove)
        network.eval()
        activations(network.module, images, [network.tap])
    return found


def _tells_the_same(network: Network, split: Split, images: Tensor, wanted: list[Tensor]) -> bool:
    try:
        with torch.no_grad():  # in eval mode, as the frozen pass runs
            flat = activations(network.eval().module, images, [split.tap], "flatten")[split.tap.name]
        network.split = split
        found = _answers(network, flat.reshape(-1, *split.shape))
    except Exception as err:  # networks fail in as many ways as they are written, when parts do not run
        log.debug("cannot begin at %s: %r", split.tap.name, err)
        return False
    finally:
        network.split = None
    return all(_gap(ours, theirs) <= _TOLERANCE for ours, theirs in zip(found, wanted, strict=True))


def _answers(network: Network, batch: Tensor) -> list[Tensor]:
    """Logits, and gradients of all that is trained, in training mode; dropout draws the same each time."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        logits = network.train()(batch)
        gradients = torch.autograd.grad(logits.square().mean(), learning, materialize_grads=True)
    return [logits.detach(), *gradients]


def _gap(found: Tensor, wanted: Tensor) -> float:
    gap = float(torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted).clamp(min=1e-12))
    return gap if gap == gap else float("inf")
