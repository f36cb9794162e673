"""Similarity against what is known about it."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tlkit import registry
from tlkit.backbones import Backbone, Weights, from_timm, read_taps
from tlkit.codes import CodesStore
from tlkit.data import ImageData, prepare
from tlkit.strategies.similarity import confidence, shift


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    data: ImageData = registry.build("data", {"name": "digits"})
    return [data.images[row] for row in range(40)]  # type: ignore[misc]


def _norms(backbone: Backbone) -> list[nn.BatchNorm2d]:
    return [part for part in backbone.module.modules() if isinstance(part, nn.BatchNorm2d)]


def _pixels(backbone: Backbone, images: list[Image.Image]) -> torch.Tensor:
    pixels = [backbone.preprocess.pixels(image.convert("RGB")) for image in images]
    return backbone.preprocess.normalise(torch.from_numpy(np.stack(pixels)))


def _at_home(backbone: Backbone, images: list[Image.Image]) -> Backbone:
    """Let a copy of the network remember the statistics of just these images."""
    network = replace(backbone, module=copy.deepcopy(backbone.module))
    for norm in _norms(network):
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        network.module.train()(_pixels(network, images))
    network.module.eval()
    return network


def test_there_is_no_shift_where_the_statistics_are_those_of_the_images(
    tiny: Backbone, images: list[Image.Image]
) -> None:
    assert shift(_at_home(tiny, images), images) == pytest.approx(0, abs=0.01)
    assert (shift(tiny, images) or 0) > 0.3


def test_it_is_in_units_of_remembered_deviations(tiny: Backbone, images: list[Image.Image]) -> None:
    network = _at_home(tiny, images)
    last = _norms(network)[-1]
    assert last.running_mean is not None
    assert last.running_var is not None
    last.running_mean += 2 * (last.running_var + last.eps).sqrt()
    assert shift(network, images) == pytest.approx((2**2 / len(_norms(network))) ** 0.5, rel=0.02)


def test_batches_make_no_difference_and_nothing_is_changed(tiny: Backbone, images: list[Image.Image]) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    value = shift(tiny, images)
    assert shift(tiny, images[::-1]) == pytest.approx(value, rel=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.module.state_dict().items())
    assert not any(part._forward_pre_hooks for part in tiny.module.modules())


def test_statistics_that_nobody_learned_tell_nothing(tiny: Backbone, images: list[Image.Image]) -> None:
    bare = registry.build("backbone", {"name": "tiny", "weights": None})
    assert shift(bare, images) is None
    for norm in _norms(tiny):  # as if folded into the convolutions
        norm.running_mean, norm.running_var = torch.zeros(norm.num_features), torch.full((norm.num_features,), 0.999)
    assert shift(tiny, images) is None
    assert shift(from_timm("convnext_atto", weights=None), images) is None
    assert shift(tiny, []) is None


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto"])
def test_confidence_is_that_of_the_network_itself(name: str, images: list[Image.Image]) -> None:
    bare = from_timm(name, weights=None)
    network = replace(bare, weights=Weights(source="test", sha256="", num_classes=1000))
    with torch.no_grad():
        network.module.get_classifier().weight *= 50  # type: ignore[operator]
        expected = network.module(_pixels(network, images[:4])).softmax(1).amax(1).mean()
    pool = read_taps(network, _pixels(network, images[:4]), ["pool"])["pool"].numpy()
    assert confidence(network, pool) == pytest.approx(float(expected), rel=1e-4)
    assert confidence(bare, pool) is None


def test_few_classes_and_foreign_codes_tell_nothing() -> None:
    few = from_timm("resnet10t", weights=None, num_classes=10)
    few = replace(few, weights=Weights(source="test", sha256="", num_classes=10))
    assert confidence(few, np.ones((3, 512), np.float32)) is None
    many = replace(few, weights=Weights(source="test", sha256="", num_classes=1000))
    assert confidence(many, np.ones((3, 7), np.float32)) is None


def test_no_classifier_no_confidence(tiny: Backbone) -> None:
    assert confidence(tiny, np.ones((3, 256), np.float32)) is None


def _real(assets: Path, name: str) -> list[Path]:
    folders = {"ants and bees": "hymenoptera", "solar cells": "solar_cells", "ImageNet": "imagenet_samples"}
    data = assets / "data" / folders[name]
    if name == "ImageNet":
        return sorted(data.glob("*.jpg"))
    labelled = prepare(registry.build("data", {"name": "folder", "root": str(data)}), 1)
    rows = np.random.default_rng(0).permutation(labelled.rows("train"))[:48]
    return [image for row in rows if isinstance(image := labelled.images[row], Path) and image.suffix != ".gif"]


@pytest.mark.full
def test_photographs_are_like_imagenet_and_solar_cells_are_not(assets: Path) -> None:
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    network = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    store = CodesStore(engine="torch")
    for name, sure, near in [("ImageNet", True, True), ("ants and bees", True, True), ("solar cells", False, False)]:
        photographs = _real(assets, name)
        pool = store.codes(network, photographs, ["pool"]).values["pool"]
        assert ((confidence(network, pool) or 0) >= 0.55) is sure
        assert ((shift(network, photographs) or 9) <= 0.35) is near
