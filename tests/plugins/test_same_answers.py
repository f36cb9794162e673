"""Inception to NASNet: the answers are those of torchvision's and timm's networks with the same numbers in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tlkit_plugins.networks.nasnet import NASNet
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone

MOST = 1e-5


def lively(module: nn.Module, side: int) -> nn.Module:
    """Give convolutions weights that keep the size of signals, and BatchNorm the statistics of noise."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        module.train()(torch.randn(4, 3, side, side))
    return module.eval()


def saved(module: nn.Module, folder: Path) -> str:
    file = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, file)
    return str(file)


def build(name: str, weights: str | None) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": weights})
    return backbone


def compare(found: nn.Module, original: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        answers, wanted = found.eval()(images), original.eval()(images)
    assert float(wanted.std()) > 0.01
    torch.testing.assert_close(answers, wanted, atol=MOST, rtol=0)


# The file of torchvision's weights of the first two has auxiliary classifiers in it, which is what is saved here.
TORCHVISION: list[tuple[str, Callable[..., nn.Module], int, dict[str, Any]]] = [
    ("googlenet", torchvision.models.googlenet, 224, {"aux_logits": True, "init_weights": False}),
    ("inception_v3", torchvision.models.inception_v3, 299, {"aux_logits": True, "init_weights": False}),
    ("squeezenet1_0", torchvision.models.squeezenet1_0, 224, {}),
    ("squeezenet1_1", torchvision.models.squeezenet1_1, 224, {}),
    ("resnext50_32x4d", torchvision.models.resnext50_32x4d, 64, {}),
    ("densenet121", torchvision.models.densenet121, 64, {}),
]
MORE: list[tuple[str, Callable[..., nn.Module], int, dict[str, Any]]] = [
    ("resnext101_32x8d", torchvision.models.resnext101_32x8d, 64, {}),
    ("resnext101_64x4d", torchvision.models.resnext101_64x4d, 64, {}),
    ("densenet161", torchvision.models.densenet161, 64, {}),
    ("densenet169", torchvision.models.densenet169, 64, {}),
    ("densenet201", torchvision.models.densenet201, 64, {}),
]


def check_torchvision(
    name: str, make: Callable[..., nn.Module], side: int, settings: dict[str, Any], folder: Path
) -> None:
    torch.manual_seed(0)
    original = lively(make(weights=None, **settings), side)
    ours = build(name, saved(original, folder))
    assert ours.weights is not None
    assert ours.weights.num_classes == 1000
    compare(ours.module, original, torch.randn(2, 3, side, side))


@pytest.mark.parametrize(("name", "make", "side", "settings"), TORCHVISION, ids=[row[0] for row in TORCHVISION])
def test_torchvisions_file_gives_torchvisions_answers(
    name: str, make: Callable[..., nn.Module], side: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    check_torchvision(name, make, side, settings, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(("name", "make", "side", "settings"), MORE, ids=[row[0] for row in MORE])
def test_so_does_that_of_larger_ones(
    name: str, make: Callable[..., nn.Module], side: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    check_torchvision(name, make, side, settings, tmp_path)


# Plugin, timm's name for the network, pixels.
TIMM = [
    ("inception_v4", "inception_v4", 299),
    ("inception_resnet_v2", "inception_resnet_v2", 299),
    ("xception", "legacy_xception", 299),
    ("nasnetalarge", "nasnetalarge", 331),
    ("seresnet50", "seresnet50", 224),
    ("senet154", "senet154", 224),
    ("densenet161", "densenet161", 224),
    ("resnext101_32x4d", "resnext101_32x4d", 224),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "model", "side"), TIMM)
def test_timms_file_gives_timms_answers(name: str, model: str, side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = lively(timm.create_model(model), side)
    compare(build(name, saved(original, tmp_path)).module, original, torch.randn(2, 3, side, side))


def test_nasnet_of_six_cells_a_block_is_timms() -> None:
    torch.manual_seed(0)
    original: nn.Module = timm.create_model("nasnetalarge", num_features=96, stem_size=8)
    ours = NASNet(cells=6, num_features=96, stem=8)
    lively(original, 96)
    ours.load_state_dict(original.state_dict())
    compare(ours, original, torch.randn(2, 3, 96, 96))


@pytest.mark.parametrize("name", ["googlenet", "googlenet_5x5", "inception_v2", "inception_v3", "squeezenet1_1"])
def test_one_tensor_in_training_too(name: str) -> None:
    with torch.device("meta"):
        backbone = build(name, None)
        logits = backbone.module.train()(torch.zeros(2, *backbone.preprocess.input_size))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 1000)
