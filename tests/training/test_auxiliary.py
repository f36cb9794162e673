"""Auxiliary classifiers teach while a network is trained, and are nowhere else."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from tlkit_plugins.networks.interface import Network as Interface
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import tlkit
from tlkit import registry
from tlkit.backbones import Backbone, from_module, read_taps
from tlkit.data import ImageData, Preprocess
from tlkit.training import Policy, Settings
from tlkit.training.augment import augmented, plain
from tlkit.training.loading import training_loader, validation_loader
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import NEW, parameter_groups, rates, stage_table
from tlkit.training.splitting import find_split
from tlkit.training.trainer import train


class Helped(Interface):  # type: ignore[misc]
    """Three blocks, the first two of which have an auxiliary classifier."""

    auxiliary_weight = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.num_features = 5, 8
        self.block1 = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3, 2), bn=nn.BatchNorm2d(4), act=nn.ReLU()))
        self.block2 = nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 6, 3, 2), act=nn.ReLU()))
        self.block3 = nn.Sequential(OrderedDict(conv=nn.Conv2d(6, 8, 3, 2), act=nn.ReLU()))
        self.fc = nn.Linear(8, 5)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.block3(self.block2(self.block1(x)))  # type: ignore[no-any-return]

    def auxiliary_classifiers(self, num_classes: int) -> dict[str, nn.Module]:
        widths = {"block1": 4, "block2": 6}
        return {
            path: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(width, num_classes))
            for path, width in widths.items()
        }


@pytest.fixture
def helped() -> Backbone:
    torch.manual_seed(0)
    preprocess = Preprocess((3, 32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
    taps = {"block1": "block1", "block2": "block2"}
    return from_module(Helped(), name="helped", preprocess=preprocess, weights=None, spec={"name": "helped"}, taps=taps)


def fine_tuning(backbone: Backbone, settings: Settings, policy: Policy | None = None) -> FineTuning:
    torch.manual_seed(1)
    plan = Plan(
        policy or Policy(), rates(backbone, settings, 15), settings, backbone.preprocess, torch.arange(1.0, 11.0), 1
    )
    return FineTuning(Network(backbone, 10), plan)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_their_losses_are_in_the_training_loss(helped: Backbone, smoothing: float) -> None:
    module = fine_tuning(helped, Settings(label_smoothing=smoothing))
    network, weights = module.network.eval(), module.plan.class_weights
    images, labels = torch.randn(7, 3, 32, 32), torch.arange(7) % 10
    first = network.module.get_submodule("block1")(images)
    second = network.module.get_submodule("block2")(first)
    answers = [network(images), network.auxiliary[0](first), network.auxiliary[1](second)]
    main_loss, *sides = (cross_entropy(a, labels, weights, label_smoothing=smoothing) for a in answers)
    torch.testing.assert_close(module._loss(images, labels, slice(None)), main_loss + 0.3 * (sides[0] + sides[1]))
    parts = [module._loss(images, labels, part) for part in (slice(0, 3), slice(3, 7))]
    torch.testing.assert_close(sum(parts), main_loss + 0.3 * (sides[0] + sides[1]))
    assert isinstance(network(images), Tensor)


def test_they_are_trained_with_the_new_head_and_kept_nowhere(helped: Backbone, digits: ImageData) -> None:
    settings = Settings()
    module = fine_tuning(helped, settings)
    groups = parameter_groups(module.network, module.plan.rates)
    new = {id(p) for group in groups if group["name"] == NEW for p in group["params"]}
    assert new == {id(p) for part in (module.network.head, module.network.auxiliary) for p in part.parameters()}
    assert stage_table(module.network, module.plan.rates, Policy())[-1]["parameters"] == 90 + 50 + 70
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    learned, judged = digits.select(range(30)), digits.select(range(30, 45))
    validation = validation_loader(judged, plain(helped.preprocess), 15, 1, 1)
    training = training_loader(learned, augmented(helped.preprocess, settings), 15, 1, 1)
    train(module, training, validation, {"max_epochs": 1, "accelerator": "cpu"}, None)
    after = module.network.state_dict()
    moved = [name for name in before if name.startswith("auxiliary") and not torch.equal(before[name], after[name])]
    assert len(moved) == 4
    assert module.network.module.state_dict().keys() == helped.module.state_dict().keys()
    with torch.no_grad():
        loss = sum(float(cross_entropy(module.network(module._input(batch)), batch[1])) for batch in validation)
    assert module.history[0]["val_loss"] == pytest.approx(loss)


@pytest.mark.parametrize(("first", "learning"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_one_that_nothing_trained_leads_to_stands_still(helped: Backbone, first: int, learning: int) -> None:
    network = Network(helped, 10)
    assert [stage.name for stage in helped.stages] == ["block1", "block2", "block3"]
    network.freeze(first)
    network.train()
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6)
    answers = network(images, auxiliary=True)
    assert [tuple(answer.shape) for answer in answers] == [(6, 10)] * (1 + learning)
    torch.stack([cross_entropy(answer, labels) for answer in answers]).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in network.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad or parameter is network.module.fc.weight  # type: ignore[union-attr]
    assert sum(p.requires_grad for p in network.auxiliary.parameters()) == 2 * learning


def test_they_see_the_same_where_the_frozen_part_has_run_before(helped: Backbone) -> None:
    network = Network(helped, 10)
    network.freeze(1)
    network.auxiliary.eval()  # so that dropout draws nothing
    network.split = find_split(network)
    images = torch.randn(6, 3, 32, 32)
    kept = network.module.get_submodule("block1").eval()(images)
    begun = network(kept, auxiliary=True)
    network.split = None
    for found, wanted in zip(begun, network(images, auxiliary=True), strict=True):
        torch.testing.assert_close(found, wanted)


def test_googlenet_has_the_two_of_its_paper() -> None:
    backbone = registry.build("backbone", {"name": "googlenet_5x5", "weights": None})
    network = Network(backbone, 3)
    images = torch.randn(2, 3, 224, 224)
    assert [tuple(logits.shape) for logits in network.train()(images, auxiliary=True)] == [(2, 3)] * 3
    assert isinstance(network(images), Tensor)
    assert isinstance(network.module.train()(images), Tensor)
    assert backbone.module.auxiliary_weight == 0.3
    paper = backbone.module.auxiliary_classifiers(1000)
    assert list(paper) == ["inception4a", "inception4d"]  # 4x4x512 and 4x4x528 after pooling
    for classifier, width in zip(paper.values(), (512, 528), strict=True):
        counts = [sum(p.numel() for p in part.parameters()) for part in classifier.children()]
        assert [count for count in counts if count] == [129 * width - width + 128, 2049 * 1024, 1025 * 1000]
        assert classifier[0](torch.zeros(1, width, 14, 14)).shape == (1, width, 4, 4)
        assert classifier.dropout.p == 0.7


@pytest.mark.full
def test_googlenet_from_scratch_keeps_nothing_of_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for low, name in ((0, "dark"), (150, "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = draw.integers(low, low + 100, (64, 64, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    run = tlkit.fit(
        tmp_path / "run",
        backbone="googlenet_5x5",
        data={"name": "folder", "root": str(tmp_path / "photos")},
        strategy={"name": "scratch", "batch_size": 8},
        trainer={"max_epochs": 1},
    ).path
    backbone = registry.build("backbone", {"name": "googlenet_5x5", "weights": None})
    with safe_open(run / "model" / "backbone" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(backbone.module.state_dict())
    images = sorted((tmp_path / "photos" / "dark").iterdir())[:2]
    assert tlkit.load(run).predict_proba(images).shape == (2, 2)


def test_codes_know_nothing_of_them(helped: Backbone) -> None:
    batch = torch.randn(3, 3, 32, 32)
    codes = read_taps(helped, batch, ["block1", "pool"])
    assert {name: tuple(values.shape) for name, values in codes.items()} == {"block1": (3, 4), "pool": (3, 8)}
