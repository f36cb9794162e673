"""From a network to a backbone: what plugins call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit.backbones.contract import Backbone, Recipe, Reference, Weights
from tlkit.backbones.stages import find_stages
from tlkit.backbones.taps import find_taps

if TYPE_CHECKING:
    from torch import nn

    from tlkit.data import Preprocess


def from_timm(
    architecture: str,
    *,
    weights: str | None,
    name: str | None = None,
    spec: Mapping[str, Any] | None = None,
    taps: Mapping[str, str] | None = None,
    recipe: Recipe | None = None,
    reference: Reference | None = None,
    **model_args: object,
) -> Backbone:
    """Make a backbone of one of timm's architectures.

    Args:
        architecture: A name of timm's, with or without the tag of published weights: "resnet50.a1_in1k".
        weights: "pretrained" (the published ones), the path of a folder in the hub's layout (config.json and
            model.safetensors), the path of a .safetensors file, or None for random ones.
        name: The plugin's; the architecture if not given.
        spec: The plugin's settings, other than `weights`, if it has any.
        taps: Name → path of a module, instead of those that timm describes.
        recipe: How the original was trained.
        reference: The paper.
        model_args: Passed on to timm; not for those that change the input (`in_chans`, `img_size`), which the
            weights' own preprocess does not know.

    Raises:
        UsageError: no such architecture, or `weights` is none of these.
        TlkitError: the weights cannot be had, or do not fill the network.
    """
    from tlkit.backbones.timm_models import timm_model
    from tlkit.data import Preprocess

    module, origin = timm_model(architecture, weights, model_args)
    config: Any = module.pretrained_cfg
    return from_module(
        module,
        name=name or architecture,
        preprocess=Preprocess.from_timm(config),
        weights=origin,
        spec={**(spec or {"name": name or architecture}), "weights": _lasting(weights)},
        taps=taps,
        recipe=recipe,
        reference=reference,
    )


def from_network(
    module: nn.Module,
    *,
    name: str,
    weights: str | None,
    preprocess: Preprocess,
    published: str | None = None,
    spec: Mapping[str, Any] | None = None,
    taps: Mapping[str, str] | None = None,
) -> Backbone:
    """Make a backbone of a network that timm does not have, and load its weights.

    Args:
        module: A network that meets timm's model interface.
        name: The plugin's.
        weights: "pretrained" if there are published ones, the path of a .safetensors file or of a folder that holds
            model.safetensors, or None for the random ones that the module has.
        preprocess: From a decoded image to the network's input.
        published: torchvision's name for the network, if "pretrained" means torchvision's weights.
        spec: The plugin's settings, other than `weights`, if it has any.
        taps: Name → path of a module, instead of those that are found.

    Raises:
        UsageError: `weights` is none of these.
        TlkitError: the weights cannot be had, or do not fill the network.
    """
    from tlkit.backbones.own_weights import fill

    return from_module(
        module,
        name=name,
        preprocess=preprocess,
        weights=fill(module, name, weights, published),
        spec={**(spec or {}), "name": name, "weights": _lasting(weights)},
        taps=taps,
    )


def from_module(
    module: nn.Module,
    *,
    name: str,
    preprocess: Preprocess,
    weights: Weights | None,
    spec: Mapping[str, Any],
    taps: Mapping[str, str] | None = None,
    recipe: Recipe | None = None,
    reference: Reference | None = None,
) -> Backbone:
    """Make a backbone of any network that meets timm's model interface.

    Taps and stages are found as in timm's models: from `feature_info`, the members of `blocks`, `stages` and
    `layers`, and `group_matcher`, as far as the network has them.
    """
    module.eval()
    return Backbone(
        name=name,
        module=module,
        taps=find_taps(module, preprocess.input_size, taps),
        stages=find_stages(module),
        preprocess=preprocess,
        weights=weights,
        recipe=recipe,
        reference=reference,
        spec=dict(spec),
    )


def _lasting(weights: str | None) -> str | None:
    """A path that still holds in another working directory."""
    return weights if weights in (None, "pretrained") else str(Path(weights).expanduser().resolve())
