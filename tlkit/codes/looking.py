"""What images are and what they show: read, and decoded if that is wanted, in threads or in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.data import Image, UnreadableImage, content, decode
from tlkit.data.imagedata import LazyImages
from tlkit.data.views import PLAIN, all_view_pixels

if TYPE_CHECKING:
    import PIL.Image
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
    decoded: bool = False


class Prepared:
    """Pixels of images for several networks, all made when the image is decoded for the first of them.

    Args:
        networks: The preprocess of each, and what says which views of an image it wants.
    """

    def __init__(self, networks: Sequence[tuple[Preprocess, Callable[[bytes], Views]]]) -> None:
        self._networks = networks
        self._pixels: dict[tuple[Preprocess, bytes], NDArray[np.uint8]] = {}

    def make(self, key: bytes, image: PIL.Image.Image) -> None:
        """Keep what any of the networks wants of a decoded image."""
        for preprocess, wanted in self._networks:
            views = {own: view for own, view in wanted(key).items() if (preprocess, own) not in self._pixels}
            pixels = all_view_pixels(preprocess, image, list(views.values()), key)
            self._pixels.update(zip(((preprocess, own) for own in views), pixels, strict=True))

    def take(self, preprocess: Preprocess, views: Views) -> dict[bytes, NDArray[np.uint8]] | None:
        """Return the pixels of some views for a network; None unless all are there."""
        found = {own: self._pixels.get((preprocess, own)) for own in views}
        return None if any(pixels is None for pixels in found.values()) else found  # type: ignore[return-value]


def identity_of(images: Sequence[Image], row: int) -> Any:  # noqa: ANN401
    """Return what an image is known by as long as it does not change; None if nothing tells."""
    if isinstance(images, LazyImages):
        return images.identity(row)
    image = images[row]
    try:
        status = image.stat() if isinstance(image, Path) else None
    except OSError:
        status = None
    if status is None:
        return None
    return image, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def view_key(key: bytes, view: str) -> bytes:
    """Return the key of one view of an image; that of the plain view is the image's own."""
    return key if view == PLAIN else sha256(key + view.encode()).digest()


def look(
    images: Sequence[Image],
    row: int,
    preprocess: Preprocess,
    wanted: Callable[[bytes], Views],
    key: bytes | None,
    prepared: Prepared | None = None,
) -> Look:
    """Find out what an image is, and decode it if some of its views are wanted. Safe in threads.

    Args:
        images: Where it is one of.
        row: Which.
        preprocess: The network's.
        wanted: Says which views of an image are wanted.
        key: Of the image, if it is known; if the image is another by now, that is an error.
        prepared: For several networks.
    """
    try:
        known, data = key, None
        if known is None:
            known, data = content(images[row])
        views = wanted(known)
        if not views:
            return Look(known)
        if prepared and (made := prepared.take(preprocess, views)):
            return Look(known, None, made)
        if data is None:
            now, data = content(images[row])
            if now != known:
                raise UnreadableImage("it changed while it was read")
        image = decode(data)
        if prepared:
            prepared.make(known, image)
            if made := prepared.take(preprocess, views):
                return Look(known, None, made, decoded=True)
        pixels = all_view_pixels(preprocess, image, list(views.values()), known)
    except (UnreadableImage, OSError) as err:
        return Look(b"", str(err))
    return Look(known, None, dict(zip(views, pixels, strict=True)), decoded=True)


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
            yield Look(key, error, {name: next(parts) for name in views}, decoded=bool(views))


def _packed(looks: Sequence[Look]) -> tuple[list[tuple[bytes, str | None, list[bytes]]], Any]:
    """Put the pixels of all views into one tensor, which takes one piece of shared memory."""
    import torch

    pixels = [pixels for each in looks for pixels in each.views.values()]
    stacked = torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, dtype=torch.uint8)
    return [(each.key, each.error, list(each.views)) for each in looks], stacked
