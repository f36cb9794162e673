"""What images are and what they show: read, and decoded if that is wanted, in threads or in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.data import Image, UnreadableImage, content, decode
from tlkit.data.views import PLAIN, all_view_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.data import Preprocess

Views = Mapping[bytes, str]
"""Names of views by the key of their codes."""

_MOST, _TOGETHER = 16, 32  # processes, and images that come from one at once


@dataclass(frozen=True)
class Look:
    """The key of an image, or why it cannot be read; the pixels of its views that were wanted, (H, W, C) uint8."""

    key: bytes
    error: str | None = None
    views: Mapping[bytes, NDArray[np.uint8]] = field(default_factory=dict)


def view_key(key: bytes, view: str) -> bytes:
    """Return the key of one view of an image; that of the plain view is the image's own."""
    return key if view == PLAIN else sha256(key + view.encode()).digest()


def look(
    images: Sequence[Image], row: int, preprocess: Preprocess, wanted: Callable[[bytes], Views], key: bytes | None
) -> Look:
    """Find out what an image is, and decode it if some of its views are wanted. Safe in threads.

    Args:
        images: Where it is one of.
        row: Which.
        preprocess: The network's.
        wanted: Says which views of an image are wanted.
        key: Of the image, if it is known; if the image is another by now, that is an error.
    """
    try:
        known, data = key, None
        if known is None:
            known, data = content(images[row])
        views = wanted(known)
        if not views:
            return Look(known)
        if data is None:
            now, data = content(images[row])
            if now != known:
                raise UnreadableImage("it changed while it was read")
        pixels = all_view_pixels(preprocess, decode(data), list(views.values()), known)
    except (UnreadableImage, OSError) as err:
        return Look(b"", str(err))
    return Look(known, None, dict(zip(views, pixels, strict=True)))


def again(images: Sequence[Image], preprocess: Preprocess, row: int, key: bytes, views: Views) -> Look:
    """Decode some views of an image whose key is known."""
    return look(images, row, preprocess, lambda _: views, key)


def in_processes(
    images: Sequence[Image], preprocess: Preprocess, todo: Sequence[tuple[int, bytes, Views]], processes: int
) -> Iterator[Look]:
    """Yield looks at images in order: row, key and views of each. Threads share one interpreter, processes do not.

    Beside a GPU that is what counts: 16 threads decoded 400 images a second where 16 processes decoded 1,100.
    """
    from torch.utils.data import DataLoader, Dataset

    class Looks(Dataset[Look]):
        def __len__(self) -> int:
            return len(todo)

        def __getitem__(self, number: int) -> Look:
            return again(images, preprocess, *todo[number])

    loader: Any = DataLoader(
        Looks(), _TOGETHER, num_workers=min(processes, _MOST), collate_fn=_packed, multiprocessing_context="fork"
    )
    for keys, pixels in loader:
        parts = iter(pixels.numpy())
        for key, error, views in keys:
            yield Look(key, error, {name: next(parts) for name in views})


def _packed(looks: Sequence[Look]) -> tuple[list[tuple[bytes, str | None, list[bytes]]], Any]:
    """Put the pixels of all views into one tensor, which takes one piece of shared memory."""
    import torch

    pixels = [pixels for each in looks for pixels in each.views.values()]
    stacked = torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8)
    return [(each.key, each.error, list(each.views)) for each in looks], stacked
