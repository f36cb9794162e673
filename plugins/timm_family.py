"""Every architecture of timm, `backbone=timm/NAME` or `backbone=timm/NAME.TAG`."""

from tlkit.backbones import Backbone, from_timm


def build(*, model: str, weights: str | None = "pretrained") -> Backbone:
    """Build any of timm's architectures.

    Args:
        model: timm's name, if need be with the tag of its weights: "convnext_tiny", "resnet50.a1_in1k".
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm(model, weights=weights, name=f"timm/{model}", spec={"name": "timm", "model": model})
