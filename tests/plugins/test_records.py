"""Every installed backbone's record against the network that its plugin builds, and against timm's own records."""

import pytest
import timm
import torch
from torchvision.models import get_model_weights

from tlkit import registry
from tlkit.backbones import Backbone, Record, count_macs, count_params, record_of
from tlkit.backbones.hub import published_config

NAMES = sorted(registry.entry_points("backbone").keys() - {"timm"})


def record(name: str) -> Record:
    found = record_of(registry.get("backbone", name))
    assert found is not None, f"{name} has no record"
    return found


def shapes_only(name: str) -> Backbone:
    """The backbone on torch's meta device, where numbers cost nothing."""
    with torch.device("meta"):
        backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
    return backbone


@pytest.mark.parametrize("name", NAMES)
def test_the_record_is_that_of_the_network(name: str) -> None:
    facts, backbone = record(name), shapes_only(name)
    assert backbone.name == name
    assert (backbone.reference, backbone.recipe) == (facts.reference, facts.recipe)
    assert backbone.preprocess.input_size == facts.input_size
    assert count_params(backbone.module) == facts.params
    assert count_macs(backbone.module, facts.input_size) == facts.macs


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_of_the_record_exist(name: str) -> None:
    facts = record(name)
    library, _, model = (facts.weights or "").partition("/")
    if library == "timm":
        config = published_config(model)
        assert config is not None
        assert (config.hf_hub_id, config.license) == (facts.weights, facts.license)
        assert config.architecture == model.partition(".")[0]
    elif library == "torchvision":
        assert get_model_weights(model).DEFAULT.url
        assert facts.license == "bsd-3-clause"
    else:
        assert facts.weights in (None, "tlkit_plugins.tiny")


def test_a_name_that_timm_has_too_means_timms_default_weights() -> None:
    for name in set(NAMES) & set(timm.list_models()):
        config = timm.get_pretrained_cfg(name)
        assert config is not None
        assert record(name).weights == (config.hf_hub_id if config.has_weights else None), name
