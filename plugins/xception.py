"""Xception (Chollet 2017): depthwise-separable convolutions throughout, with shortcuts."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_timm


@documented(
    Record(
        family="xception",
        input_size=(3, 299, 299),
        params=22_855_952,
        macs=8_357_403_496,
        recipe=Recipe(
            optimizer="sgd",
            lr=0.045,
            batch_size=None,
            momentum=0.9,
            weight_decay=1e-5,
            schedule="times 0.94 every 2 epochs",
        ),
        reference=Reference(
            paper="Xception: Deep Learning with Depthwise Separable Convolutions",
            authors="Chollet",
            year=2017,
            url="https://arxiv.org/abs/1610.02357",
            params=22_855_952,
            top1=79.0,
            top5=94.5,
            note="1 crop, tables 1 and 3",
        ),
    )
)
def xception(*, weights: str | None = None) -> Backbone:
    """Xception, for 299 pixels (timm's `legacy_xception`); codes of length 2048.

    Its weights are published as a pickle only, which is never read here: convert timm's `legacy_xception` to
    safetensors where you trust it.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    blocks = {f"block{number}": f"block{number}" for number in range(1, 13)}
    taps = {"conv2": "act2", **blocks, "conv3": "act3", "conv4": "act4"}
    return from_timm("legacy_xception", weights=weights, name="xception", taps=taps)
