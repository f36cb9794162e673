"""Networks from Inception to NASNet in the whole of tlkit: engines, and a run with 299 pixels."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import tlkit
from tlkit import registry
from tlkit.codes.engines import make_engine
from tlkit.codes.engines.frozen import Frozen, gap, noise


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["googlenet", "googlenet_5x5", "inception_v2", "squeezenet1_1", "nasnet_mobile", "inception_v3"]
)
def test_every_tap_through_openvino_is_torchs(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = registry.build("backbone", {"name": name, "weights": None})
    taps = [tap.name for tap in backbone.taps]
    engine = make_engine(backbone, taps, engine="openvino", batch_size=4, cache=tmp_path)
    pixels = noise(backbone.preprocess, 3)
    reference = Frozen(backbone.module.eval(), backbone.preprocess, backbone.taps, "avg").codes(pixels)
    assert engine.name == "openvino"
    found = engine(pixels)
    assert list(found) == taps
    assert gap(list(found.values()), reference) < 1e-5


@pytest.mark.full
def test_a_run_with_299_pixels(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for low, name in ((0, "dark"), (150, "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(low, low + 100, (320, 400, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    run = tlkit.fit(
        tmp_path / "run",
        backbone={"name": "inception_v3", "weights": None},
        data={"name": "folder", "root": str(tmp_path / "photos")},
        strategy={
            "name": "partial",
            "allow_random": True,
            "augment": "none",
            "train_from": "Mixed_7b",
            "batch_size": 8,
        },
        trainer={"max_epochs": 1},
    ).path
    images = sorted((tmp_path / "photos" / "dark").iterdir())[:2]
    assert tlkit.load(run).predict_proba(images).shape == (2, 2)
