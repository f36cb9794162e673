"""Several networks over the same images: each image is decoded once, and the codes are those of passes apart."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlkit.backbones import Backbone
from tlkit.codes import CodesStore, cache_at, compute_together, looking
from tlkit.codes import together as module
from tlkit.data import Preprocess
from tlkit.data.digits import digits
from tlkit.data.views import all_view_pixels


def smaller(tiny: Backbone) -> Backbone:
    return replace(tiny, preprocess=replace(tiny.preprocess, input_size=(3, 48, 48)))


@pytest.mark.parametrize("at_once", [500_000_000, 1])
def test_each_image_is_decoded_once(
    at_once: int, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIXEL_BYTES", at_once)
    images = [*digits().images[:150], tmp_path / "missing.png"]
    other = smaller(tiny)
    store = CodesStore(cache_at(dir=str(tmp_path / "a")))
    flipped = store.like({**store.recipe, "views": "flip"})
    asks = [(store, tiny, ["layer2", "pool"]), (store, other, ["pool"]), (flipped, other, ["pool"])]
    compute_together(asks, images)
    # The plain view of the smaller network is there already when both of its views are asked for.
    assert store.passes == {"forwards": 150 + 150 + 150, "decoded": 150}
    for own, backbone, taps in asks:
        found = own.codes(backbone, images, taps)
        apart = CodesStore(cache_at(dir=str(tmp_path / "b"))).like(own.recipe).codes(backbone, images, taps)
        assert list(found.errors) == [150]
        for tap in taps:
            np.testing.assert_array_equal(found.values[tap], apart.values[tap])
    assert store.passes == {"forwards": 450, "decoded": 150}


def test_what_is_there_is_not_prepared(tiny: Backbone, tmp_path: Path) -> None:
    images = digits().images[:40]
    store = CodesStore(cache_at(dir=str(tmp_path)))
    store.codes(tiny, images[:30], ["pool"])
    compute_together([(store, tiny, ["pool"]), (store, smaller(tiny), ["pool"])], images)
    assert store.passes == {"forwards": 30 + 10 + 40, "decoded": 30 + 40}


def test_pixels_are_made_once_for_each_network(tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(preprocess: Preprocess, *rest: Any) -> Any:  # noqa: ANN401
        calls.append(preprocess.input_size)
        return all_view_pixels(preprocess, *rest)

    monkeypatch.setattr(looking, "all_view_pixels", counted)
    store, other = CodesStore(cache_at(dir=str(tmp_path))), smaller(tiny)
    compute_together([(store, tiny, ["pool"]), (store, other, ["pool"])], digits().images[:20])
    assert Counter(calls) == {(3, 64, 64): 20, (3, 48, 48): 20}
