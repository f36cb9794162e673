"""The nearest class mean on CNN codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.heads.affine_head import AffineHead, AffineModels
from tlkit.heads.linear import Affine
from tlkit.heads.moments import class_moments
from tlkit.heads.scaling import column_weights
from tlkit.heads.selection import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tlkit.heads.moments import Moments

    Matrix = NDArray[np.float64]


class Prototype(AffineHead):
    """Nearest class mean (Mensink et al. 2013, "Distance-based image classification: generalizing to new classes").

    The score of class c is -|x - mean_c|^2 / (2 s^2), where s^2 is the variance inside the classes, averaged over
    them and the dimensions. |x|^2 is the same for all classes, so that the scores are kept as an affine map: equal to
    these up to a number that a row's classes share, which makes their sum 0.

    Args:
        scale: See `Head`, as are class_weight, parts, cv, random_state and what there is after a fit.
        class_weight: All classes count alike whatever their size, so that "auto", "balanced" and None are the same
            here; a dict adds the logarithm of a class's weight to its score.
        cv: Number of folds, for the scaling and the temperature.
        random_state: Seed of the folds.

    Attributes:
        coef_: (k, d) float32 and `intercept_` (k,): see `AffineHead`.

    >>> codes = np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]], dtype=np.float32)
    >>> Prototype(cv=2).fit(codes, ["cat", "cat", "dog", "dog"]).predict(codes[:1])
    array(['cat'], dtype='<U3')
    """

    def __init__(
        self,
        *,
        scale: str = "standard",
        class_weight: str | Mapping[Any, float] | None = "auto",
        parts: Sequence[int] | None = None,
        cv: int = 5,
        random_state: int = 0,
    ) -> None:
        self.scale = scale
        self.class_weight = class_weight
        self.parts = parts
        self.cv = cv
        self.random_state = random_state

    def _default_grid(self, training: Training) -> list[float]:
        return [0.0]  # nothing to choose

    def _models(
        self,
        training: Training,
        grid: Sequence[float],
        subsets: Sequence[NDArray[np.int64]],
        done: Callable[[int], object],
    ) -> list[AffineModels]:
        prior = np.log(training.weights) if hasattr(self.class_weight, "items") else np.zeros(training.k)
        models = []
        for number, moments in enumerate(class_moments(training.codes, training.labels, training.k, subsets)):
            models.append(AffineModels([_nearest_mean(moments, prior, training)]))
            done(number + 1)
        return models


def _nearest_mean(moments: Moments, prior: Matrix, training: Training) -> Affine:
    """Return the map; in it the means are measured from the middle of the present ones, where they are exact."""
    present = moments.counts > 0
    means = moments.sums[present] / moments.counts[present, None]
    standard = training.scale == "standard"
    scale = moments.column_scale()[1] / column_weights(training.parts) if standard else np.ones(means.shape[1])
    variance = _inner_variance(moments, means, present, scale)
    middle = means.mean(axis=0)
    inner = (means - middle) / scale
    coef = np.zeros(moments.sums.shape)
    intercept = np.full(len(coef), -np.inf)
    coef[present] = inner / scale / variance
    offset = prior[present] - np.einsum("ij,ij->i", inner, inner) / (2 * variance)
    intercept[present] = offset - offset.mean() - coef[present] @ (moments.shift + middle)
    return Affine(coef.astype(np.float32), intercept.astype(np.float32))


def _inner_variance(moments: Moments, means: Matrix, present: NDArray[np.bool_], scale: Matrix) -> float:
    """Return the variance inside the classes, averaged over the dimensions; 1 if no class has two different rows."""
    between = moments.counts[present] @ means**2
    inside = np.maximum(moments.squares - between, 0) / scale**2
    total = (moments.squares / scale**2).sum()
    return float(inside.sum() / (moments.counts.sum() * len(scale))) if inside.sum() > 1e-12 * total else 1.0
