"""The documented architectures against the published facts, and against the contract."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from tlkit import registry
from tlkit.backbones import Backbone, read_taps
from tlkit.testing import backbone_checks

NAMES = sorted(registry.entry_points("backbone").keys() - {"timm"})
QUICK = ["tiny", "lenet5", "nin_cifar", "resnet18"]


def build(name: str) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
    return backbone


def checks(name: str) -> list[tuple[str, str, Callable[[], None]]]:
    return [(name, title, check) for title, check in backbone_checks(partial(build, name))]


@pytest.mark.parametrize(("name", "title", "check"), [row for name in QUICK for row in checks(name)])
def test_the_contract(name: str, title: str, check: Callable[[], None]) -> None:
    check()


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_the_contract_of_all(name: str) -> None:
    """In one test, so that no network stays in memory with the next."""
    broken = []
    for _, title, check in checks(name):
        try:
            check()
        except AssertionError as err:
            broken.append(f"{title}: {err}")
    assert not broken


@pytest.mark.parametrize(
    ("name", "params", "codes"),
    [  # ARCHITECTURES.md; resnets as torchvision documents them
        ("vgg16", 138_357_544, 4096),
        ("resnet18", 11_689_512, 512),
        ("resnet50", 25_557_032, 2048),
        ("mobilenetv1_100", 4_231_976, 1024),
        ("mobilenetv2_100", 3_504_872, 1280),
    ],
)
def test_size(name: str, params: int, codes: int) -> None:
    backbone = build(name)
    count = sum(parameter.numel() for parameter in backbone.module.parameters())
    assert count == params
    assert backbone.tap("pool").channels == codes
    assert backbone.reference is not None
    assert backbone.reference.params is None or abs(count / backbone.reference.params - 1) < 0.01
    assert backbone.recipe is not None
    assert backbone.spec == {"name": name, "weights": None}
    assert backbone.preprocess.input_size == (3, 224, 224)


def test_vgg16_has_the_weights_per_layer_and_the_codes_of_the_notes() -> None:
    backbone = build("vgg16")
    weights = [p.numel() for n, p in backbone.module.named_parameters() if n.endswith("weight")]
    assert weights[:8] == [1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648]
    assert weights[8:13] == [2_359_296] * 5
    assert weights[13:] == [102_760_448, 16_777_216, 4_096_000]
    assert [(tap.name, tap.channels) for tap in backbone.taps] == [
        *zip([f"pool{i}" for i in range(1, 6)], [64, 128, 256, 512, 512], strict=True),
        *[("fc6", 4096), ("fc7", 4096), ("pool", 4096)],
    ]
    assert [tap.reduction for tap in backbone.taps[:5]] == [2, 4, 8, 16, 32]
    codes = read_taps(backbone, torch.randn(1, 3, 224, 224), ["fc6", "fc7", "pool"])
    assert torch.equal(codes["fc7"], codes["pool"])
    assert all(bool((c >= 0).all()) and bool((c > 0).any()) for c in codes.values())  # after ReLU


def test_the_recipes_are_those_of_the_papers() -> None:
    recipes = {}
    for name in ("vgg16", "resnet18"):
        recipe = build(name).recipe
        assert recipe is not None
        recipes[name] = (recipe.optimizer, recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.momentum)
    assert recipes == {"vgg16": ("sgd", 256, 1e-2, 5e-4, 0.9), "resnet18": ("sgd", 256, 0.1, 1e-4, 0.9)}


def test_any_architecture_of_timm() -> None:
    backbone = registry.build("backbone", {"name": "timm", "model": "test_vit.r160_in1k", "weights": None})
    assert backbone.name == "timm/test_vit.r160_in1k"
    assert backbone.spec == {"name": "timm", "model": "test_vit.r160_in1k", "weights": None}
    assert registry.build("backbone", backbone.spec).taps == backbone.taps
