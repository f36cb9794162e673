"""Preprocess against timm's own evaluation transform, on real photographs and odd sizes."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from tlkit.data import Preprocess, decode

CONFIGURATIONS: list[dict[str, Any]] = [
    {"input_size": (3, 224, 224), "interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center"},
    {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"},
    {"input_size": (3, 96, 96), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"},
    {"input_size": (3, 96, 96), "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "squash"},
    {"input_size": (3, 128, 128), "interpolation": "lanczos", "crop_pct": 1.0, "crop_mode": "border"},
    {"input_size": (3, 64, 160), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center"},
    {"input_size": (1, 80, 80), "interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center"},
    {"input_size": (1, 80, 80), "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "border"},
]
IDS = ["-".join(map(str, configuration.values())) for configuration in CONFIGURATIONS]


def _complete(configuration: dict[str, Any]) -> dict[str, Any]:
    grey = configuration["input_size"][0] == 1
    return {
        **configuration,
        "mean": (0.45,) if grey else (0.485, 0.456, 0.406),
        "std": (0.2,) if grey else (0.2, 0.3, 0.4),
    }


def _theirs(configuration: dict[str, Any], image: PIL.Image.Image, prefetcher: bool = False) -> torch.Tensor:
    image = image.convert("L") if configuration["input_size"][0] == 1 else image
    tensor: torch.Tensor = create_transform(**configuration, is_training=False, use_prefetcher=prefetcher)(image)
    return tensor


def _odd_sizes() -> Iterator[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 331), (640, 31), (225, 223), (256, 256)):
        yield PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("configuration", [_complete(each) for each in CONFIGURATIONS], ids=IDS)
def test_the_very_pixels_and_numbers_of_timm(configuration: dict[str, Any]) -> None:
    preprocess = Preprocess(**configuration)
    for image in _odd_sizes():
        pixels = preprocess.pixels(image)
        assert pixels.dtype == np.uint8
        channels, height, width = configuration["input_size"]
        assert pixels.shape == (height, width, channels)
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), _theirs(configuration, image, prefetcher=True).numpy())
        ready = preprocess.normalise(torch.from_numpy(pixels)[None])
        assert ready.dtype == torch.float32
        torch.testing.assert_close(ready[0], _theirs(configuration, image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("configuration", [_complete(each) for each in CONFIGURATIONS], ids=IDS)
def test_on_photographs(configuration: dict[str, Any], assets: Path) -> None:
    preprocess = Preprocess(**configuration)
    photographs = sorted((assets / "data" / "hymenoptera" / "val" / "ants").glob("*.jpg"))[::17]
    sizes = set()
    for path in photographs:
        with PIL.Image.open(path) as opened:
            image = opened.convert("RGB")
        sizes.add(image.size)
        pixels = preprocess.pixels(decode(path))
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), _theirs(configuration, image, prefetcher=True).numpy())
        ready = preprocess.normalise(torch.from_numpy(pixels)[None])
        torch.testing.assert_close(ready[0], _theirs(configuration, image), rtol=0, atol=1e-6)
    assert len(sizes) > 2


def test_normalise_leaves_its_input_alone_and_is_channels_last() -> None:
    preprocess = Preprocess(**_complete(CONFIGURATIONS[0]))
    batch = torch.randint(0, 256, (2, 224, 200, 3), dtype=torch.uint8)
    before = batch.clone()
    ready = preprocess.normalise(batch)
    assert torch.equal(batch, before)
    assert ready.shape == (2, 3, 224, 200)
    assert ready.is_contiguous(memory_format=torch.channels_last)
    mean, std = (np.array(values) for values in (preprocess.mean, preprocess.std))
    expected = ((before.numpy() / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ready.numpy(), expected, atol=1e-5)


def test_normalise_gives_the_bits_of_totensor_and_normalize() -> None:
    from torchvision.transforms import Compose, Normalize, ToTensor

    preprocess = Preprocess(**_complete(CONFIGURATIONS[0]))
    pixels = torch.randint(0, 256, (50, 40, 3), dtype=torch.uint8)
    theirs = Compose([ToTensor(), Normalize(preprocess.mean, preprocess.std)])(pixels.numpy())
    assert torch.equal(preprocess.normalise(pixels[None])[0], theirs)


def test_pixels_belong_to_the_caller() -> None:
    preprocess = Preprocess(**_complete(CONFIGURATIONS[3]))
    image = PIL.Image.new("RGB", (106, 106), "white")
    pixels = preprocess.pixels(image)
    pixels[:] = 0
    assert preprocess.pixels(image).min() == 255


def test_a_grey_batch_does_not_pass_for_colour() -> None:
    preprocess = Preprocess(**_complete(CONFIGURATIONS[0]))
    with pytest.raises(RuntimeError):
        preprocess.normalise(torch.zeros((2, 4, 4, 1), dtype=torch.uint8))


def test_dictionaries() -> None:
    preprocess = Preprocess(**_complete(CONFIGURATIONS[5]))
    values = preprocess.to_dict()
    assert values["input_size"] == [3, 64, 160]
    assert Preprocess.from_dict(values) == preprocess
    assert hash(Preprocess.from_dict(values)) == hash(preprocess)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv2_100", "tf_efficientnetv2_b0"])
def test_from_timm_is_what_timm_resolves(name: str) -> None:
    configuration = timm.get_pretrained_cfg(name)
    assert configuration is not None
    fields = asdict(configuration)
    preprocess = Preprocess.from_timm(fields)
    theirs = resolve_data_config(pretrained_cfg=fields)  # type: ignore[no-untyped-call]
    assert preprocess.to_dict() == {
        key: list(value) if isinstance(value, tuple) else value for key, value in theirs.items()
    }


def test_from_timm_fills_gaps_with_timms_defaults() -> None:
    preprocess = Preprocess.from_timm({})
    assert preprocess.input_size == (3, 224, 224)
    assert (preprocess.interpolation, preprocess.crop_pct, preprocess.crop_mode) == ("bicubic", 0.875, "center")
