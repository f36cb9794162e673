"""A small network of one's own, for what no real one does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tlkit.backbones import Backbone, from_module
from tlkit.data import Preprocess

MakeSmall = Callable[..., Backbone]


class Small(nn.Module):
    """A network of a few layers that meets timm's interface."""

    num_classes = 2

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*layers)
        self.classifier = nn.LazyLinear(2)

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean((2, 3))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@pytest.fixture(scope="session")
def small_backbone() -> MakeSmall:
    """Return a function from layers, and the mean of the preprocess, to a backbone of them."""

    def make(*layers: nn.Module, mean: float = 0.5) -> Backbone:
        module = Small(*layers).eval()
        module(torch.zeros(1, 3, 32, 32))
        preprocess = Preprocess((3, 32, 32), "bilinear", (mean,) * 3, (0.2,) * 3, 1.0)
        return from_module(module, name="small", preprocess=preprocess, weights=None, spec={"name": "small"})

    return make
