"""The frozen pass: images in, pooled activations of any number of taps out."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tlkit.data import Image, Preprocess, UnreadableImage, decode
from tlkit.errors import TlkitError, UsageError, some
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone

log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Codes:
    """Codes of n images at some taps.

    Attributes:
        values: tap name to float32 (n, d); the rows of unreadable images are NaN (d is 0 if all are).
        errors: row to the reason why its image could not be read.
    """

    values: dict[str, NDArray[np.float32]]
    errors: dict[int, str]

    def require_all(self, images: Sequence[Image]) -> None:
        """Stop unless each of the images could be read.

        Raises:
            TlkitError: with the images that could not, and why.
        """
        if self.errors:
            raise TlkitError(f"cannot read {some([f'{images[row]} ({why})' for row, why in self.errors.items()])}.")

    def concatenated(self) -> NDArray[np.float32]:
        """Join the taps side by side: float32 (n, sum of d)."""
        return np.concatenate(list(self.values.values()), axis=1)


def extract(
    backbone: Backbone,
    images: Sequence[Image],
    taps: Sequence[str],
    *,
    batch_size: int = 32,
    device: str = "auto",
    workers: int | None = None,
) -> Codes:
    """Run the backbone, frozen, once over the images and pool the activations at all `taps`.

    Threads decode and resize beside the network; at most four batches are in memory.

    Args:
        backbone: the network; its own preprocess is used.
        images: n paths or PIL images.
        taps: names of taps of the backbone.
        batch_size: images a forward pass.
        device: a torch device, or "auto": a GPU if there is one.
        workers: decoding threads; as many as processors when None.

    Raises:
        UsageError: the device does not exist, or a number is not positive.
    """
    place = check_settings(batch_size=batch_size, device=device, workers=workers)
    started = time.perf_counter()
    values: dict[str, NDArray[np.float32]] = {}
    errors: dict[int, str] = {}
    with progress(f"codes of {backbone.name}", len(images)) as advance:
        for rows, batch in _batches(images, backbone.preprocess, batch_size, workers, errors):
            for tap, pooled in _forward(backbone, batch, taps, place).items():
                if tap not in values:
                    values[tap] = np.full((len(images), pooled.shape[1]), np.nan, dtype=np.float32)
                values[tap][rows] = pooled
            advance(len(rows))
    if not values:  # not one image could be read
        values = {tap: np.full((len(images), 0), np.nan, dtype=np.float32) for tap in taps}
    seconds = time.perf_counter() - started
    log.info(
        "%d images through %s in %.1f s (%.0f images/s)", len(images), backbone.name, seconds, len(images) / seconds
    )
    return Codes(values, errors)


def known_taps(backbone: Backbone, taps: str | Sequence[str], key: str) -> list[str]:
    """Return the taps that a setting called `key` names, as a list.

    Raises:
        UsageError: the backbone has no such tap, one is named twice, or none is named.
    """
    wanted = [taps] if isinstance(taps, str) else list(taps)
    for tap in wanted:
        try:
            backbone.tap(tap)
        except UsageError as err:
            raise UsageError(f"{key}={tap}: {err}") from err
    if not wanted or len({*wanted}) < len(wanted):
        raise UsageError(f"{key}={wanted}: name at least one tap, and each once.")
    return wanted


def check_settings(*, batch_size: int = 32, device: str = "auto", workers: int | None = None) -> str:
    """Check the settings of `extract`, and return the torch device that they mean.

    Raises:
        UsageError: a number is not positive, or this machine does not have the device.
    """
    import torch

    if batch_size < 1 or (workers is not None and workers < 1):
        raise UsageError(f"codes.batch_size={batch_size}, codes.workers={workers}: give positive numbers.")

    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator.type if accelerator else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:  # torch asserts that it was compiled with CUDA
        raise UsageError(f"codes.device={device}: not available here: {str(err).splitlines()[0]}") from err
    return device


def _forward(
    backbone: Backbone, batch: list[NDArray[np.uint8]], taps: Sequence[str], device: str
) -> dict[str, NDArray[np.float32]]:
    import torch

    from tlkit.backbones import read_taps

    pixels = torch.from_numpy(np.stack(batch)).to(device)
    backbone.module.to(device)
    pooled = read_taps(backbone, backbone.preprocess.normalise(pixels), taps)
    return {tap: values.float().cpu().numpy() for tap, values in pooled.items()}


def _batches(
    images: Sequence[Image],
    preprocess: Preprocess,
    batch_size: int,
    workers: int | None,
    errors: dict[int, str],
) -> Iterator[tuple[list[int], list[NDArray[np.uint8]]]]:
    """Yield rows and pixels of the readable images; note the others in `errors`."""

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            return preprocess.pixels(decode(images[row]))
        except UnreadableImage as err:
            return str(err)

    rows: list[int] = []
    batch: list[NDArray[np.uint8]] = []
    for row, pixels in enumerate(_ahead(read, len(images), workers or os.cpu_count() or 1, 4 * batch_size)):
        if isinstance(pixels, str):
            errors[row] = pixels
            continue
        rows.append(row)
        batch.append(pixels)
        if len(batch) == batch_size:
            yield rows, batch
            rows, batch = [], []
    if batch:
        yield rows, batch


def _ahead(function: Callable[[int], _T], n: int, workers: int, most: int) -> Iterator[_T]:
    """Yield function(0), ..., function(n - 1) in order, computed in threads at most `most` ahead."""
    pool = ThreadPoolExecutor(workers)
    waiting = deque(pool.submit(function, row) for row in range(min(n, most)))
    try:
        for row in range(n):
            result = waiting.popleft().result()
            if row + most < n:
                waiting.append(pool.submit(function, row + most))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
