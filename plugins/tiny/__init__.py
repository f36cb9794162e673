"""The embedded backbone: a narrow ResNet pretrained on formula-driven images, so that a first run needs no download."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm

FOLDER = Path(__file__).parent


@documented(
    Record(
        family="tiny",
        input_size=(3, 64, 64),
        params=1_263_032,
        macs=45_228_032,
        weights="tlkit_plugins.tiny",
        license="apache-2.0",
        # The defaults of `pretrain`, with two processes.
        recipe=Recipe(
            optimizer="adamw", lr=5e-3, batch_size=128, momentum=None, weight_decay=0.05, schedule="one cycle"
        ),
        reference=Reference(
            paper="Improving Fractal Pre-training",
            authors="Connor Anderson, Ryan Farrell",
            year=2021,
            url="https://arxiv.org/abs/2110.03091",
        ),
    )
)
def tiny(*, weights: str | None = "pretrained") -> Backbone:
    """Build the embedded network for pictures of 64 by 64 pixels; its pooled codes are float32 (n, 256).

    Its weights come with the package (float16, loaded as float32) and saw fractals, contours, strokes and textures
    only: see `tlkit_plugins.tiny.pretrain`. Good for trying things out and for simple pictures; photographs need more.

    Args:
        weights: "pretrained" (those in the package), a folder or .safetensors file that `pretrain` wrote, or None for
            random ones.

    Raises:
        UsageError: `weights` is none of these.
        TlkitError: they do not fit the network.
    """
    from tlkit.data import Preprocess

    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    backbone = from_timm(
        config["architecture"],
        weights=str(FOLDER) if weights == "pretrained" else weights,
        name="tiny",
        num_classes=0,
        **config["model_args"],
    )
    # timm knows the architecture at another size.
    backbone = dataclasses.replace(backbone, preprocess=Preprocess.from_timm(config["pretrained_cfg"]))
    if weights != "pretrained" or backbone.weights is None:
        return backbone
    # Where the package lies must not get into the record of a run.
    origin = dataclasses.replace(backbone.weights, source=__name__, dataset="formula-driven images")
    return dataclasses.replace(backbone, weights=origin, spec=backbone.spec | {"weights": weights})
