"""Stochastic depth: a ResNet at test time, and in training as many whole blocks as the paper's rule leaves."""

import pytest
import torch
from tlkit_plugins.networks.stochastic_depth import StochasticBlock
from torch import nn

from tlkit import registry
from tlkit.backbones import Backbone

NETWORKS = [("resnet18_sd", "resnet18", 8), ("resnet50_sd", "resnet50", 16), ("resnet_cifar_sd", "resnet_cifar", 54)]


def build(name: str, **settings: object) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": None, **settings})
    return backbone


def blocks(module: nn.Module) -> dict[str, StochasticBlock]:
    return {path: part for path, part in module.named_modules() if isinstance(part, StochasticBlock)}


def shaken(module: nn.Module) -> nn.Module:
    """No number is what it is at the start, where the last norm of each of timm's blocks is zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return module


@pytest.mark.parametrize(("name", "whole", "number"), NETWORKS)
def test_at_test_time_it_is_the_full_network(name: str, whole: str, number: int) -> None:
    settings = {"depth": 110} if "cifar" in name else {}
    backbone, full = build(name, **settings), build(whole, **settings)
    assert [stage.parameters for stage in backbone.stages] == [stage.parameters for stage in full.stages]
    assert backbone.taps == full.taps
    assert len(blocks(backbone.module)) == number
    full.module.load_state_dict(shaken(backbone.module).state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        found, wanted = backbone.module(images), full.module(images)
    assert not torch.equal(wanted[0], wanted[1])
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["resnet18_sd", "resnet34_sd", "resnet50_sd", "resnet101_sd", "resnet152_sd"])
def test_survival_falls_linearly_to_a_half(name: str) -> None:
    with torch.device("meta"):
        survival = [block.survival for block in blocks(build(name).module).values()]
    falls = {round(before - after, 9) for before, after in zip([1.0, *survival], survival, strict=False)}
    assert falls == {round(0.5 / len(survival), 9)}
    assert survival[-1] == 0.5


def test_in_training_whole_blocks_drop_as_often_as_they_should() -> None:
    module = build("resnet_cifar_sd", depth=20).module.train()
    ran = dict.fromkeys(blocks(module), 0)
    for path, block in blocks(module).items():

        def count(*_: object, path: str = path) -> None:
            ran[path] += 1

        block.conv1.register_forward_hook(count)
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(200):
            module(torch.zeros(2, 3, 4, 4))
    for number, times in enumerate(ran.values(), start=1):
        chance = 1 - number / 18
        assert abs(times / 200 - chance) < 4 * (chance * (1 - chance) / 200) ** 0.5


@pytest.mark.parametrize("path", ["layer1.1", "layer2.0"])
def test_a_dropped_block_is_its_shortcut_for_every_image_and_has_gradients_of_zero(path: str) -> None:
    block: StochasticBlock = shaken(build("resnet18_sd").module.get_submodule(path))
    x = torch.randn(3, 64, 8, 8)
    statistics = {name: buffer.clone() for name, buffer in block.named_buffers() if "downsample" not in name}
    block.train().survival = 0.0
    y = block(x)
    shortcut = x if path == "layer1.1" else block.get_submodule("downsample")(x)
    assert torch.equal(y, shortcut.relu())
    assert all(torch.equal(dict(block.named_buffers())[name], before) for name, before in statistics.items())
    y.sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None  # or several processes would wait for one
        assert bool(parameter.grad.any()) == name.startswith("downsample")


def test_what_survives_is_divided_by_its_chance() -> None:
    block: StochasticBlock = shaken(build("resnet18_sd").module.get_submodule("layer1.1"))
    x = torch.randn(2, 64, 8, 8)
    for norm in (block.bn1, block.bn2):
        norm.train = lambda mode=True, norm=norm: norm
    full = block.get_submodule("bn2")(block.conv2(block.bn1(block.conv1(x)).relu()))
    block.train().survival = 0.8
    torch.manual_seed(0)
    outputs = [block(x) for _ in range(200)]
    kept = [y for y in outputs if torch.allclose(y, (full / 0.8 + x).relu(), atol=1e-6)]
    assert len(kept) + sum(torch.equal(y, x.relu()) for y in outputs) == 200
    assert 140 < len(kept) < 180


def test_frozen_stages_drop_nothing() -> None:
    module = build("resnet_cifar_sd", depth=20).module.train()
    frozen = module.get_submodule("stages.0").eval()
    x = torch.randn(2, 16, 8, 8)
    assert all(torch.equal(frozen(x), frozen(x)) for _ in range(20))
