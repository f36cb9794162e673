"""Augmentation: torchvision's transforms on the decoded image; they end at the size that the network takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from tlkit.data import content, decode
from tlkit.data.preprocess import as_array
from tlkit.data.views import PLAIN, view_pixels

if TYPE_CHECKING:
    from tlkit.data import Image, Preprocess
    from tlkit.training.settings import Settings

Load = Callable[["Image"], Tensor]
"""From an image to pixels (H, W, C) uint8."""

# The smallest scale of ImageNet recipes, 0.08, often shows nothing of what a small data set is about.
_SCALE = (0.35, 1.0)


def plain(preprocess: Preprocess) -> Load:
    """Return what prepares an image for validation, as for every prediction."""
    return partial(_prepared, preprocess, None, None, None)


def augmented(preprocess: Preprocess, settings: Settings, views: Sequence[str] = (PLAIN,)) -> Load:
    """Return what prepares an image for training; it draws from torch's generator of the CPU only."""
    kind, strength = settings.augment, settings.color_jitter
    if kind == "views":
        return partial(_one_view, preprocess, views)
    cropping = kind not in ("none", "flip")
    mode = InterpolationMode(preprocess.interpolation)
    crop = v2.RandomResizedCrop(preprocess.input_size[1:], scale=_SCALE, interpolation=mode) if cropping else None
    steps = [
        *([v2.RandomHorizontalFlip()] if kind not in ("none", "crop") else []),
        *([v2.RandAugment()] if kind == "randaugment" else []),
        *([v2.TrivialAugmentWide()] if kind == "trivialaugment" else []),
        *([v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)] if strength else []),
    ]
    erase = None
    if settings.random_erasing:
        mean = [round(255 * value) for value in preprocess.mean]
        erase = v2.RandomErasing(settings.random_erasing, value=mean)
    return partial(_prepared, preprocess, crop, v2.Compose(steps) if steps else None, erase)


def drawn(views: int) -> int:
    """Draw the number of a view."""
    return int(torch.randint(views, ()))


def _one_view(preprocess: Preprocess, views: Sequence[str], image: Image) -> Tensor:
    key, data = content(image)
    rgb = decode(data)
    return torch.from_numpy(view_pixels(preprocess, rgb, views[drawn(len(views))], key))


def _prepared(preprocess: Preprocess, crop: Any, steps: Any, erase: Any, original: Image) -> Tensor:  # noqa: ANN401
    """Crop (as for predictions if `crop` is None), then the other steps, then erase; None leaves a step out."""
    rgb = decode(original)
    image = preprocess.crop(preprocess.resize(rgb)) if crop is None else crop(rgb)
    image = image if steps is None else steps(image)
    image = image if image.mode == preprocess.mode else image.convert(preprocess.mode)
    pixels = torch.from_numpy(as_array(image))
    if erase is not None:
        pixels = erase(pixels.permute(2, 0, 1)).permute(1, 2, 0)
    return pixels
