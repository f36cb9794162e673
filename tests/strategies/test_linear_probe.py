"""The linear probe against scikit-learn on the same codes."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tlkit import registry
from tlkit.codes import CodesStore
from tlkit.data import prepare
from tlkit.errors import TlkitError
from tlkit.strategies import Resources
from tlkit.strategies.linear_probe import linear_probe


def test_it_chooses_and_scores_as_scikit_learn_does_on_photographs(assets: Path) -> None:
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    data = prepare(registry.build("data", {"name": "folder", "root": str(assets / "data" / "hymenoptera")}), 1)
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    resources = Resources(CodesStore())
    grid = [1e-4, 1e-3, 1e-2]
    ours = linear_probe(backbone, data, resources, C=grid)
    codes = resources.store.codes(backbone, data.images, ["pool"]).values["pool"].astype(np.float64)
    train, val = data.rows("train"), data.rows("val")
    theirs = GridSearchCV(
        make_pipeline(StandardScaler(), LinearSVC(tol=1e-6, max_iter=20_000)),
        {"linearsvc__C": grid},
        cv=StratifiedKFold(5, shuffle=True, random_state=1),
    ).fit(codes[train], data.labels[train])
    assert ours.training["C"] == theirs.best_params_["linearsvc__C"]
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
    assert linear_probe(backbone, data, Resources(CodesStore()), allow_random=True, C=1e-3).training["C"] == 1e-3


def test_the_backbone_is_not_changed_and_the_seed_decides() -> None:
    data = prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(300))
    backbone = registry.build("backbone", {"name": "tiny"})
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    first, second = (linear_probe(backbone, data, Resources(CodesStore(), seed=3)) for _ in range(2))
    assert all((tensor == before[name]).all() for name, tensor in backbone.module.state_dict().items())
    images = [data.images[row] for row in range(20)]
    np.testing.assert_array_equal(first.predict_proba(images), second.predict_proba(images))
