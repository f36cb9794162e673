"""Grad-CAM over single images, for pages that are no figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch

from tlkit.classifier import Classifier
from tlkit.data import UnreadableImage, decode
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
        classifier: nothing is drawn for a vote, a head without a gradient, a network without maps, or images that are
            gone.
        images: of which `rows` are drawn.
        rows: a few.
        labels: of each a position in `classifier.classes`.
    """
    if not isinstance(classifier, Classifier):
        return []
    try:
        scores, taps = class_scores(classifier), map_taps(classifier)
        pixels = [classifier.backbone.preprocess.pixels(decode(images[row])) for row in rows]
    except (UsageError, UnreadableImage, OSError):
        return []
    drawn = []
    for own, label in zip(pixels, labels, strict=True):  # one by one: with its gradients a large network fills memory
        image = classifier.backbone.preprocess.normalise(torch.from_numpy(own[None]).to(scores.device))
        _, cams = grad_cam(classifier.backbone, scores, image, np.array([label]), taps)
        drawn.append(PIL.Image.fromarray(heat_picture(own, cams[0])))
    return drawn
