"""timm's model interface, for networks of our own."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network in two parts: `forward_features`, and `pool` to the codes (n, num_features) that its classifier sees.

    Attributes:
        classifier_path: Where the classifier is in the network.
        num_features: Length of the codes.
        num_classes: Outputs of the classifier; 0 without one.
    """

    classifier_path: ClassVar[str] = "fc"
    num_features: int
    num_classes: int

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""

    def pool(self, x: Tensor) -> Tensor:
        """Turn the last map into codes: its mean."""
        return x.mean((2, 3))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (n, num_classes) of a last map, or its codes."""
        codes = self.pool(x)
        return codes if pre_logits else self.get_classifier()(codes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of images."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return what turns codes into logits."""
        return self.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new classifier, or none for 0 classes."""
        new = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.set_submodule(self.classifier_path, new)
        self.num_classes = num_classes
