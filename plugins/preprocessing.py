"""From images to the input of networks that timm does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlkit.data import Preprocess


def imagenet(size: int = 224) -> Preprocess:
    """Return torchvision's way from an image to `size` x `size` pixels: the middle seven eighths, mean 0, variance 1.

    Papers before 2015 subtract the mean and leave pixels as large as they are; weights that are drawn for inputs of
    variance 1 are then drawn wrongly.
    """
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from tlkit.data import Preprocess

    return Preprocess((3, size, size), "bilinear", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, crop_pct=0.875)


def cifar() -> Preprocess:
    """Return one for whole images at 32 x 32 pixels, less the mean of CIFAR-10's colours."""
    from tlkit.data import Preprocess

    return Preprocess((3, 32, 32), "bilinear", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), crop_pct=1.0)
