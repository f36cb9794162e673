"""The linear SVM on CNN codes: regularisation by cross-validation, calibrated probabilities, one affine map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from tlkit.errors import TlkitError, UsageError, did_you_mean, some
from tlkit.heads.affine import affine_path
from tlkit.heads.calibration import fit_temperature, probabilities
from tlkit.heads.selection import CrossValidation, cross_validate, default_grid, make_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import ArrayLike, NDArray

    from tlkit.heads.affine import Codes

    Matrix = NDArray[np.float64]


class UnusableCodesError(TlkitError, ValueError):
    """Codes that no head can be fitted on or applied to; a ValueError too, as scikit-learn's users expect."""


class LinearSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear SVM with the objective of scikit-learn's LinearSVC (one-vs-rest, squared hinge, L2 penalty).

    `fit` chooses C by stratified cross-validation with the scaling fitted inside each fold, fits all rows with it,
    and sets the temperature of `predict_proba` on the out-of-fold scores. The whole grid is always walked: each C
    starts from the solution before it, so that the last ones cost little, and no rule can stop too early.

    Args:
        C: A value, or several to choose from; None is eight powers of ten that suit the codes (`default_grid`).
        scale: "standard" (zero mean, unit variance in each column) or "none".
        class_weight: "balanced" as in LinearSVC, None, or "auto": balanced when the largest class has more than
            three times the rows of the smallest.
        cv: Number of folds, at least 2. With few rows or groups there are fewer.
        random_state: Seed of the folds, the only chance in it.

    Attributes:
        classes_: (k,) the labels, sorted.
        coef_: (k, d) float64 and `intercept_` (k,): one affine map on raw codes, the scaling folded in. Of two
            classes the first row is the second with the other sign.
        C_: The chosen C.
        temperature_: What scores are divided by before the softmax.
        cv_results_: Plain lists "C", "accuracy" and "std" (mean and standard deviation over the folds).
        cv_accuracy_: Share of rows that were right out of fold, with the chosen C.
        oof_scores_: (n, k) out-of-fold scores with the chosen C; -inf where the fold's training rows lacked the class.

    Where not even two folds are possible (one row a class, or one group) the smallest C is taken, the temperature
    is 1, the lists are empty and the last two attributes are None.

    >>> codes = np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]], dtype=np.float32)
    >>> head = LinearSVM(C=1.0, cv=2).fit(codes, ["cat", "cat", "dog", "dog"])
    >>> head.predict(codes[:1])
    array(['cat'], dtype='<U3')
    """

    def __init__(
        self,
        *,
        C: float | Sequence[float] | None = None,
        scale: Literal["standard", "none"] = "standard",
        class_weight: Literal["auto", "balanced"] | None = "auto",
        cv: int = 5,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.scale = scale
        self.class_weight = class_weight
        self.cv = cv
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> LinearSVM:
        """Choose C, fit, calibrate.

        Args:
            X: (n, d) codes, float32 or float64.
            y: (n,) labels of at least two classes, strings or whole numbers.
            groups: (n,) rows of one group are never on two sides of a fold.
            progress: Called as progress(done, total) after each fold and at the end.

        Raises:
            UnusableCodesError: A code is not finite, or there is only one class.
            UsageError: A setting makes no sense.
        """
        self.check_settings()
        codes, labels = self._checked(X, y)
        grid = default_grid(codes, self.scale) if self.C is None else _values(self.C)
        folds = make_folds(labels, _checked_groups(codes, groups), self.cv, self.random_state)
        report = progress or _silent
        fitting: dict[str, Any] = {"scale": self.scale, "balanced": _balanced(labels, self.class_weight)}
        found, total = None, len(folds) + 1
        with _blas_threads(codes, len(self.classes_)):
            if folds:
                found = cross_validate(codes, labels, grid, folds, **fitting, done=lambda done: report(done, total))
            self._keep(found, grid, labels)
            ((self.coef_, self.intercept_),) = affine_path(codes, labels, len(self.classes_), [self.C_], **fitting)
        report(total, total)
        return self

    def check_settings(self) -> None:
        """Check what can be checked before there are codes.

        Raises:
            UsageError: A setting makes no sense.
        """
        allowed = {"scale": ("standard", "none"), "class_weight": ("auto", "balanced", None)}
        for name, options in allowed.items():
            value = getattr(self, name)
            if value not in options:
                close = did_you_mean(str(value), [option for option in options if option])
                raise UsageError(f"{name}={value!r} is not one of {', '.join(map(repr, options))}.{close}")
        if self.cv < 2:
            raise UsageError(f"cv={self.cv!r}: cross-validation needs at least 2 folds")
        if self.C is not None:
            _values(self.C)

    def decision_function(self, X: ArrayLike) -> Matrix:
        """Return the scores of `X` (n, d): (n, k), or for two classes (n,) that of the second."""
        scores = self._scores(X)
        return scores[:, 1] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the labels (n,) with the highest scores for `X` (n, d)."""
        scores = self._scores(X)
        labels: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return labels

    def predict_proba(self, X: ArrayLike) -> Matrix:
        """Return calibrated probabilities, float64 (n, k), for `X` (n, d); rows sum to 1."""
        scores = self._scores(X)
        return probabilities(scores, self.temperature_)

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[Codes, NDArray[np.int64]]:
        codes, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_all_finite=False)
        check_classification_targets(y)
        _require_finite(codes)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UnusableCodesError(
                f"all {len(codes)} rows belong to one class, {str(self.classes_[0])!r}: a classifier needs two"
            )
        return codes, labels.astype(np.int64)

    def _scores(self, X: ArrayLike) -> Matrix:
        check_is_fitted(self)
        codes = validate_data(self, X, dtype=[np.float32, np.float64], ensure_all_finite=False, reset=False)
        _require_finite(codes)
        scores: Matrix = codes @ self.coef_.T + self.intercept_
        return scores

    def _keep(self, found: CrossValidation | None, grid: list[float], labels: NDArray[np.int64]) -> None:
        """Keep what the cross-validation found; without one, the smallest C: nothing speaks for less regularisation."""
        if found is None:
            self.C_, self.temperature_, self.cv_accuracy_, self.oof_scores_ = grid[0], 1.0, None, None
            self.cv_results_: dict[str, list[float]] = {"C": [], "accuracy": [], "std": []}
            return
        mean, std = found.accuracy.mean(axis=1), found.accuracy.std(axis=1)
        self.C_, self.oof_scores_ = grid[found.best], found.scores
        self.cv_results_ = {"C": grid, "accuracy": mean.tolist(), "std": std.tolist()}
        self.cv_accuracy_ = float(np.mean(found.scores.argmax(axis=1) == labels))
        self.temperature_ = fit_temperature(found.scores, labels)


