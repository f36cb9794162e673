"""Stages are a partition of the trunk, in timm's own order."""

from typing import Any

import pytest
import timm
from timm.models import group_parameters

from tlkit.backbones.stages import classifier_parameters, find_stages

QUICK = ["resnet10t", "mobilenetv2_100", "test_vit", "test_convnext", "deit_tiny_distilled_patch16_224", "regnetx_002"]
FULL = ["densenet121", "hrnet_w18_small", "inception_v3", "poolformerv2_s12", "rdnet_tiny", "levit_128s", "vgg11_bn"]


def check(architecture: str) -> None:
    network = timm.create_model(architecture)
    stages = find_stages(network)
    staged = [name for stage in stages for name in stage.parameters]
    head = {name for name, _ in network.named_parameters() if name.startswith(("head.fc", "fc.", "classifier."))}
    assert len(staged) == len(set(staged))
    assert set(staged) == {name for name, _ in network.named_parameters()} - classifier_parameters(network)
    assert not set(staged) & head
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names) > 2
    assert all(stage.parameters for stage in stages)


@pytest.mark.parametrize("architecture", QUICK)
def test_stages_are_a_partition_of_the_trunk(architecture: str) -> None:
    check(architecture)


@pytest.mark.full
@pytest.mark.parametrize("architecture", FULL)
def test_stages_of_more_families(architecture: str) -> None:
    check(architecture)


def test_the_order_is_timms() -> None:
    network: Any = timm.create_model("mobilenetv2_100")
    groups = group_parameters(network, network.group_matcher(coarse=True))
    stages = find_stages(network)
    assert [stage.name for stage in stages] == ["stem", *(f"blocks.{i}" for i in range(6)), "blocks.6..bn2"]
    for number, stage in enumerate(stages):
        assert list(stage.parameters) == groups[number]


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("resnet10t", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("test_vit", ["stem", *(f"blocks.{i}" for i in range(5)), "blocks.5+norm"]),
        ("csatv2", ["stem_dct", *(f"stages.{i}" for i in range(4)), "head"]),  # has no group_matcher
    ],
)
def test_names(architecture: str, names: list[str]) -> None:
    assert [stage.name for stage in find_stages(timm.create_model(architecture))] == names


def test_both_classifiers_of_a_distilled_network_are_left_out() -> None:
    network = timm.create_model("deit_tiny_distilled_patch16_224")
    assert classifier_parameters(network) == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
