"""torch.compile of the network while it is trained; validation, and what comes of it, is as without."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

if TYPE_CHECKING:
    from tlkit.training.network import Network

log = logging.getLogger(__name__)


@contextmanager
def compiled(network: Network, *, compile: bool = False) -> Iterator[None]:
    """Let the network run compiled in training mode; where that fails it runs as it is, and a line says why.

    Args:
        network: Its parameters, buffers and their names stay as they are.
        compile: Whether to do so.
    """
    if compile and network.split is not None:
        log.info("trainer.compile=true: not done, for the frozen stages have run already, and only the rest runs now")
    elif compile and len(network.auxiliary):
        log.info("trainer.compile=true: not done, for auxiliary classifiers look into the network")
    elif compile:
        log.info("trainer.compile=true: the first step takes a minute or so")
        network.fast = _falling_back(network)
    try:
        yield
    finally:
        network.fast = None


def _falling_back(network: Network) -> Callable[[Tensor], Tensor]:
    fast: Callable[[Tensor], Tensor]
    fast = torch.compile(network.codes)

    def run(images: Tensor) -> Tensor:
        nonlocal fast
        try:
            return fast(images)
        except TorchDynamoException as err:  # before anything has run
            log.warning("trainer.compile=true: training goes on without, for torch.compile failed: %s", _reason(err))
            fast = network.codes
            return fast(images)

    return run


def _reason(err: Exception) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[0] if lines else type(err).__name__
