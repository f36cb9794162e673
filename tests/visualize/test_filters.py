"""The filters of the first layer, and those that are dead."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tlkit import registry
from tlkit.backbones import Backbone
from tlkit.errors import TlkitError
from tlkit.visualize.filters import first_layer


def test_the_embedded_network(tiny: Backbone) -> None:
    filters = first_layer(tiny)
    channels = tiny.preprocess.input_size[0]
    assert filters.weights.shape[1] == channels
    assert filters.scaled
    assert filters.layer in filters.report()


def test_dead_filters_of_real_weights(assets: Path) -> None:
    """Seven filters of these weights are 0 in every digit, two more a thousandth of the others."""
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    filters = first_layer(registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights}))
    assert filters.dead.tolist() == [3, 7, 11, 12, 13, 16, 19, 26, 28]
    assert filters.weights.shape == (32, 3, 3, 3)
    assert filters.stride == (2, 2)
    assert "dead (norm below 10% of the median, BatchNorm's scale included): 9: 3, 7," in filters.report()


def test_a_filter_that_batchnorm_silences_is_dead(tiny: Backbone) -> None:
    before = first_layer(tiny)
    norm = next(part for part in tiny.module.modules() if isinstance(part, torch.nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[5] = 0
    assert set(first_layer(tiny).dead) == {*before.dead, 5}


def test_batchnorm_is_in_the_filters(tiny: Backbone) -> None:
    filters = first_layer(tiny)
    conv: Any = tiny.module.get_submodule(filters.layer)
    norm = next(part for part in tiny.module.modules() if isinstance(part, torch.nn.BatchNorm2d))
    image = torch.rand(1, *tiny.preprocess.input_size)
    with torch.no_grad():
        zero = torch.zeros_like(image)
        expected = torch.nn.functional.batch_norm(
            conv(image), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        constant = torch.nn.functional.batch_norm(
            conv(zero), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        found = torch.nn.functional.conv2d(
            image, torch.from_numpy(filters.weights), stride=conv.stride, padding=conv.padding
        )
    torch.testing.assert_close(found, expected - constant, atol=1e-4, rtol=1e-4)


def test_without_batchnorm_filters_are_the_weights() -> None:
    from timm.models.vgg import VGG

    from tlkit.backbones import from_module
    from tlkit.data import Preprocess

    module: Any = VGG([8, "M"], num_classes=2, mlp_ratio=0.01)
    size = Preprocess((3, 32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
    filters = first_layer(from_module(module, name="vgg", preprocess=size, weights=None, spec={}, taps={}))
    np.testing.assert_array_equal(filters.weights, module.features[0].weight.detach().numpy())
    assert not filters.scaled
    assert len(filters.dead) == 0


def test_a_network_without_such_a_layer() -> None:
    with torch.device("meta"):
        backbone = registry.build("backbone", {"name": "timm", "model": "mixer_s32_224", "weights": None})
    first: Any = backbone.module.get_submodule("stem.proj")
    first.in_channels = 4
    with pytest.raises(TlkitError, match="no convolution of the image itself"):
        first_layer(backbone)
