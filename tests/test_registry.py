"""Plugins by name: what is installed, and what happens when one of them is broken."""

from collections.abc import Callable

import pytest

from tlkit import registry
from tlkit.errors import TlkitError, UsageError

Install = Callable[[str, str, str], None]


def test_our_own_plugins_come_through_the_same_door() -> None:
    assert {"tiny", "timm", "vgg16", "resnet18", "resnet50", "mobilenetv1_100", "mobilenetv2_100"} <= set(
        registry.entry_points("backbone")
    )
    assert {"digits", "folder", "manifest", "torchvision", "hf"} <= set(registry.entry_points("data"))
    assert "linear_probe" in registry.entry_points("strategy")


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_built_in_plugin_can_be_imported_and_has_a_description(kind: str) -> None:
    for name in registry.entry_points(kind):
        assert registry.get(kind, name).__doc__


def test_unknown_name_is_a_usage_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"no backbone called 'resnte50'\. Did you mean 'resnet50'"):
        registry.get("backbone", "resnte50")


def test_broken_plugin_breaks_only_itself(install: Install) -> None:
    install("bad-net", "raise RuntimeError('boom')", "[tlkit.backbones]\nbadnet = bad_net:build\n")
    assert "badnet" in registry.choices("backbone")
    assert registry.get("backbone", "vgg16").__name__ == "vgg16"
    with pytest.raises(TlkitError, match=r"'badnet' of bad-net 1\.0 cannot be imported.*RuntimeError: boom"):
        registry.get("backbone", "badnet")


def test_two_claims_on_one_name_name_both_and_only_when_asked_for(install: Install) -> None:
    code = "def build(): 'Build.'\n"
    install("one-net", code, "[tlkit.backbones]\ntwice = one_net:build\n")
    install("two-net", code, "[tlkit.backbones]\ntwice = two_net:build\n")
    assert registry.get("backbone", "vgg16").__name__ == "vgg16"
    with pytest.raises(UsageError, match=r"'twice' is claimed by .*one-net 1\.0.*Uninstall all but one"):
        registry.get("backbone", "twice")


def test_families_list_their_models() -> None:
    choices = registry.choices("backbone")
    assert "timm/convnext_tiny" in choices
    assert "timm/convnext_tiny" not in registry.choices("backbone", families=False)
    assert registry.model_names("vgg16") is None
