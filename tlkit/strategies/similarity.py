"""How much new images are like those that a network was pretrained on, in two numbers that need no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tlkit.backbones import Backbone
    from tlkit.data import Image

FEWEST_CLASSES = 100  # of a classifier whose confidence says something: with two, a guess has 0.5
_BATCH = 16


def confidence(backbone: Backbone, pool: NDArray[np.float32]) -> float | None:
    """Return the mean over images of the largest probability that the pretrained classifier gives to any class.

    The maximum softmax probability tells images of a classifier's world from others (Hendrycks and Gimpel 2017); its
    mean over a data set tells how well the classifier does on it (Guillory et al. 2021).

    Args:
        backbone: Its classifier is used if it is one linear layer of at least `FEWEST_CLASSES` classes on the "pool"
            codes, as in nearly all of timm.
        pool: (n, d) codes at "pool".

    Returns:
        0 to 1; None without such a classifier or without images.
    """
    import torch
    from torch import nn

    module: Any = backbone.module
    layer = module.get_classifier()
    known = backbone.weights is not None and backbone.weights.num_classes >= FEWEST_CLASSES
    if not known or not isinstance(layer, nn.Linear) or layer.in_features != pool.shape[1] or not len(pool):
        return None
    with torch.inference_mode():
        probabilities = layer(torch.from_numpy(pool).to(layer.weight)).softmax(dim=1)
    return float(probabilities.amax(dim=1).mean())


def shift(backbone: Backbone, images: Sequence[Image]) -> float | None:
    """Return how far the statistics at the BatchNorm layers are from those of the pretraining images.

    At each layer the input has a mean m and a deviation s per channel over images and positions, and the layer
    remembers the mean and the deviation of the pretraining images. Their squared distance, (m - mean)² + (s -
    deviation)², is the 2-Wasserstein distance of two normal distributions; divided by the remembered variance (with the
    layer's eps), averaged over the channels of a layer and then over layers, its root is in units of the remembered
    deviations: 0 for the pretraining images themselves, about 1 where the typical channel is off by its whole width.
    AdaBN (Li et al. 2016) takes these statistics for what a domain is.

    Args:
        backbone: Nothing in it changes.
        images: Readable ones; some dozens are enough, for each has many positions.

    Returns:
        0 and up; None without images, or without BatchNorm that has learned statistics: where they were folded into
        the convolutions before, as in files for phones, all means are 0.
    """
    layers = [module for module in backbone.module.modules() if _has_learned(module)]
    if not layers or not len(images):
        return None
    sums: dict[nn.Module, Tensor] = {}
    with _watched(layers, sums):
        for start in range(0, len(images), _BATCH):
            _pass(backbone, images[start : start + _BATCH])
    found = [_distance(layer, *sums[layer]) for layer in layers if layer in sums]
    return float(np.sqrt(np.mean(found))) if found else None


def _has_learned(module: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    mean = module.running_mean if isinstance(module, _BatchNorm) else None
    return mean is not None and bool((mean != 0).any())


@contextmanager
def _watched(layers: Sequence[nn.Module], sums: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Add up count, sum and sum of squares, (3, C) float64, of what enters each layer."""
    import torch

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double().movedim(1, 0).flatten(1)
        moments = torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1), x.square().sum(1)])
        sums[layer] = sums[layer] + moments if layer in sums else moments

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer.register_forward_pre_hook(watch))
        yield


def _pass(backbone: Backbone, images: Sequence[Image]) -> None:
    import torch

    from tlkit.backbones import read_taps
    from tlkit.data import decode

    pixels = np.stack([backbone.preprocess.pixels(decode(image)) for image in images])
    batch = torch.from_numpy(pixels).to(next(backbone.module.parameters()).device)
    read_taps(backbone, backbone.preprocess.normalise(batch), ["pool"])


def _distance(layer: Any, count: Tensor, total: Tensor, squares: Tensor) -> float:  # noqa: ANN401
    """Return the mean over channels of the squared distance, in units of the variance that the layer remembers."""
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    remembered = layer.running_var.double()
    off = (mean - layer.running_mean.double()).square() + (deviation - remembered.sqrt()).square()
    return float((off / (remembered + layer.eps)).mean())
