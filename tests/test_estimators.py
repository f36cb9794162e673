"""scikit-learn citizens."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlkit import CNNCodes, TransferClassifier
from tlkit.errors import TlkitError, UsageError

DIGITS = load_digits()
IMAGES = [Image.fromarray((scan * 15).astype(np.uint8)) for scan in DIGITS.images[:300]]
LABELS = DIGITS.target[:300]


def test_codes_in_a_pipeline() -> None:
    pipeline = make_pipeline(CNNCodes(backbone="tiny"), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    pipeline.fit(IMAGES[:200], LABELS[:200])
    assert pipeline.score(IMAGES[200:], LABELS[200:]) >= 0.9


def test_codes_of_several_taps_and_of_paths(tmp_path: Path) -> None:
    IMAGES[0].save(tmp_path / "scan.png")
    codes = CNNCodes()
    taps = [tap.name for tap in codes.fit(IMAGES).backbone_.taps][-2:]
    both = CNNCodes(tap=taps).fit_transform(IMAGES[:2])
    np.testing.assert_array_equal(both[:, -codes.transform(IMAGES[:2]).shape[1] :], codes.transform(IMAGES[:2]))
    from_file = codes.transform([str(tmp_path / "scan.png")])
    np.testing.assert_allclose(from_file, codes.transform(IMAGES[:1]), rtol=1e-4, atol=1e-5)
    assert clone(CNNCodes(tap=taps)).tap == taps


def test_unreadable_images_stop_a_transform(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("x")
    with pytest.raises(TlkitError, match=r"cannot read .*x\.jpg"):
        CNNCodes().fit_transform([tmp_path / "x.jpg"])


@pytest.mark.parametrize("kind", [int, str, np.float64])
def test_labels_of_any_kind_come_back(kind: type) -> None:
    labels = np.array([kind(9 - label) for label in LABELS])
    model = TransferClassifier(strategy={"name": "linear_probe", "C": 1e-3}).fit(IMAGES[:200], labels[:200])
    assert model.predict(IMAGES[200:]).dtype == labels.dtype
    assert model.score(IMAGES[200:], labels[200:]) >= 0.9
    probabilities = model.predict_proba(IMAGES[200:210])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(IMAGES[200:210]))


def test_cross_validation_by_scikit_learn() -> None:
    model = TransferClassifier(strategy={"name": "linear_probe", "C": 1e-3})
    assert cross_val_score(model, IMAGES, LABELS, cv=3).mean() >= 0.9


def test_wrong_settings_and_shapes_are_explained() -> None:
    with pytest.raises(UsageError, match="no backbone called 'tinny'"):
        CNNCodes(backbone="tinny").fit(IMAGES)
    with pytest.raises(UsageError, match=r"strategy\.CC: no such setting"):
        TransferClassifier(strategy={"name": "linear_probe", "CC": 1}).fit(IMAGES, LABELS)
    with pytest.raises(UsageError, match="X has 300 images, but y has the shape"):
        TransferClassifier().fit(IMAGES, LABELS[:10])
