"""What a classifier bases its predictions on, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tlkit.codes.engines import check_settings
from tlkit.data import decode
from tlkit.progress import progress
from tlkit.visualize.attribution import class_scores, grad_cam, guided
from tlkit.visualize.pages import ROWS, ImageRow

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tlkit.backbones import Tap
    from tlkit.classifier import Classifier
    from tlkit.visualize.pictures import Pictures

Page = tuple[list[ImageRow], tuple[str, str], str]


def ordered(predictions: pd.DataFrame, truths: Sequence[str] | None) -> list[int]:
    """Return the rows of the readable images: wrong ones, the surest first, then the others, the least sure first."""
    readable = [row for row, name in enumerate(predictions["predicted"]) if isinstance(name, str)]

    def place(row: int) -> tuple[bool, float]:
        wrong = truths is not None and predictions["predicted"][row] != truths[row]
        sure = float(predictions["probability"][row])
        return not wrong, -sure if wrong else sure

    return sorted(readable, key=place)


def evidence(
    classifier: Classifier,
    pictures: Pictures,
    predictions: pd.DataFrame,
    rows: Sequence[int],
    taps: Sequence[Tap],
    device: str = "auto",
) -> Iterator[Page]:
    """Yield pages: rows, the titles of their columns, and a caption.

    Args:
        classifier: whose predictions they are.
        pictures: the images.
        predictions: of all of them, from `Classifier.predict`.
        rows: which to draw, in this order.
        taps: from `map_taps`; Grad-CAM takes the map of the first that has a gradient.
        device: a torch device, or "auto".

    Raises:
        UsageError: the head's score has no gradient.
    """
    classifier.backbone.module.to(check_settings(device=device))
    scores = class_scores(classifier)
    probabilities = predictions[[f"p({name})" for name in classifier.classes]].to_numpy()
    classes, preprocess = list(classifier.classes), classifier.backbone.preprocess
    with progress("looking for evidence", len(rows)) as advance:
        for start in range(0, len(rows), ROWS):
            some = list(rows[start : start + ROWS])
            pixels = np.stack([preprocess.pixels(decode(pictures.images[row])) for row in some])
            batch = preprocess.normalise(torch.from_numpy(pixels).to(scores.device))
            first = probabilities[some].argmax(axis=1)
            second = _others(
                probabilities[some],
                None if pictures.truths is None else [classes.index(pictures.truths[row]) for row in some],
            )
            taken, first_cams = grad_cam(classifier.backbone, scores, batch, first, taps)
            _, second_cams = grad_cam(classifier.backbone, scores, batch, second, [taken])
            signals, name = guided(classifier.backbone, scores, batch, first)
            told = [
                ImageRow(
                    file=str(predictions["file"][row]),
                    truth=None if pictures.truths is None else pictures.truths[row],
                    predicted=classes[first[number]],
                    probability=float(probabilities[row, first[number]]),
                    other=classes[second[number]],
                    other_probability=float(probabilities[row, second[number]]),
                    pixels=pixels[number],
                    cams=(first_cams[number], second_cams[number]),
                    guided=signals[number].transpose(1, 2, 0),
                )
                for number, row in enumerate(some)
            ]
            yield told, (f"Grad-CAM at {taken.name}", name), _caption(classifier, name)
            advance(len(some))


def _others(probabilities: NDArray[np.floating], labels: Sequence[int] | None) -> NDArray[np.int64]:
    """Return the class to compare with: the true one of a wrong prediction, and else the runner-up."""
    ranking = np.argsort(-probabilities, axis=1, kind="stable")
    if labels is None:
        return ranking[:, 1]
    return np.where(ranking[:, 0] == labels, ranking[:, 1], labels)


def _caption(classifier: Classifier, name: str) -> str:
    views: Any = classifier.recipe.get("views", 1)
    also = "" if views == 1 else " Probabilities are means over several views; the maps are of the plain one."
    head = type(classifier.head).__name__
    is_guided = name.startswith("guided")
    paper = "Guided backprop: Springenberg et al. 2015" if is_guided else "Plain saliency: Simonyan et al. 2014"
    return (
        f"Evidence for the score of a class ({head} on {' + '.join(classifier.taps)}), before the softmax. "
        "Grad-CAM: Selvaraju et al. 2017, each map in a scale of its own. "
        f"{paper}, of the predicted class.{also}"
    )
