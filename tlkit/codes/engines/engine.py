"""What every engine is: a function over one batch, with splitting, and halving when memory runs out, around it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from tlkit.errors import TlkitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Run: TypeAlias = "Callable[[NDArray[np.uint8], int], Sequence[NDArray[np.float32]]]"
# What torch on a GPU and on a CPU, C++ and OpenVINO say.
_NO_MEMORY = (
    *("out of memory", "not enough memory", "DefaultCPUAllocator", "bad_alloc", "Failed to allocate"),
    "STATUS_ALLOC_FAILED",  # cuDNN and cuBLAS
)


@final
class Engine:
    """A frozen network with its taps, ready to run; not for two threads at once.

    Attributes:
        name: "openvino" or "torch".
        version: Changes when the numbers may: part of the key under which codes are kept.
        batch_size: How many images it likes to get at once; becomes less when memory runs out.

    Args:
        name: As above.
        version: As above.
        taps: Names.
        batch_size: As above.
        run: From (b, H, W, C) uint8 and the batch size, which b does not exceed, to (b, d) float32 for each tap.
    """

    def __init__(self, name: str, version: str, taps: Sequence[str], batch_size: int, run: Run) -> None:
        self.name = name
        self.version = version
        self.batch_size = batch_size
        self._taps = tuple(taps)
        self._run = run

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Compute the codes of (b, H, W, C) pixels, any b ≥ 1: tap → (b, d), in the order asked for.

        Raises:
            TlkitError: there is not enough memory for even one image.
        """
        parts: list[Sequence[NDArray[np.float32]]] = []
        done = 0
        while done < len(pixels):
            part = self._tried(pixels[done : done + self.batch_size])
            if part is None:
                self.batch_size //= 2
                log.warning("out of memory: going on with batches of %d", self.batch_size)
                continue
            parts.append(part)
            done += len(part[0])
        return {tap: np.concatenate(rows) for tap, rows in zip(self._taps, zip(*parts, strict=True), strict=True)}

    def _tried(self, pixels: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]] | None:
        """The codes of one batch, or None if there was not enough memory for them."""
        try:
            return self._run(pixels, self.batch_size)
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            if self.batch_size == 1:
                raise TlkitError(
                    f"there is not enough memory to run the network on a single image ({_reason(err)}). "
                    "Close other programs, take a smaller network, or another codes.device."
                ) from err
        return None  # here and not above: by now the exception has let go of what the pass had allocated


def _reason(err: BaseException) -> str:
    """The line of a long message that says it."""
    return next(
        (line.strip(" .") for line in str(err).splitlines() if any(sign in line for sign in _NO_MEMORY)), repr(err)
    )


def is_out_of_memory(err: BaseException) -> bool:
    """Tell whether memory ran out, on a GPU or in the main memory.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")), is_out_of_memory(ValueError())
    (True, False)
    """
    return isinstance(err, MemoryError) or any(sign in str(err) for sign in _NO_MEMORY)


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
