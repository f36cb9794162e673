"""Networks and images for training tests."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tlkit import registry
from tlkit.backbones import Backbone
from tlkit.data import ImageData, prepare

Build = Callable[..., Backbone]


@pytest.fixture(scope="session")
def digits() -> ImageData:
    """150 scans with their split."""
    return prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(150))


@pytest.fixture
def tiny() -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


def tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """Copy all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
