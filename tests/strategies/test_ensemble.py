"""Recipes of ensembles that stand ready."""

from tlkit import config, registry
from tlkit.backbones import record_of


def test_the_fusion_recipe_names_networks_that_have_weights() -> None:
    settings, _ = config.compose("fit", {"strategy": "fusion", "backbone": "inception_v3"})
    strategy = settings["strategy"]
    assert strategy["name"] == "ensemble"
    for name in [settings["backbone"]["name"], *strategy["backbones"]]:
        record = record_of(registry.get("backbone", name))
        assert record is not None
        assert record.weights is not None, name
