"""Views: fixed augmented versions of an image; one image has the same ones in every run."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import PIL.Image
from PIL import ImageOps

from tlkit.data.preprocess import Preprocess, as_array
from tlkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PLAIN = "center"
_MIRROR, _RANDOM = "mirror-", "random-"
_CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
_FIVE = (PLAIN, *_CORNERS)
NAMED = {
    "flip": (PLAIN, _MIRROR + PLAIN),
    "five_crop": _FIVE,
    "ten_crop": (*_FIVE, *(_MIRROR + view for view in _FIVE)),
}
# Of torchvision's RandomResizedCrop; its smallest scale, 0.08, often shows nothing of what the image is of.
_SCALE, _RATIO = (0.35, 1.0), (3 / 4, 4 / 3)


def view_names(views: int | str, seed: int = 0) -> tuple[str, ...]:
    """Return the names of the views that a setting means; the first is always the plain one.

    Args:
        views: "flip" (2), "five_crop" (5), "ten_crop" (10), or how many: the plain view and random ones.
        seed: Of the random ones.

    Raises:
        UsageError: neither such a word nor a positive number.

    >>> view_names("flip"), view_names(3, seed=7)
    (('center', 'mirror-center'), ('center', 'random-7-1', 'random-7-2'))
    """
    if isinstance(views, str) and views in NAMED:
        return NAMED[views]
    if isinstance(views, int) and not isinstance(views, bool) and views > 0:
        return PLAIN, *(f"random-{seed}-{number}" for number in range(1, views))
    hint = did_you_mean(str(views), NAMED)
    raise UsageError(f"codes.views={views}: give a positive number, or one of {', '.join(NAMED)}.{hint}")


def view_pixels(preprocess: Preprocess, rgb: PIL.Image.Image, view: str, key: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of one view, (H, W, C) uint8; see `all_view_pixels`."""
    return all_view_pixels(preprocess, rgb, [view], key)[0]


def all_view_pixels(
    preprocess: Preprocess, rgb: PIL.Image.Image, views: Sequence[str], key: bytes
) -> list[npt.NDArray[np.uint8]]:
    """Return the pixels of several views of an image, (H, W, C) uint8 each; it is resized once for all that can share.

    Crops are taken as torchvision's FiveCrop and TenCrop take them, from the image as the preprocess resizes it;
    random ones as its RandomResizedCrop and RandomHorizontalFlip do, from the image itself.

    Args:
        preprocess: The network's.
        rgb: From `decode`.
        views: From `view_names`.
        key: The image's digest: each has random views of its own, which are always the same.
    """
    resized = preprocess.resize(rgb) if any(not view.startswith(_RANDOM) for view in views) else rgb
    return [
        as_array(
            _random_crop(preprocess, rgb, view, key) if view.startswith(_RANDOM) else _crop(preprocess, resized, view)
        )
        for view in views
    ]


def _crop(preprocess: Preprocess, resized: PIL.Image.Image, view: str) -> PIL.Image.Image:
    if view.startswith(_MIRROR):
        return _crop(preprocess, ImageOps.mirror(resized), view.removeprefix(_MIRROR))
    if view == PLAIN:
        return preprocess.crop(resized)
    _, height, width = preprocess.input_size
    large = _padded(preprocess, resized)
    left = (large.width - width) * view.endswith("right")
    top = (large.height - height) * view.startswith("bottom")
    return large.crop((left, top, left + width, top + height))


def _padded(preprocess: Preprocess, resized: PIL.Image.Image) -> PIL.Image.Image:
    """Put an image that is too small for a crop in the middle of one that is not, as the plain view does."""
    _, height, width = preprocess.input_size
    size = max(width, resized.width), max(height, resized.height)
    if size == resized.size:
        return resized
    fill = tuple(round(255 * value) if preprocess.crop_mode == "border" else 0 for value in preprocess.mean)
    padded = PIL.Image.new(resized.mode, size, fill if len(fill) > 1 else fill[0])
    padded.paste(resized, ((size[0] - resized.width) // 2, (size[1] - resized.height) // 2))
    return padded


def _random_crop(preprocess: Preprocess, rgb: PIL.Image.Image, view: str, key: bytes) -> PIL.Image.Image:
    seed = hashlib.sha256(view.encode() + b" " + key).digest()
    # Of all generators, Python promises for this one's random() that it stays what it is.
    draw = random.Random(int.from_bytes(seed)).random
    left, top, width, height = random_box(*rgb.size, draw)
    mirrored = draw() < 0.5
    part = rgb.crop((left, top, left + width, top + height)).convert(preprocess.mode)
    _, rows, columns = preprocess.input_size
    resized = part.resize((columns, rows), PIL.Image.Resampling[preprocess.interpolation.upper()])
    return ImageOps.mirror(resized) if mirrored else resized


def random_box(width: int, height: int, draw: Callable[[], float]) -> tuple[int, int, int, int]:
    """Draw left, top, width and height of a part of an image, by the rule of torchvision's RandomResizedCrop.

    Args:
        width: Of the image.
        height: Of the image.
        draw: Returns a number in 0 to 1, exclusive, each time.
    """
    for _ in range(10):
        area = width * height * _between(*_SCALE, draw())
        ratio = math.exp(_between(math.log(_RATIO[0]), math.log(_RATIO[1]), draw()))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            top = int(draw() * (height - high + 1))
            return int(draw() * (width - wide + 1)), top, wide, high
    # A very long image: as much of its middle as the largest ratio allows.
    wide = min(width, round(height * max(_RATIO)))
    high = min(height, round(width / min(_RATIO)))
    return (width - wide) // 2, (height - high) // 2, wide, high


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
