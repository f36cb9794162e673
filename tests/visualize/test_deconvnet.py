"""Projections against a deconvnet that is written out layer by layer: unpooling, ReLU, transposed filters."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.backbones import Tap, from_module, from_timm
from tlkit.data import Preprocess
from tlkit.visualize.deconvnet import Projections, project, strongest
from tlkit.visualize.receptive import receptive_fields

GREY = Preprocess((3, 32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)


def settings(pool: nn.MaxPool2d) -> list[list[int]]:
    return [[int(getattr(pool, name))] * 2 for name in ("kernel_size", "stride", "padding")]


def written_out(layers: nn.Sequential, batch: Tensor, channel: int) -> Tensor:
    """Zeiler and Fergus 2013, figure 1: forward with switches, then back from the strongest unit of a map alone."""
    memory: list[Any] = []
    x = batch
    layer: Any
    for layer in layers:
        before = x.shape
        if isinstance(layer, nn.MaxPool2d):
            kernel, stride, padding = settings(layer)
            x, switches = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
            memory.append((layer, before, switches))
        else:
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
            memory.append((layer, before, None))
    flat = x[:, channel].flatten(1)
    signal = torch.zeros_like(x)
    for row, position in enumerate(flat.argmax(1).tolist()):
        signal[row, channel].view(-1)[position] = flat[row, position]
    for layer, before, switches in reversed(memory):
        if isinstance(layer, nn.MaxPool2d):
            kernel, stride, padding = settings(layer)
            signal = F.max_unpool2d(signal, switches, kernel, stride, padding, list(before[2:]))
        elif isinstance(layer, nn.ReLU):
            signal = F.relu(signal)
        elif isinstance(layer, nn.Conv2d):
            padding = [int(size) for size in layer.padding]
            extra = [
                size - ((s - 1) * layer.stride[i] - 2 * padding[i] + layer.kernel_size[i])
                for i, (size, s) in enumerate(zip(before[2:], signal.shape[2:], strict=True))
            ]
            signal = F.conv_transpose2d(signal, layer.weight, None, layer.stride, padding, extra)
    return signal


class Small(nn.Module):
    """A network in timm's interface, with strides, biases, poolings and a normalisation as AlexNet and ZFNet have."""

    num_classes = 4
    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 5, stride=2, padding=1), nn.ReLU(inplace=True)),
            *(nn.LocalResponseNorm(3, alpha=1.0), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, padding=1)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)),
        )
        self.head = nn.Linear(8, 4)

    def forward_features(self, x: Tensor) -> Tensor:
        found: Tensor = self.features(x)
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def same_projections(module: nn.Module, layers: nn.Sequential, batch: Tensor, tap: Tap) -> Projections:
    """Project the most active map, and compare with the deconvnet above, to 1e-5 of the largest value and less."""
    with torch.no_grad():
        channel = int(layers(batch).amax((0, 2, 3)).argmax())
    found = project(module, batch, tap, channel)
    expected = written_out(layers, batch, channel).detach().numpy()
    largest = np.abs(expected).max()
    assert largest > 1e-4
    np.testing.assert_allclose(found.signals, expected, rtol=0, atol=1e-5 * min(1.0, largest))
    return found


@pytest.mark.parametrize("depth", [3, 5, 6, 8])
def test_as_a_deconvnet_that_is_written_out(depth: int) -> None:
    torch.manual_seed(0)
    taps = {f"layer{n}": f"features.{n}" for n in range(9)}
    backbone = from_module(Small(), name="small", preprocess=GREY, weights=None, spec={}, taps=taps)
    batch = torch.randn(5, 3, 32, 32)
    layers = backbone.module.get_submodule("features")[: depth + 1]  # type: ignore[index]
    found = same_projections(backbone.module, layers, batch, backbone.tap(f"layer{depth}"))
    assert found.remarks == ("Local response normalisation passes signals back as they are.",)


@pytest.mark.parametrize("depth", [4, 9])
def test_on_the_first_blocks_of_vgg(depth: int) -> None:
    from timm.models.vgg import VGG

    torch.manual_seed(0)
    module: Any = VGG([64, 64, "M", 128, 128, "M"], num_classes=2, mlp_ratio=0.01)
    tap = Tap("map", f"features.{depth}", 64 if depth == 4 else 128, 2, "NCHW")
    batch = torch.randn(3, 3, 48, 48)
    found = same_projections(module.eval(), module.features[: depth + 1], batch, tap)
    assert found.width == 48 // (2 if depth == 4 else 4)


