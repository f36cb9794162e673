"""Multinomial logistic regression on CNN codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlkit.heads.affine_head import IteratedHead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class SoftmaxRegression(IteratedHead):
    """Softmax regression with the objective of scikit-learn's LogisticRegression (multinomial, L2 penalty).

    Args:
        C: A value, or several to choose from; None is eight powers of ten that suit the codes (`default_grid`).
        scale: See `Head`, as are class_weight, parts, cv, random_state and what there is after a fit.
        class_weight: The weight of the rows of each class.
        cv: Number of folds.
        random_state: Seed of the folds.
        device: Where to solve: a torch device, or "auto".

    Attributes:
        C_: The chosen C.
        coef_: (k, d) float32 and `intercept_` (k,): see `AffineHead`. Of two classes the second row is
            LogisticRegression's only one, and the first is it with the other sign.
        convergence_: How near the optimum the solver ended: see `IteratedHead`.

    >>> import numpy as np
    >>> codes = np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]], dtype=np.float32)
    >>> head = SoftmaxRegression(C=1.0, cv=2).fit(codes, ["cat", "cat", "dog", "dog"])
    >>> head.predict(codes[:1])
    array(['cat'], dtype='<U3')
    """

    loss = "softmax"

    def __init__(
        self,
        *,
        C: float | Sequence[float] | None = None,
        scale: str = "standard",
        class_weight: str | Mapping[Any, float] | None = "auto",
        parts: Sequence[int] | None = None,
        cv: int = 5,
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.C = C
        self.scale = scale
        self.class_weight = class_weight
        self.parts = parts
        self.cv = cv
        self.random_state = random_state
        self.device = device
