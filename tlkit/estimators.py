"""Two scikit-learn citizens: CNN codes as a transformer, transfer learning as a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from tlkit import registry
from tlkit.codes import CodesStore, known_taps
from tlkit.data import Image, ImageData, as_images
from tlkit.errors import UsageError, some
from tlkit.sources import build_backbone
from tlkit.strategies import Resources

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Choice = str | Mapping[str, Any]


class CNNCodes(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images to CNN codes, for a scikit-learn `Pipeline`.

    Args:
        backbone: a name, or a mapping of a name and settings: `{"name": "resnet50", "weights": "folder"}`.
        tap: a tap of the backbone, or several that are concatenated.
        batch_size: images a forward pass; what suits the machine if None.
        device: a torch device, or "auto".

    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> pipeline = make_pipeline(CNNCodes(backbone="tiny"), LinearSVC())
    """

    def __init__(
        self,
        backbone: Choice = "tiny",
        tap: str | Sequence[str] = "pool",
        batch_size: int | None = None,
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.tap = tap
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Iterable[Image | str], y: object = None) -> CNNCodes:
        """Load the backbone; there is nothing to learn from X."""
        self.backbone_ = build_backbone(_settings("backbone", self.backbone), seed=0)
        self.taps_ = known_taps(self.backbone_, self.tap, "tap")
        return self

    def transform(self, X: Iterable[Image | str]) -> NDArray[np.float32]:
        """Return the codes of n images (paths or PIL images), float32 (n, d).

        Raises:
            TlkitError: some of the images cannot be read.
        """
        check_is_fitted(self)
        images = as_images(X)
        store = CodesStore(batch_size=self.batch_size, device=self.device)
        codes = store.codes(self.backbone_, images, self.taps_)
        codes.require_all(images)
        return codes.concatenated()


class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A strategy on a backbone, as a scikit-learn classifier of image paths or PIL images.

    Args:
        backbone: a name, or a mapping of a name and settings.
        strategy: a name, or a mapping of a name and settings.
        seed: of everything random.
    """

    def __init__(self, backbone: Choice = "tiny", strategy: Choice = "linear_probe", seed: int = 1) -> None:
        self.backbone = backbone
        self.strategy = strategy
        self.seed = seed

    def fit(self, X: Iterable[Image | str], y: ArrayLike, groups: ArrayLike | None = None) -> TransferClassifier:
        """Fit on n images and their labels; `groups` stay together in cross-validation.

        Raises:
            UsageError: X and y do not fit, or settings are wrong.
            TlkitError: some of the images cannot be read.
        """
        images, labels = as_images(X), np.asarray(y)
        together = None if groups is None else np.asarray(groups).astype(str)
        for name, column in (("y", labels), ("groups", together)):
            if column is not None and column.shape != (len(images),):
                raise UsageError(f"X has {len(images)} images, but {name} has the shape {column.shape}.")
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise UsageError(f"y names a single class, {some(self.classes_.tolist())}: a classifier needs two.")
        network = build_backbone(_settings("backbone", self.backbone), self.seed)
        data = _as_data(images, labels, self.classes_, together)
        resources = Resources(CodesStore(), {}, self.seed)
        self.classifier_ = registry.build("strategy", _settings("strategy", self.strategy), network, data, resources)
        return self

    def predict_proba(self, X: Iterable[Image | str]) -> NDArray[np.float32]:
        """Return float32 (n, k), columns in the order of `classes_`; rows sum to 1.

        Raises:
            TlkitError: some of the images cannot be read.
        """
        check_is_fitted(self)
        probabilities: NDArray[np.float32] = self.classifier_.predict_proba(as_images(X))
        return probabilities[:, [self.classifier_.classes.index(str(c)) for c in self.classes_.tolist()]]

    def predict(self, X: Iterable[Image | str]) -> NDArray[Any]:
        """Return n labels, of the type that `fit` was given."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels


def _settings(kind: str, choice: Choice) -> dict[str, Any]:
    from tlkit import validate

    settings: dict[str, Any] = {"name": choice} if isinstance(choice, str) else dict(choice)
    settings |= registry.choice_settings(kind, str(settings.get("name", "")))
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    validate.check_plugin(kind, settings)
    return settings


def _as_data(
    images: Sequence[Image], labels: NDArray[Any], classes: NDArray[Any], groups: NDArray[np.str_] | None
) -> ImageData:
    names = sorted({str(c) for c in classes.tolist()})
    if len(names) != len(classes):
        raise UsageError(f"labels {some(classes.tolist())}: some of them look the same as text.")
    return ImageData(
        name="images",
        images=images,
        files=tuple(f"{row}" for row in range(len(images))),
        labels=np.array([names.index(str(label)) for label in labels.tolist()], dtype=np.int64),
        classes=tuple(names),
        split=np.full(len(images), "train"),
        groups=groups,
        source={},
        on_error="raise",
    )
