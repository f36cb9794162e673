"""torchvision's SqueezeNet (Iandola et al. 2016) behind timm's interface."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .interface import Network


class SqueezeNet(Network):
    """A network without a fully connected layer: its classifier is a 1x1 convolution, a ReLU and then the mean.

    The codes are the mean of what enters that convolution (n, 512). The names in the state dict are torchvision's.
    """

    classifier_path = "classifier.1"

    def __init__(self, version: Literal["1_0", "1_1"]) -> None:
        super().__init__()
        from torchvision.models import squeezenet1_0, squeezenet1_1

        self.num_classes, self.num_features = 1000, 512
        original = {"1_0": squeezenet1_0, "1_1": squeezenet1_1}[version](weights=None)
        self.features: nn.Module = original.features
        self.classifier: nn.Sequential = original.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) into (n, 512, 13, 13)."""
        return self.features(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (n, num_classes) of a last map, or its codes."""
        if pre_logits:
            return self.pool(self.classifier[0](x))
        return self.classifier(x).flatten(1)  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new convolution for its classes, or none for 0 classes."""
        self.classifier[1] = nn.Conv2d(512, num_classes, 1) if num_classes else nn.Identity()
        self.num_classes = num_classes
