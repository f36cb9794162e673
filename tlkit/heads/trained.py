"""The head of a network that was trained as a whole, as it is saved and predicts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np

from tlkit.heads.affine_head import AffineHead
from tlkit.heads.calibration import fit_temperature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from tlkit.heads.selection import Models, Training

    Labels = NDArray[np.int64]


class TrainedHead(AffineHead):
    """A linear layer that was trained along with its network; it is made by `of`, and cannot be fitted on codes."""

    def __init__(
        self, *, scale: str = "none", class_weight: str | None = None, cv: int = 5, random_state: int = 0
    ) -> None:
        self.scale = scale
        self.class_weight = class_weight
        self.cv = cv
        self.random_state = random_state

    @classmethod
    def of(
        cls, weight: NDArray[np.float32], bias: NDArray[np.float32], scores: NDArray[np.float32], labels: Labels
    ) -> Self:
        """Make the head of a linear layer, with the temperature that suits scores it gave to images not learned from.

        Args:
            weight: (k, d).
            bias: (k,).
            scores: (n, k), before any temperature.
            labels: (n,) in 0 .. k-1; none of them, and the temperature is 1.
        """
        head = cls()
        head.coef_, head.intercept_ = np.ascontiguousarray(weight), np.ascontiguousarray(bias)
        head.classes_, head.n_features_in_ = np.arange(len(bias)), weight.shape[1]
        head.scale_, head.temperature_ = "none", fit_temperature(scores, labels) if len(labels) else 1.0
        head.cv_results_ = {"scale": [], "accuracy": [], "std": []}
        head.cv_accuracy_ = head.oof_scores_ = None
        return head

    def _default_grid(self, training: Training) -> NoReturn:
        raise TypeError("a trained head is not fitted on codes: take another head, or the strategy that made it")

    def _models(
        self,
        training: Training,
        grid: Sequence[float],
        subsets: Sequence[Labels],
        done: Any,  # noqa: ANN401
    ) -> Sequence[Models]:
        self._default_grid(training)
