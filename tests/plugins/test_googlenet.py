"""GoogLeNet against its paper's table 1, the lecture notes' arithmetic, and torchvision."""

from dataclasses import replace

import pytest
import torch
import torchvision
from tlkit_plugins.networks.googlenet import MODULES, Branches, convolution, inception
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone, count_macs

# Table 1: maps, side, parameters in K, operations in M. K is 1,024 and M a million, of weights without biases.
PUBLISHED = {
    "conv1": (64, 112, 2.7, 34),
    "conv2": (192, 56, 112, 360),
    "inception3a": (256, 28, 159, 128),
    "inception3b": (480, 28, 380, 304),
    "inception4a": (512, 14, 364, 73),
    "inception4b": (512, 14, 437, 88),
    "inception4c": (512, 14, 463, 100),
    "inception4d": (528, 14, 580, 119),
    "inception4e": (832, 14, 840, 170),
    "inception5a": (832, 7, 1072, 54),
    "inception5b": (1024, 7, 1388, 71),
    "fc": (1000, 1, 1000, 1),
}
# Rows where the paper prints other numbers than the maps beside them make; here is what they make.
WEIGHTS_DIFFER = {
    "conv1": 9_408,
    "inception4a": 375_552,
    "inception4c": 509_440,
    "inception4d": 604_672,
    "inception4e": 867_328,
    "inception5a": 1_042_432,
    "inception5b": 1_442_816,
}
OPERATIONS_DIFFER = {"conv1": 118_013_952, "inception5a": 51_079_168}


def build(name: str) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
    return backbone


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[int, int, int, int]]:
    """Maps, side, weights without biases, and operations of each row of the table."""
    with torch.device("meta"):
        module = build("googlenet_5x5").module.eval()
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}
    for name in PUBLISHED:

        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name) -> None:
            shapes.setdefault(name, (inputs[0].shape[1:], output.shape[1:]))

        module.get_submodule(name).register_forward_hook(hook)
    module(torch.zeros(1, 3, 224, 224, device="meta"))
    found = {}
    for name, (size, (maps, *sides)) in shapes.items():
        part = module.get_submodule(name)
        weights = sum(tensor.numel() for key, tensor in part.named_parameters() if key.endswith("weight"))
        operations = count_macs(part, tuple(size)) if sides else weights  # type: ignore[arg-type]
        found[name] = maps, sides[0] if sides else 1, weights, operations
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_of_table_1(rows: dict[str, tuple[int, int, int, int]], name: str) -> None:
    maps, side, weights, operations = rows[name]
    *shape, thousands, millions = PUBLISHED[name]
    assert [maps, side] == shape
    if name in WEIGHTS_DIFFER:
        assert weights == WEIGHTS_DIFFER[name]
        assert abs(weights / 1024 - thousands) > 1
    else:
        assert abs(weights / 1024 - thousands) <= 1
    if name in OPERATIONS_DIFFER:
        assert operations == OPERATIONS_DIFFER[name]
        assert abs(operations / 1e6 - millions) > 1
    else:
        assert abs(operations / 1e6 - millions) < 1


def test_the_rows_add_to_more_than_five_million(rows: dict[str, tuple[int, int, int, int]]) -> None:
    assert sum(row[2] for row in PUBLISHED.values()) == pytest.approx(6_797.7)  # "only 5 million"
    assert sum(row[3] for row in PUBLISHED.values()) == 1_502  # "1.5 billion multiply-adds"
    assert sum(row[2] for row in rows.values()) == 6_990_272
    assert sum(row[3] for row in rows.values()) == 1_582_671_872


def test_it_is_22_layers_deep_with_9_modules() -> None:
    with torch.device("meta"):
        module = build("googlenet_5x5").module
    assert [name for name, part in module.named_children() if isinstance(part, Branches)] == list(MODULES)
    depth = 0
    for part in module.children():
        branches = list(part.children()) if isinstance(part, Branches) else [part]
        depth += max(sum(isinstance(m, nn.Conv2d | nn.Linear) for m in branch.modules()) for branch in branches)
    assert (depth, len(MODULES)) == (22, 9)


def test_bottlenecks_save_operations() -> None:
    naive = Branches(
        branch1=convolution(256, 128, 1),
        branch3=convolution(256, 192, 3),
        branch5=convolution(256, 96, 5),
        branch_pool=nn.MaxPool2d(3, 1, padding=1),
    )
    reduced = inception(256, 128, 64, 192, 64, 96, 64)
    x = torch.randn(1, 256, 28, 28)
    assert naive(x).shape == (1, 672, 28, 28)
    assert reduced(x).shape == (1, 480, 28, 28)
    size = (256, 28, 28)
    assert count_macs(naive, size) == 854_196_224  # "854 M"
    assert count_macs(reduced, size) == 271_351_808
    # The notes' 358 M have the 3x3 convolution, behind its bottleneck, in them twice.
    assert count_macs(reduced, size) + count_macs(nn.Conv2d(64, 192, 3, padding=1), (64, 28, 28)) == 358_055_936


def test_the_preprocess_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        preprocess = build("googlenet").preprocess
    preset = torchvision.models.GoogLeNet_Weights.DEFAULT.transforms()
    assert (preset.crop_size, preset.resize_size, preset.interpolation.value) == ([224], [256], "bilinear")
    assert (preprocess.crop_pct, preprocess.interpolation) == (224 / 256, "bilinear")


def test_torchvisions_transform_of_the_input_is_in_the_preprocess() -> None:
    with torch.device("meta"):
        preprocess = build("googlenet").preprocess
    transform = torchvision.models.GoogLeNet(transform_input=True, init_weights=False)._transform_input
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    imagenet = replace(preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    torch.testing.assert_close(preprocess.normalise(pixels), transform(imagenet.normalise(pixels)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["googlenet", "googlenet_5x5"])
def test_the_taps_are_the_modules(name: str) -> None:
    with torch.device("meta"):
        backbone = build(name)
    assert [tap.name for tap in backbone.taps] == ["conv1", "conv2", *MODULES, "pool"]
    widths = [row[0] for row in PUBLISHED.values()][2:-1]
    assert [tap.channels for tap in backbone.taps] == [64, 192, *widths, 1024]
    assert [tap.reduction for tap in backbone.taps] == [2, 4, 8, 8, 16, 16, 16, 16, 16, 32, 32, None]
    assert [stage.name for stage in backbone.stages][-9:] == list(MODULES)
