"""The linear probe against scikit-learn on the same codes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tlkit import registry
from tlkit.classifier import Classifier
from tlkit.codes import CodesStore
from tlkit.data import ImageData, prepare
from tlkit.errors import TlkitError, UsageError
from tlkit.strategies import Resources
from tlkit.strategies.linear_probe import _sample, linear_probe


def test_it_chooses_and_scores_as_scikit_learn_does_on_photographs(assets: Path) -> None:
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    data = prepare(registry.build("data", {"name": "folder", "root": str(assets / "data" / "hymenoptera")}), 1)
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    resources = Resources(CodesStore())
    grid = [1e-4, 1e-3, 1e-2]
    ours = linear_probe(backbone, data, resources, C=grid, scale="standard")
    codes = resources.store.codes(backbone, data.images, ["pool"]).values["pool"].astype(np.float64)
    train, val = data.rows("train"), data.rows("val")
    theirs = GridSearchCV(
        make_pipeline(StandardScaler(), LinearSVC(tol=1e-6, max_iter=20_000)),
        {"linearsvc__C": grid},
        cv=StratifiedKFold(5, shuffle=True, random_state=1),
    ).fit(codes[train], data.labels[train])
    assert ours.training["chosen"]["C"] == theirs.best_params_["linearsvc__C"]
    assert ours.training["cv_accuracy"] == pytest.approx(theirs.best_score_, abs=1e-9)
    probabilities = ours.predict_proba([data.images[row] for row in val], resources.store)
    agree = probabilities.argmax(axis=1) == theirs.predict(codes[val])
    assert agree.mean() >= 0.99
    assert (probabilities.argmax(axis=1) == data.labels[val]).mean() >= 0.95


def test_random_weights_are_refused_unless_asked_for() -> None:
    data = prepare(registry.build("data", {"name": "digits"}), 1)
    data = data.select(np.arange(200))
    backbone = registry.build("backbone", {"name": "tiny", "weights": None})
    with pytest.raises(TlkitError, match=r"tiny has random weights.*backbone\.weights=PATH.*allow_random=true"):
        linear_probe(backbone, data, Resources(CodesStore()))
    fitted = linear_probe(backbone, data, Resources(CodesStore()), allow_random=True, C=1e-3)
    assert fitted.training["chosen"]["C"] == 1e-3


def test_the_backbone_is_not_changed_and_the_seed_decides() -> None:
    data, backbone = _digits(150), registry.build("backbone", {"name": "tiny"})
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    first, second = (linear_probe(backbone, data, Resources(CodesStore(), seed=3), C=[1e-3, 1e-2]) for _ in range(2))
    assert all((tensor == before[name]).all() for name, tensor in backbone.module.state_dict().items())
    images = [data.images[row] for row in range(20)]
    np.testing.assert_array_equal(first.predict_proba(images), second.predict_proba(images))


def _digits(n: int = 300) -> ImageData:
    return prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(n))


@pytest.mark.parametrize("head", ["svm", "softmax", "ridge", "knn", "prototype"])
def test_every_head_learns_and_comes_back(head: Any, tmp_path: Path) -> None:  # noqa: ANN401
    data, backbone = _digits(), registry.build("backbone", {"name": "tiny"})
    fitted = linear_probe(backbone, data, Resources(CodesStore()), head=head)
    held_out = data.select(data.rows("test"))
    probabilities = fitted.predict_proba(held_out.images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == held_out.labels).mean() > 0.8
    fitted.save(tmp_path)
    np.testing.assert_array_equal(Classifier.load(tmp_path).predict_proba(held_out.images), probabilities)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "ridge", "C": 1.0}, r"strategy\.C: no setting of strategy\.head=ridge\. It has strategy\.alpha\."),
        ({"head": "prototype", "k": 1}, r"strategy\.k: no setting of strategy\.head=prototype\. It has nothing"),
        ({"head": "svm", "C": -1.0}, r"strategy\.C=-1"),
        ({"cv": 1}, r"strategy\.cv=1"),
        ({"tap": "poool"}, r"strategy\.tap=poool"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    store = CodesStore()
    with pytest.raises(UsageError, match=message):
        linear_probe(registry.build("backbone", {"name": "tiny"}), _digits(), Resources(store), **settings)
    assert store.forwards == store.decoded == 0


def test_auto_measures_every_tap_on_the_training_images_only() -> None:
    data, backbone = _digits(), registry.build("backbone", {"name": "tiny"})
    store, settings = CodesStore(), dict[str, Any](head="ridge", scale="standard")
    fitted = linear_probe(backbone, data, Resources(store), tap="auto", **settings)
    table = fitted.training["tap_search"]
    names = [tap.name for tap in backbone.taps]
    assert [candidate["taps"] for candidate in table[: len(names)]] == [(name,) for name in names]
    assert 1 <= len(fitted.taps) <= 3
    best = next(candidate for candidate in table if candidate["taps"] == fitted.taps)
    assert best["accuracy"] >= next(candidate for candidate in table if candidate["taps"] == ("pool",))["accuracy"]
    alone = linear_probe(backbone, data, Resources(store), tap=list(fitted.taps), **settings)
    assert alone.training["cv_accuracy"] == pytest.approx(best["accuracy"], abs=1e-12)
    # Other labels of the held-out images change nothing.
    labels = data.labels.copy()
    labels[data.rows("test")] = 0
    again = linear_probe(backbone, replace(data, labels=labels), Resources(store), tap="auto", **settings)
    assert again.taps == fitted.taps
    assert again.training["tap_search"] == table


def test_heads_learn_from_all_views_and_predictions_are_their_mean(tmp_path: Path) -> None:
    data, backbone = _digits(), registry.build("backbone", {"name": "tiny"})
    store = CodesStore(views=3, view_seed=5)
    fitted = linear_probe(backbone, data, Resources(store), C=1e-2)
    images = [data.images[row] for row in range(7)]
    codes = store.codes(backbone, images, ["pool"])
    assert codes.values["pool"].shape == (21, 256)
    expected = fitted.head.predict_proba(codes.values["pool"]).reshape(7, 3, 10).mean(axis=1)
    np.testing.assert_allclose(fitted.predict_proba(images), expected, atol=1e-6)
    assert fitted.head.oof_scores_ is not None
    assert len(fitted.head.oof_scores_) == 3 * len(data.rows("train"))
    fitted.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    assert loaded.recipe == {"precision": "float32", "pooling": "avg", "views": 3, "view_seed": 5}
    np.testing.assert_allclose(loaded.predict_proba(images), expected, atol=1e-6)


@pytest.mark.parametrize("most", [10, 100, 999])
def test_taps_are_compared_on_a_sample_that_has_every_class(most: int) -> None:
    labels = np.repeat(np.arange(12), [400, *[50] * 10, 1])
    rows = np.arange(len(labels))
    sample = _sample(labels, rows, most, seed=3)
    counts = np.bincount(labels[sample], minlength=12)
    assert len({*sample.tolist()}) == len(sample) <= most + 2 * 12
    assert counts.min() >= 1
    assert sample.tolist() == _sample(labels, rows, most, seed=3).tolist()
