"""Small pictures that are part of a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import PIL.Image

from tlkit.data import Image, UnreadableImage, decode
from tlkit.data.images import open_bytes

SIDE = 160
_SHARP = 64  # pixels of a side up to which JPEG would blur what is there


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as an address that holds it whole.

    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def thumbnails(images: Sequence[Image]) -> list[str | None]:
    """Return each image as the address of a small picture of it; None if it cannot be read (any more)."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda row: _thumbnail(images, row), range(len(images))))


def _thumbnail(images: Sequence[Image], row: int) -> str | None:
    try:
        rgb = _opened(images[row])
    except (UnreadableImage, OSError):
        return None
    scale = SIDE / max(rgb.size)
    if scale < 1:
        rgb = rgb.resize((max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))), reducing_gap=2.0)
    small = PIL.Image.new("RGB", rgb.size)  # nothing but pixels: no comment, no profile
    small.paste(rgb)
    buffer, sharp = BytesIO(), max(rgb.size) <= _SHARP
    small.save(buffer, "PNG" if sharp else "JPEG", quality=80)
    return data_uri(buffer.getvalue(), "png" if sharp else "jpeg")


def _opened(image: Image) -> PIL.Image.Image:
    if not isinstance(image, Path):
        return decode(image)
    with open_bytes(image.read_bytes()) as opened:
        opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG of a camera opens eight times as fast
        return decode(opened)
