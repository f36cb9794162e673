"""Learning rates: a tenth of the original, scaled with the batch."""

from dataclasses import replace

import pytest
import timm

from tlkit import registry
from tlkit.backbones import Backbone, Recipe, from_module
from tlkit.data import Preprocess
from tlkit.training import Policy, Settings
from tlkit.training.network import Network
from tlkit.training.rates import original_recipe, parameter_groups, rates, stage_table


def build(name: str, recipe: Recipe | None = None) -> Backbone:
    return from_module(
        timm.create_model(name),
        name=name,
        preprocess=Preprocess((3, 64, 64), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0),
        weights=None,
        recipe=recipe,
        spec={},
    )


def test_a_tenth_of_the_original_rate_scaled_with_the_batch() -> None:
    backbone: Backbone = registry.build("backbone", {"name": "resnet18", "weights": None})
    found = rates(backbone, Settings(layer_decay=0.5), 64)
    assert found.stages == pytest.approx([0.0025 * 0.5**k for k in (4, 3, 2, 1, 0)])
    assert (found.optimizer, found.weight_decay) == ("sgd", 1e-4)
    assert found.head == pytest.approx(0.025)
    from_nothing = rates(backbone, Settings(), 64, scratch=True)
    assert [*from_nothing.stages, from_nothing.head] == pytest.approx([0.025] * 6)
    given = rates(backbone, Settings(lr=1.0, weight_decay=0.0), 64)
    assert (given.stages[-1], given.head, given.weight_decay) == (1.0, 10.0, 0.0)
    assert rates(backbone, Settings(optimizer="adamw"), 64).stages[0] == pytest.approx(1e-4 / 16)


@pytest.mark.parametrize(
    ("name", "optimizer", "lr"),
    [("resnet10t", "sgd", 0.1), ("test_vit", "adamw", 1e-3), ("convnext_atto", "adamw", 1e-3)],
)
def test_networks_of_unknown_history_have_the_recipe_of_their_kind(name: str, optimizer: str, lr: float) -> None:
    found = original_recipe(build(name))
    assert (found.optimizer, found.lr) == (optimizer, lr)


def test_gaps_in_a_recipe_are_filled() -> None:
    bare = Recipe(optimizer="rmsprop", lr=None, batch_size=None, momentum=None, weight_decay=None, schedule=None)
    backbone = build("resnet10t", bare)
    assert original_recipe(backbone) == replace(bare, lr=0.1, batch_size=256, weight_decay=1e-4)
    assert rates(backbone, Settings(), 256).momentum == 0.9


@pytest.mark.parametrize("name", ["tiny", "vgg16", "resnet18", "resnet50", "mobilenetv1_100", "mobilenetv2_100"])
def test_every_documented_backbone_says_how_it_was_trained(name: str) -> None:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
    recipe = backbone.recipe
    assert recipe is not None
    assert None not in (recipe.lr, recipe.batch_size, recipe.weight_decay)


def test_biases_norms_and_embeddings_do_not_decay_under_adamw() -> None:
    network = Network(build("test_convnext"), 3)
    found = rates(build("test_convnext"), Settings(), 32)
    groups = parameter_groups(network, found)
    assert found.exempt
    for group in groups:
        assert group["weight_decay"] in (0.0, 0.05)
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for name, p in network.named_parameters() if not name.startswith("module.head.fc")
    )


def test_the_table_says_what_is_trained_and_since_when() -> None:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    network = Network(backbone, 4)
    table = stage_table(network, rates(backbone, Settings(lr=0.1), 32), Policy(2, every=2))
    assert [row["stage"] for row in table] == ["stem", "layer1", "layer2", "layer3", "layer4", "new head"]
    assert [row["training"] for row in table] == ["frozen"] * 2 + [f"from epoch {n}" for n in (7, 5, 3)] + ["trained"]
    assert [row["lr"] for row in table] == [0.0, 0.0, 0.1, 0.1, 0.1, 1.0]
    assert sum(row["parameters"] for row in table) == sum(p.numel() for p in network.parameters())
