"""Training on kept activations is the training on images, faster."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from tlkit.backbones import Backbone
from tlkit.codes import CodesStore, cache_at
from tlkit.codes.halves import packed, unpacked
from tlkit.data import ImageData
from tlkit.errors import UsageError
from tlkit.strategies import Resources
from tlkit.strategies.fine_tuning import partial
from tlkit.strategies.fitting import validation_split
from tlkit.training import Settings, kept

NAMES = ["mobilenetv2_035", "resnet10t", "test_vit", "convnext_atto"]
Build = Callable[..., Backbone]
ONCE, EVERY = "the frozen stages run once", "the frozen stages run in every epoch: "
CALM: dict[str, Any] = {"head_init": "random", "augment": "none", "allow_random": True, "lr": 1e-3, "train_last": 2}


def curve(backbone: Backbone, data: ImageData, store: CodesStore, **settings: Any) -> Any:  # noqa: ANN401
    resources = Resources(store, {"max_epochs": 3, "accelerator": "cpu"})
    facts = partial(backbone, data, resources, **{**CALM, **settings}).training
    return [[row["train_loss"], row["val_loss"], row["val_accuracy"]] for row in facts["epochs"]]


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_obstacle", lambda *_: "a test says so")


def module(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    size: dict[str, Any] = {"img_size": 32} if "vit" in name else {}
    made: torch.nn.Module = timm.create_model(name, num_classes=2, drop_path_rate=0.1, **size)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_curve_is_that_of_the_whole_network(
    name: str, wrapped: Build, digits: ImageData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {"ema": 0.5, "label_smoothing": 0.1} if name == "resnet10t" else {}
    store = CodesStore(engine="torch")
    once = curve(wrapped(module(name), 32), digits, store, **settings)
    assert ONCE in caplog.text
    assert store.forwards == len(digits.rows("train"))
    never(monkeypatch)
    np.testing.assert_allclose(once, curve(wrapped(module(name), 32), digits, store, **settings), rtol=2e-3)
    assert f"{EVERY}a test says so" in caplog.text


def test_views_are_kept_and_drawn_alike(
    tiny: Backbone, digits: ImageData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = CodesStore(cache_at(dir=str(tmp_path)), views=3)
    once = curve(tiny, digits, store, augment="views")
    learned, judged = round(0.85 * len(digits.rows("train"))), round(0.15 * len(digits.rows("train")))
    assert store.forwards == pytest.approx(3 * learned + judged, abs=6)
    plain = curve(tiny, digits, store)
    assert store.forwards == pytest.approx(3 * learned + judged, abs=6)  # the plain view is there
    never(monkeypatch)
    np.testing.assert_allclose(once, curve(tiny, digits, store, augment="views"), rtol=1e-3, atol=1e-4)
    assert not np.allclose(once, plain, rtol=1e-2)
    with pytest.raises(UsageError, match=r"codes\.views=1 is a single one"):
        curve(tiny, digits, CodesStore(), augment="views")
    with pytest.raises(UsageError, match="views are shown as they are"):
        Settings(augment="views", color_jitter=0.1).check()


def test_other_weights_other_activations(tiny: Backbone, digits: ImageData) -> None:
    store = CodesStore(engine="torch")
    curve(tiny, digits, store)
    first = store.forwards
    curve(tiny, digits, store)
    assert store.forwards == first
    with torch.no_grad():
        next(tiny.module.parameters()).mul_(1.01)
    curve(tiny, digits, store)
    assert store.forwards == 2 * first
    curve(tiny, digits, store, train_last=1)
    assert store.forwards == 3 * first


def test_half_precision_takes_half_the_room(tiny: Backbone, digits: ImageData, tmp_path: Path) -> None:
    widths, curves = {}, {}
    for precision in ("float32", "bf16", "float16"):
        store = CodesStore(cache_at(dir=str(tmp_path / precision)), engine="torch", precision=precision)
        curves[precision] = curve(tiny, digits, store)
        (record,) = store.cache.codes.records()
        widths[precision] = record.width
    assert widths["bf16"] == widths["float16"] == widths["float32"] // 2
    np.testing.assert_allclose(curves["bf16"], curves["float32"], rtol=0.1, atol=0.05)
    np.testing.assert_allclose(curves["float16"], curves["float32"], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 2**-8), ("float16", 2**-11)])
def test_halves_are_rounded_once(precision: str, tolerance: float) -> None:
    values = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    pairs = packed(values, precision)
    assert pairs.dtype == np.float32
    assert pairs.shape == (4, 4)
    np.testing.assert_allclose(unpacked(pairs, precision, 7), values, rtol=tolerance)


@pytest.mark.parametrize(
    ("settings", "max_gb", "reason"),
    [
        ({"augment": "flip"}, 1, r"strategy.augment=flip makes new images each time"),
        ({"mixup": 0.2}, 1, r"strategy.mixup=0.2 makes new images each time"),
        ({"unfreeze_every": 1}, 1, r"strategy.unfreeze_every=1 moves the boundary"),
        ({}, 0.001, "GB, more than cache.max_gb=0.001"),
        ({}, 0, "GB, more than cache.max_gb=0"),
    ],
)
def test_what_cannot_be_kept_is_computed_again(
    settings: dict[str, Any],
    max_gb: float,
    reason: str,
    tiny: Backbone,
    digits: ImageData,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    store = CodesStore(cache_at(dir=str(tmp_path), max_gb=max_gb))
    assert len(curve(tiny, digits, store, **settings)) == 3
    assert EVERY in caplog.text
    assert reason in caplog.text
    assert store.forwards == 0


def test_the_tuned_network_is_given_images_again(tiny: Backbone, digits: ImageData) -> None:
    data = validation_split(digits, 1)
    tuned = partial(tiny, digits, Resources(CodesStore(), {"max_epochs": 2, "accelerator": "cpu"}), **CALM)
    judged = data.select(data.rows("val"))
    right = tuned.predict_proba(judged.images).argmax(axis=1) == judged.labels
    assert right.mean() == pytest.approx(tuned.training["validation_accuracy"])
