"""Batches in parts, for when memory runs out: the gradients of the parts add up to those of the whole."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast, final

import torch
from torch import Tensor

from tlkit.codes.engines import is_out_of_memory
from tlkit.errors import TlkitError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FEWER = "Close other programs, take a smaller network, smaller images or more frozen stages."


@final
class Portion:
    """How many images run through the network at once; half as many whenever memory runs out, for good.

    Attributes:
        size: Images; None as long as every batch has fitted as it is.

    Args:
        what: What it is about, for the log.
        size: As above.
    """

    def __init__(self, what: str, size: int | None = None) -> None:
        self.what, self.size = what, size

    def __call__(self, images: int, least: int, run: Callable[[int], _T]) -> _T:
        """Return what `run` makes of a batch, given how many of its images may run at once.

        Args:
            images: Of the batch.
            least: How many have to run together.
            run: Begins from the start each time, and leaves nothing behind when memory runs out.

        Raises:
            TlkitError: There is not enough memory for `least` images.
        """
        while True:
            most = min(images, self.size or images)
            reason = ""
            try:
                return run(most)
            except (RuntimeError, MemoryError) as err:
                if not is_out_of_memory(err):
                    raise
                reason = str(err).strip().partition("\n")[0]
            # Here and not above: by now the exception has let go of what the pass had allocated.
            if most <= least:
                raise TlkitError(f"there is not enough memory for {self.what} of {most} images ({reason}). {_FEWER}")
            gc.collect()
            torch.cuda.empty_cache()
            self.size = max(least, most // 2)
            log.warning("out of memory: going on with %s of %d images at once", self.what, self.size)


def parts(images: int, most: int) -> Iterator[slice]:
    """Yield slices of a batch, as equal as can be, none of more than `most` images.

    >>> list(parts(7, 3))
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    count = -(-images // most)
    size, more = divmod(images, count)
    start = 0
    for part in range(count):
        end = start + size + (part < more)
        yield slice(start, end)
        start = end


def summed(losses: Iterable[Tensor], parameters: Sequence[Tensor], scale: Tensor | None = None) -> Tensor:
    """Return the sum of losses, whose gradients are worked out here, one loss after the other.

    The gradients of `parameters` come out when `backward` is called on the sum, as if it had been worked out at once;
    until then the parameters' own stay as they are.

    Args:
        losses: Made one by one; each lets go of its activations before the next is made.
        parameters: What has gradients.
        scale: What losses are multiplied by for the sake of gradients of half precision; the sum will be, too.
    """
    before = [parameter.grad for parameter in parameters]
    total: Tensor | None = None
    try:
        for parameter in parameters:
            parameter.grad = None
        for loss in losses:
            (loss if scale is None else loss * scale).backward(inputs=parameters)  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
            del loss
        gradients = [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
    return cast("Tensor", _Known.apply(total, scale, gradients, *parameters))


class _Known(torch.autograd.Function):
    """A loss whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, scale: Tensor | None, gradients: list[Tensor | None], *_: Tensor) -> Tensor:  # noqa: ANN401
        ctx.scale, ctx.gradients = scale, gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        factor = factor if ctx.scale is None else factor / ctx.scale
        given = ctx.gradients
        for number, gradient in enumerate(given):
            given[number] = None if gradient is None else gradient.mul_(factor)
        ctx.gradients = None  # so that autograd need not copy them
        return (None, None, None, *given)