def _silent(done: int, total: int) -> None:
    pass


def _values(C: float | Sequence[float]) -> list[float]:
    """Return the distinct values of C, smallest first."""
    values = sorted({float(value) for value in np.atleast_1d(np.asarray(C, dtype=float))})
    if not values or not all(0 < value < np.inf for value in values):
        raise UsageError(f"C={C!r}: give one number or several, each above 0 and finite")
    return values


def _checked_groups(codes: Codes, groups: ArrayLike | None) -> NDArray[np.generic] | None:
    if groups is None:
        return None
    check_consistent_length(codes, groups)
    checked: NDArray[np.generic] = column_or_1d(groups)
    return checked


def _balanced(labels: NDArray[np.int64], class_weight: str | None) -> bool:
    counts = np.bincount(labels)
    return class_weight == "balanced" or (class_weight == "auto" and bool(counts.max() > 3 * counts.min()))


def _blas_threads(codes: Codes, k: int) -> AbstractContextManager[object]:
    """Keep small products on one core: handing them round costs more, on a busy machine thirty times as much."""
    from threadpoolctl import threadpool_limits

    small = len(codes) * min(codes.shape) * k < 2e8
    limits: AbstractContextManager[object] = threadpool_limits(1 if small else None, user_api="blas")
    return limits


def _require_finite(codes: Codes) -> None:
    bad = np.flatnonzero(~np.isfinite(codes).all(axis=1))
    if len(bad):
        raise UnusableCodesError(
            f"{len(bad)} of {len(codes)} rows of codes contain NaN or inf (rows {some(bad)}): the network overflowed or"
            " its weights are damaged. Extract those codes again, in float32."
        )
