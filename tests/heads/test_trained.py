"""The head that training leaves."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from tlkit.heads import TrainedHead, load_head, save_head


def test_it_is_the_linear_layer_divided_by_a_temperature_and_comes_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(3, 5)).astype(np.float32), draw.normal(size=3).astype(np.float32)
    codes = draw.normal(size=(200, 5)).astype(np.float32)
    scores = codes @ weight.T + bias
    labels = np.array([draw.choice(3, p=p) for p in softmax(scores / 4, axis=1)])
    head = TrainedHead.of(weight, bias, scores, labels)
    assert 2 < head.temperature_ < 8  # the labels were drawn at 4
    np.testing.assert_allclose(head.predict_proba(codes), softmax(scores / head.temperature_, axis=1), atol=1e-6)
    save_head(head, tmp_path)
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(codes), head.predict_proba(codes))
    assert TrainedHead.of(weight, bias, scores[:0], labels[:0]).temperature_ == 1


def test_it_cannot_be_fitted_on_codes() -> None:
    with pytest.raises(TypeError, match="take another head"):
        TrainedHead().fit(np.eye(4, dtype=np.float32), [0, 0, 1, 1])
