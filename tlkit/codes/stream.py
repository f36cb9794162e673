"""Ordered streams: images are decoded in threads beside the network, and memory stays bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.codes.engines import Engine

_T = TypeVar("_T")
_Tag = TypeVar("_Tag")


def ahead(function: Callable[[int], _T], n: int, workers: int, most: int) -> Generator[_T, None, None]:
    """Yield function(0), ..., function(n - 1) in order, computed in threads at most `most` ahead.

    An exception of the function is raised at its turn. Closing the generator drops what has not been started.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    waiting = deque(pool.submit(function, row) for row in range(min(n, most)))
    try:
        for row in range(n):
            result = waiting.popleft().result()
            if row + most < n:
                waiting.append(pool.submit(function, row + most))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def forward(
    engine: Engine, items: Iterable[tuple[_Tag, NDArray[np.uint8]]]
) -> Generator[tuple[list[_Tag], dict[str, NDArray[np.float32]]], None, None]:
    """Run the pixels of items through a network, in order, `engine.batch_size` at a time.

    The network runs in a thread of its own, so that the next batch is put together, and the last one stored, meanwhile.

    Args:
        engine: The network.
        items: A tag, which comes back with the codes, and pixels, (H, W, C) uint8.

    Yields:
        The tags of a batch, and tap → float32 (b, d). The last batch may be short.
    """
    running: deque[tuple[list[_Tag], Future[dict[str, NDArray[np.float32]]]]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="network")
    try:
        for tags, pixels in _batches(engine, items):
            running.append((tags, pool.submit(engine, pixels)))
            if len(running) > 1:
                tags, codes = running.popleft()
                yield tags, codes.result()
        for tags, codes in running:
            yield tags, codes.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    engine: Engine, items: Iterable[tuple[_Tag, NDArray[np.uint8]]]
) -> Iterator[tuple[list[_Tag], NDArray[np.uint8]]]:
    tags: list[_Tag] = []
    batch: list[NDArray[np.uint8]] = []
    for tag, pixels in items:
        tags.append(tag)
        batch.append(pixels)
        if len(batch) >= engine.batch_size:  # asked each time: it shrinks when memory runs out
            yield tags, np.stack(batch)
            tags, batch = [], []
    if batch:
        yield tags, np.stack(batch)
