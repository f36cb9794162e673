"""What all heads share: checks, the search by cross-validation, calibrated probabilities. Each kind adds its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from tlkit.errors import UsageError
from tlkit.heads import settings
from tlkit.heads.calibration import fit_temperature, probabilities
from tlkit.heads.rows import UnusableCodesError, blocks, is_table, loaded, require_finite
from tlkit.heads.scaling import SCALES, Scale, rowwise
from tlkit.heads.selection import Evaluation, Found, Models, Training, by_folds, make_folds, search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import ArrayLike, NDArray

    from tlkit.heads.linear import Rows
    from tlkit.heads.selection import Fold

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Done = Callable[[int], object]
    Codes: TypeAlias = ArrayLike | Rows
    Groups = NDArray[np.generic] | None


class Head(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier on CNN codes that chooses its own scaling and regularisation.

    `fit` compares all candidates by stratified cross-validation, whatever is fitted (scaling included) being fitted
    inside the fold; the highest mean accuracy wins, of equal ones the first in the order standard, none, l2, power
    and from the strongest regularisation to the weakest. Then it fits all rows with the winner, and sets the
    temperature of `predict_proba` on the winner's out-of-fold scores.

    Settings that all kinds have:
        scale: "standard" (zero mean, unit variance in each column), "none", "l2" (each row to length 1), "power"
            (signed square root, then length 1), or "auto": all four are compared.
        class_weight: "balanced" as in scikit-learn, a dict from labels to weights (1 for those it lacks), None, or
            "auto": balanced when the largest class has more than three times the rows of the smallest.
        parts: Widths of parts of a row, such as the codes of several taps side by side, that get the same weight by
            every scaling but "none"; None if there is one.
        cv: Number of folds, at least 2. With few rows or groups there are fewer.
        random_state: Seed of the folds, the only chance in it.

    Attributes:
        parameter: The name of the setting that is searched along with the scaling, if there is one.
        classes_: (k,) the labels, sorted.
        scale_: The chosen scaling; the chosen `parameter` is in the attribute of its name and an underscore.
        temperature_: What scores are divided by before the softmax.
        cv_results_: Plain lists "scale", the parameter's name, "accuracy" and "std" (mean and standard deviation
            over the folds), one entry a candidate.
        cv_accuracy_: Share of rows that were right out of fold, with the chosen candidate.
        oof_scores_: (n, k) out-of-fold scores of the chosen candidate; -inf where the training rows lacked the class.

    Where not even two folds are possible (one row a class, or one group) the first candidate is taken, the
    temperature is 1, the lists are empty and the last two attributes are None.
    """

    parameter: ClassVar[str | None] = None
    whole: ClassVar[bool] = False
    scale: str
    class_weight: str | Mapping[Any, float] | None
    parts: Sequence[int] | None = None
    cv: int
    random_state: int

    @abstractmethod
    def _default_grid(self, training: Training) -> list[float]:
        """Return the values to try where the user gave none."""

    @abstractmethod
    def _models(
        self, training: Training, grid: Sequence[float], subsets: Sequence[Labels], done: Done
    ) -> Sequence[Models]:
        """Fit the whole `grid` on each subset of rows (ascending); `done` is called with how many are finished."""

    @abstractmethod
    def _keep(self, models: Models, found: Found | None) -> None:
        """Take over the one model of `models`, fitted on all rows."""

    @abstractmethod
    def _score(self, block: NDArray[Any]) -> Matrix:
        """Return the scores (b, k) of codes (b, d) that are scaled by row already."""

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `_score` needs, as it goes to disk."""

    @abstractmethod
    def _take_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Become the head whose `_arrays` these are; `classes_`, `n_features_in_` and the settings are there.

        Raises:
            ValueError: They are not; the message says what is wrong with them.
        """

    def fit(
        self,
        X: Codes,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Self:
        """Choose the candidate, fit, calibrate.

        Args:
            X: (n, d) codes, float32 or float64; a memory map, or anything with a shape, a dtype and slices, is read
                block by block.
            y: (n,) labels of at least two classes, strings or whole numbers.
            groups: (n,) rows of one group are never on two sides of a fold.
            progress: Called as progress(done, total) after each fold of each scaling and at the end.

        Raises:
            UnusableCodesError: A code is not finite, or there is only one class.
            UsageError: A setting makes no sense.
        """
        self.check_settings()
        codes, labels = self._checked(X, y)
        k, together = len(self.classes_), _checked_groups(codes, groups)
        weights = settings.class_weights(self.class_weight, self.classes_, np.bincount(labels))
        unscaled = Training(codes, labels, k, weights, "none", together, self.parts)
        folds = make_folds(labels, together, self.cv, self.random_state)
        scales = SCALES if self.scale == "auto" else (cast("Scale", self.scale),)
        counter = _Counter(len(scales), len(folds), progress)
        with _blas_threads(codes, k):
            found = self._search(map(unscaled.scaled, scales), folds, counter) if folds else None
            training = found.training if found else unscaled.scaled(scales[0])
            value = found.value if found else self._grid(training)[0]
            self._record(found, training.scale, value, labels)
            self._keep(found.models if found and found.models else self._whole(training, value), found)
        counter.end()
        return self

    def check_settings(self) -> None:
        """Check what can be checked before there are codes.

        Raises:
            UsageError: A setting makes no sense.
        """
        settings.require_one_of("scale", self.scale, ("auto", *SCALES))
        settings.require_weights(self.class_weight)
        if isinstance(self.cv, bool) or not isinstance(self.cv, int | np.integer) or self.cv < 2:
            raise UsageError(f"cv={self.cv!r}: cross-validation needs at least 2 folds")
        settings.require_parts(self.parts)
        if self.parameter and getattr(self, self.parameter) is not None:
            settings.values(self.parameter, getattr(self, self.parameter), whole=self.whole)

    def decision_function(self, X: Codes) -> Matrix:
        """Return the scores of `X` (n, d): (n, k), or for two classes (n,): half of what the second has more."""
        scores = np.concatenate(list(self._scores(X)))
        return (scores[:, 1] - scores[:, 0]) / 2 if len(self.classes_) == 2 else scores

    def predict(self, X: Codes) -> NDArray[Any]:
        """Return the labels (n,) with the highest scores for `X` (n, d)."""
        best = np.concatenate([part.argmax(axis=1) for part in self._scores(X)])
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: Codes) -> Matrix:
        """Return calibrated probabilities, float64 (n, k), for `X` (n, d); rows sum to 1."""
        return np.concatenate([probabilities(part, self.temperature_) for part in self._scores(X)])

    def _checked(self, X: Codes, y: ArrayLike) -> tuple[Rows, Labels]:
        codes = self._checked_codes(X, y, reset=True)
        if self.parts is not None and sum(self.parts) != codes.shape[1]:
            raise UsageError(
                f"parts={list(self.parts)} are {sum(self.parts)} columns, but the codes have {codes.shape[1]}"
            )
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(codes, labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UnusableCodesError(
                f"all {len(labels)} rows belong to one class, {str(self.classes_[0])!r}: a classifier needs two"
            )
        return codes, numbers.astype(np.int64)

    def _checked_codes(self, X: Codes, y: ArrayLike | None = None, *, reset: bool) -> Rows:
        codes = loaded(X)
        if is_table(codes):
            self._check_width(codes, reset=reset)
        else:
            expected = {} if y is None else {"y": y}
            codes = validate_data(
                self, codes, dtype=[np.float32, np.float64], ensure_all_finite=False, reset=reset, **expected
            )
            codes = codes[0] if expected else codes
        require_finite(codes)
        checked: Rows = codes
        return checked

    def _check_width(self, codes: Rows, *, reset: bool) -> None:
        """Do for a table what scikit-learn does for an array."""
        if codes.shape[0] == 0 or codes.dtype.kind != "f":
            raise UnusableCodesError(f"codes {codes.shape} of {codes.dtype}: at least one row of floats is needed")
        if reset:
            self.n_features_in_ = int(codes.shape[1])
        elif codes.shape[1] != self.n_features_in_:
            raise UnusableCodesError(f"X has {codes.shape[1]} features, but the head expects {self.n_features_in_}")

    def _search(self, trainings: Iterable[Training], folds: Sequence[Fold], counter: _Counter) -> Found:
        def evaluate(training: Training, grid: list[float]) -> Evaluation:
            evaluation = self._evaluate(training, grid, folds, counter.within_scale)
            counter.next_scale()
            return evaluation

        return search(trainings, self._grid, evaluate)

    def _evaluate(self, training: Training, grid: list[float], folds: Sequence[Fold], done: Done) -> Evaluation:
        models = self._models(training, grid, [train for train, _ in folds], done)
        return by_folds(training, models, folds, len(grid))

    def _whole(self, training: Training, value: float) -> Models:
        """Fit one value on all rows."""
        (models,) = self._models(training, [value], [np.arange(len(training.labels))], lambda done: None)
        return models

    def _grid(self, training: Training) -> list[float]:
        given = getattr(self, self.parameter) if self.parameter else None
        if given is None:
            return self._default_grid(training)
        values = settings.values(str(self.parameter), given, whole=self.whole)
        return values if self.parameter == "C" else values[::-1]

    def _record(self, found: Found | None, scale: Scale, value: float, labels: Labels) -> None:
        """Keep what the cross-validation found; without one, nothing speaks for less regularisation."""
        columns = {"scale": "scale", self.parameter: "value", "accuracy": "accuracy", "std": "std"}
        self.cv_results_: dict[str, list[Any]] = {
            name: found.table[column] if found else [] for name, column in columns.items() if name
        }
        self.scale_ = scale
        if self.parameter:
            setattr(self, f"{self.parameter}_", value)
        self.oof_scores_ = found.scores if found else None
        self.cv_accuracy_ = float(np.mean(found.scores.argmax(axis=1) == labels)) if found else None
        self.temperature_ = fit_temperature(found.scores, labels) if found else 1.0

    def _scores(self, X: Codes) -> Iterator[Matrix]:
        """Yield the scores of all rows of X, block by block."""
        check_is_fitted(self)
        codes = rowwise(self._checked_codes(X, reset=False), self.scale_, self.parts)
        for _, block in blocks(codes, width=len(self.classes_)):
            yield self._score(block)


def require_arrays(
    arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str] | None = None
) -> None:
    """Check arrays that come from a file; those that `dtypes` does not name are float32.

    Raises:
        ValueError: Others are there, or of another shape or type, or one is not finite.
    """
    wanted = {name: f"{shape} {(dtypes or {}).get(name, 'float32')}" for name, shape in shapes.items()}
    found = {name: f"{array.shape} {array.dtype}" for name, array in arrays.items()}
    if found != wanted:
        raise ValueError(f"holds {found}, not {wanted}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("holds NaN or infinities")


class _Counter:
    """Progress through the folds of each scaling, and the final fit."""

    def __init__(self, scales: int, folds: int, report: Callable[[int, int], object] | None) -> None:
        self.folds, self.total, self.before = folds, scales * folds + 1, 0
        self.report = report or (lambda done, total: None)

    def within_scale(self, done: int) -> None:
        self.report(self.before + done, self.total)

    def next_scale(self) -> None:
        self.before += self.folds

    def end(self) -> None:
        self.report(self.total, self.total)


def _checked_groups(codes: Rows, groups: ArrayLike | None) -> Groups:
    if groups is None:
        return None
    check_consistent_length(codes, groups)
    checked: NDArray[np.generic] = column_or_1d(groups)
    return checked


def _blas_threads(codes: Rows, k: int) -> AbstractContextManager[object]:
    """Keep small products on one core: handing them round costs more, on a busy machine thirty times as much."""
    from threadpoolctl import threadpool_limits

    small = codes.shape[0] * min(codes.shape) * k < 2e8
    limits: AbstractContextManager[object] = threadpool_limits(1 if small else None, user_api="blas")
    return limits
