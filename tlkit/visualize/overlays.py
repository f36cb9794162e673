"""Grad-CAM over single images, for pages that are no figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch

from tlkit.classifier import Classifier
from tlkit.data import decode
from tlkit.errors import UsageError
from tlkit.visualize.attribution import class_scores, grad_cam, map_taps
from tlkit.visualize.pages import heat_picture

if TYPE_CHECKING:
    from tlkit.data import Image
    from tlkit.ensembles.ensemble import Ensemble


def overlays(
    classifier: Classifier | Ensemble, images: Sequence[Image], rows: Sequence[int], labels: Sequence[int]
) -> list[PIL.Image.Image]:
    """Return some images as the network sees them, with the evidence for a class laid over each.

    Args:
        classifier: nothing is drawn for a vote, a head without a gradient, or a network without maps.
        images: of which `rows` are drawn.
        rows: a few.
        labels: of each a position in `classifier.classes`.
    """
    if not isinstance(classifier, Classifier):
        return []
    try:
        scores, taps = class_scores(classifier), map_taps(classifier)
    except UsageError:
        return []
    preprocess, device = classifier.backbone.preprocess, next(classifier.backbone.module.parameters()).device
    pixels = [preprocess.pixels(decode(images[row])) for row in rows]
    batch = preprocess.normalise(torch.from_numpy(np.stack(pixels)).to(device))
    _, cams = grad_cam(classifier.backbone, scores, batch, np.asarray(labels), taps)
    return [PIL.Image.fromarray(heat_picture(own, cam)) for own, cam in zip(pixels, cams, strict=True)]
