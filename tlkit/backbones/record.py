"""What is published about an architecture, attached to the plugin that builds it: nothing is built to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlkit.backbones.contract import Backbone, Recipe, Reference

Plugin = Callable[..., "Backbone"]


@dataclass(frozen=True)
class Record:
    """Facts about an architecture.

    Attributes:
        family: What it is a variant of, such as "vgg".
        reference: The paper and what it claims.
        input_size: Channels, height, width.
        params: Everything that the network here learns, its original classifier included.
        macs: Multiply-adds of the network here for one image, see `count_macs`.
        recipe: How the original was trained.
        weights: What "pretrained" stands for: "timm/resnet50.a1_in1k" on the Hugging Face hub, "torchvision/alexnet",
            or None if none were published.
        license: Of those weights, as published.
    """

    family: str
    reference: Reference
    input_size: tuple[int, int, int]
    params: int
    macs: int
    recipe: Recipe | None = None
    weights: str | None = None
    license: str | None = None


def documented(record: Record) -> Callable[[Plugin], Plugin]:
    """Attach a record to a function that builds a backbone, and the record's reference and recipe to the backbone."""

    def attach(build: Plugin) -> Plugin:
        @wraps(build)
        def plugin(**settings: object) -> Backbone:
            return replace(build(**settings), recipe=record.recipe, reference=record.reference)

        plugin.record = record  # type: ignore[attr-defined]
        return plugin

    return attach


def record_of(plugin: Plugin) -> Record | None:
    """Return what `documented` attached, or None."""
    return getattr(plugin, "record", None)