def test_where_overlapping_windows_share_a_maximum_signals_add_up() -> None:
    """AlexNet and ZFNet pool 3x3 with stride 2; torch's max_unpool2d would keep the signal of one window only."""
    torch.manual_seed(0)
    conv, over = nn.Conv2d(3, 8, 7, stride=2), nn.Conv2d(8, 8, 5)
    module: Any = nn.Module()
    module.last = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, 2), over, nn.ReLU())
    module.forward_features, module.forward_head = module.last, nn.Identity()
    batch = torch.randn(4, 3, 47, 47)
    maps = F.relu(conv(batch))
    pooled, switches = F.max_pool2d(maps, 3, 2, return_indices=True)
    top = F.relu(over(pooled))
    channel = int(top.amax((0, 2, 3)).argmax())
    flat = top[:, channel].flatten(1)
    alone = torch.zeros_like(top)
    for row, position in enumerate(flat.argmax(1).tolist()):
        alone[row, channel].view(-1)[position] = flat[row, position]
    signal = F.conv_transpose2d(alone, over.weight)
    shared = torch.zeros_like(maps).flatten(2).scatter_add(2, switches.flatten(2), signal.flatten(2)).view_as(maps)
    expected = F.conv_transpose2d(F.relu(shared), conv.weight, None, 2)
    found = project(module.eval(), batch, Tap("map", "last", 8, 4, "NCHW"), channel)
    assert (switches.flatten(2).sort().values.diff() == 0).any()
    np.testing.assert_allclose(found.signals, expected.detach().numpy(), atol=1e-5)


def test_without_poolings_no_image_matters() -> None:
    backbone = from_timm("mobilenetv2_035", weights=None)
    found = project(backbone.module, torch.randn(2, 3, 64, 64), backbone.tap("blocks.1"), channel=0)
    assert found.remarks == (
        "The paper does not speak of these, which pass signals back as gradients do: BatchNorm (as its scale), ReLU6, "
        "sums.",
        "No max-pooling, so no switches: but for their place, projections are the same for every image.",
    )


def test_a_projection_reaches_no_farther_than_the_receptive_field() -> None:
    torch.manual_seed(1)
    backbone = from_module(Small(), name="s", preprocess=GREY, weights=None, spec={}, taps={"map": "features.5"})
    tap = backbone.tap("map")
    found = project(backbone.module, torch.randn(4, 3, 32, 32), tap, channel=2)
    boxes = receptive_fields(backbone.module, tap, (3, 32, 32), found.positions.tolist())
    for signal, (top, left, bottom, right) in zip(found.signals, boxes, strict=True):
        assert np.abs(signal[:, top:bottom, left:right]).sum() == pytest.approx(np.abs(signal).sum())


def test_receptive_fields_by_arithmetic() -> None:
    """5x5/2 (padding 1), 2x2/2, 3x3 see 5 + 2 + 2 * 4 = 15 pixels, 4 pixels apart."""
    backbone = from_module(Small(), name="s", preprocess=GREY, weights=None, spec={}, taps={"map": "features.4"})
    boxes = receptive_fields(backbone.module, backbone.tap("map"), (3, 32, 32), [0, 7 * 3 + 4])
    assert boxes == [(0, 0, 10, 10), (7, 11, 22, 26)]


def test_vgg16_sees_what_is_published() -> None:
    """The five poolings of VGG-16 see 6, 16, 44, 100 and 212 pixels."""
    from timm.models.vgg import VGG

    module: Any = VGG(
        [8, 8, "M", 8, 8, "M", *[8] * 3, "M", *[8] * 3, "M", *[8] * 3, "M"], num_classes=2, mlp_ratio=0.01
    )
    sizes = []
    for place, stride in zip((4, 9, 16, 23, 30), (2, 4, 8, 16, 32), strict=True):
        side = 224 // stride
        middle = (side // 2) * side + side // 2
        top, left, bottom, right = receptive_fields(
            module, Tap("x", f"features.{place}", 8, stride, "NCHW"), (3, 224, 224), [middle]
        )[0]
        assert bottom - top == right - left
        sizes.append(bottom - top)
    assert sizes == [6, 16, 44, 100, 212]


def test_a_map_without_channels_in_front_sees_everything() -> None:
    tap = Tap("x", "", 4, 4, "NLC")
    assert receptive_fields(nn.Linear(1, 1), tap, (3, 8, 9), [5]) == [(0, 0, 8, 9)]


def test_the_strongest_of_many() -> None:
    codes = np.random.default_rng(0).normal(size=(2500, 7)).astype(np.float32)
    codes[100] = np.nan
    rows, values = strongest(codes, 9)
    known = np.nan_to_num(codes, nan=-np.inf)
    np.testing.assert_array_equal(values, -np.sort(-known, axis=0)[:9])
    np.testing.assert_array_equal(np.take_along_axis(known, rows, axis=0), values)


def test_fewer_images_than_wanted() -> None:
    rows, values = strongest(np.array([[1.0, -1.0], [2.0, np.nan]], dtype=np.float32), 3)
    assert rows[:, 0].tolist() == [0, -1, -1]
    assert values[0].tolist() == [1.0, -1.0]
    assert np.isneginf(values[1:]).all()
