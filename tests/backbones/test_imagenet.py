"""Real ImageNet weights on real photographs."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from tlkit.backbones import Backbone, from_timm, read_taps
from tlkit.data import decode


@pytest.fixture(scope="module")
def backbone(assets: Path) -> Backbone:
    return from_timm("mobilenetv2_100", weights=str(assets / "weights/mobilenetv2_100.keras_in1k"))


@pytest.fixture(scope="module")
def photos(assets: Path) -> list[Path]:
    return sorted((assets / "data/imagenet_samples").glob("*.jpg"))


def read(backbone: Backbone, photos: list[Path]) -> Tensor:
    pixels = [torch.from_numpy(backbone.preprocess.pixels(decode(photo))) for photo in photos]
    return backbone.preprocess.normalise(torch.stack(pixels))


def test_42_of_50_photos_are_recognised(backbone: Backbone, photos: list[Path]) -> None:
    assert len(photos) == 50
    with torch.inference_mode():
        found = torch.cat([backbone.module(read(backbone, photos[i : i + 10])).argmax(1) for i in range(0, 50, 10)])
    wanted = torch.tensor([int(photo.name[:4]) for photo in photos])
    assert int((found == wanted).sum()) >= 42


def test_logits_are_those_of_plain_timm(backbone: Backbone, photos: list[Path], assets: Path) -> None:
    plain: Any = timm.create_model(f"local-dir:{assets / 'weights/mobilenetv2_100.keras_in1k'}", pretrained=True).eval()
    batch = read(backbone, photos[:4])
    with torch.inference_mode():
        assert torch.equal(backbone.module(batch), plain(batch))
        pool = read_taps(backbone, batch, ["pool"])["pool"]
        assert torch.equal(pool, plain.forward_head(plain.forward_features(batch), pre_logits=True))


def test_the_record_of_the_weights(backbone: Backbone) -> None:
    weights = backbone.weights
    assert weights is not None
    assert (weights.license, weights.dataset, weights.num_classes) == ("apache-2.0", "ImageNet-1k", 1000)
    assert weights.class_names is not None
    assert weights.class_names[:2] == ("tench, Tinca tinca", "goldfish, Carassius auratus")


def test_a_trunk_without_a_classifier(assets: Path) -> None:
    backbone = from_timm("mobilenetv1_100", weights=str(assets / "weights/mobilenetv1_100.tflite_in1k"))
    assert backbone.module.num_classes == 0
    assert backbone.tap("pool").channels == 1024
