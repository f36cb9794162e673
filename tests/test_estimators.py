"""scikit-learn citizens."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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


def test_a_shuffled_series_keeps_images_and_labels_together(tmp_path: Path) -> None:
    paths = []
    for row, image in enumerate(IMAGES[:60]):
        paths.append(str(tmp_path / f"{row}.png"))
        image.save(paths[-1])
    table = pd.DataFrame({"path": paths, "label": LABELS[:60]}).sample(frac=1, random_state=0)
    codes = CNNCodes().fit(table["path"])
    np.testing.assert_array_equal(codes.transform(table["path"]), codes.transform(table["path"].tolist()))
    model = TransferClassifier(strategy={"name": "linear_probe", "C": 1e-3})
    model.fit(table["path"].iloc[:50], table["label"].iloc[:50])
    assert model.score(table["path"].tolist()[:50], table["label"].tolist()[:50]) >= 0.9


def test_one_lazily_opened_image_many_times(tmp_path: Path) -> None:
    IMAGES[0].resize((600, 600)).convert("RGB").save(tmp_path / "big.jpg")
    with Image.open(tmp_path / "big.jpg") as image:
        codes = CNNCodes().fit_transform([image] * 32)
    assert (codes == codes[0]).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("scan.png", "'scan.png' is one image: give a list of images"),
        (Path("scan.png"), "is one image"),
        (IMAGES[0], "is one image"),
        ([np.zeros((8, 8))], "not ndarray"),
    ],
)
def test_what_is_no_collection_of_images_is_explained(images: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=message):
        CNNCodes().fit(IMAGES).transform(images)


def test_groups_and_classes_are_checked() -> None:
    with pytest.raises(UsageError, match="X has 300 images, but groups has the shape"):
        TransferClassifier().fit(IMAGES, LABELS, groups=LABELS[:5])
    with pytest.raises(UsageError, match="y names a single class, 0"):
        TransferClassifier().fit(IMAGES[:2], [0, 0])


def test_a_model_of_a_family_with_weights_at_a_path(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("resnet10t", num_classes=3), str(tmp_path / "net"), safe_serialization=True)
    codes = CNNCodes(backbone={"name": "timm/resnet10t", "weights": tmp_path / "net"}).fit_transform(IMAGES[:2])
    assert codes.shape == (2, 512)
