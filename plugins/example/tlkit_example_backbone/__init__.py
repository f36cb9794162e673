"""A plugin of tlkit with one backbone, `smallnet`."""

from __future__ import annotations

from tlkit.backbones import Backbone, Recipe, Weights, from_module, load_weights, read_tensors, state_digest


def smallnet(*, width: int = 16, num_classes: int = 10, weights: str | None = None) -> Backbone:
    """A few convolutions for pictures of 64x64.

    Args:
        width: channels of the first stage.
        num_classes: outputs of the classifier in the file of weights.
        weights: a .safetensors file, or None for random ones.
    """
    from pathlib import Path

    from tlkit.data import Preprocess
    from tlkit_example_backbone.network import SmallNet

    module = SmallNet(width, num_classes)
    origin = None
    if weights is not None:
        weights = str(Path(weights).resolve())  # spec must hold in another working directory
        load_weights(module, read_tensors(Path(weights)), weights)
        origin = Weights(source=weights, sha256=state_digest(module), num_classes=num_classes)
    return from_module(
        module,
        name="smallnet",
        preprocess=Preprocess(
            input_size=(3, 64, 64),
            interpolation="bilinear",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            crop_pct=1.0,
        ),
        weights=origin,
        recipe=Recipe(optimizer="sgd", lr=0.1, batch_size=128, momentum=0.9, weight_decay=1e-4, schedule="cosine"),
        spec={"name": "smallnet", "width": width, "num_classes": num_classes, "weights": weights},
    )
