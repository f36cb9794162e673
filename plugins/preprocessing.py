"""From images to the input of networks that nobody has published weights for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlkit.data import Preprocess


def imagenet() -> Preprocess:
    """Return the usual one for 224 x 224 pixels: the middle of an image of 256, less the mean of ImageNet's colours."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from tlkit.data import Preprocess

    return Preprocess((3, 224, 224), "bilinear", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, crop_pct=0.875)


def cifar() -> Preprocess:
    """Return one for whole images at 32 x 32 pixels, less the mean of CIFAR-10's colours."""
    from tlkit.data import Preprocess

    return Preprocess((3, 32, 32), "bilinear", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), crop_pct=1.0)
