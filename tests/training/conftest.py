"""Networks and images for training tests."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tlkit import registry
from tlkit.backbones import Backbone, from_module
from tlkit.data import ImageData, Preprocess, prepare

Build = Callable[..., Backbone]


@pytest.fixture(scope="session")
def digits() -> ImageData:
    """150 scans with their split."""
    return prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(150))


@pytest.fixture(scope="session")
def wrapped() -> Build:
    """From a network for RGB images of some side to a backbone without pretrained weights."""

    def wrap(module: torch.nn.Module, side: int) -> Backbone:
        preprocess = Preprocess((3, side, side), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
        return from_module(module, name="test", preprocess=preprocess, weights=None, recipe=None, spec={})

    return wrap
