"""Networks of one layer after the other, as AlexNet, ZFNet and VGG are; their layers have the names of the papers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import count
from typing import Any, final

import torch
from torch import Tensor, nn

from tlkit.errors import UsageError

from .interface import Network

_CLASSES = 1000  # of ImageNet


class Chain(Network):
    """A network that begins with layers on maps, one after the other; abstract, for it has no classifier.

    Args:
        maps: The layers, by name.

    Attributes:
        feature_info: See `strides`.
    """

    classifier_path = "classifier"

    def __init__(self, maps: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._maps = tuple(maps)
        self.feature_info = strides(maps)
        for name, layer in maps.items():
            self.add_module(name, layer)

    @property
    def features(self) -> nn.Sequential:
        """The layers on maps, in order."""
        return nn.Sequential(*(getattr(self, name) for name in self._maps))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""
        for name in self._maps:
            x = getattr(self, name)(x)
        return x


@final
class Layers(Chain):
    """Layers on maps, then layers on vectors, then a classifier; (n, C, H, W) to (n, classes).

    Args:
        maps: Convolutions, poolings and what is between them, by name; what they end with is flattened.
        vectors: Fully connected layers and what is between them, by name.
        classifier: From codes to logits.
        num_features: Length of the codes.
        num_classes: What the classifier puts out.
    """

    def __init__(
        self,
        maps: Mapping[str, nn.Module],
        vectors: Mapping[str, nn.Module],
        classifier: nn.Module,
        num_features: int,
        num_classes: int,
    ) -> None:
        super().__init__(maps)
        self._vectors = tuple(vectors)
        for name, layer in vectors.items():
            self.add_module(name, layer)
        self.classifier = classifier
        self.num_features, self.num_classes = num_features, num_classes

    def pool(self, x: Tensor) -> Tensor:
        """Turn the last map into codes: those of the last hidden layer."""
        x = x.flatten(1)
        for name in self._vectors:
            x = getattr(self, name)(x)
        return x


def imagenet_network(name: str, maps: Mapping[str, nn.Module], input_size: int) -> Layers:
    """Put two layers of 4096 units with dropout, and a classifier of 1000 classes, behind layers on maps.

    Weights are drawn for training from nothing, also where the paper drew them otherwise: He et al. 2015, "Delving
    Deep into Rectifiers", equation 10.

    Args:
        name: The plugin's, for errors.
        maps: Of an RGB image, by name.
        input_size: Its sides.

    Raises:
        UsageError: nothing is left of such a small image.
    """
    features = deepcopy(nn.Sequential(*maps.values())).to("meta")
    flat = _outputs(features, input_size)
    if not flat:
        least = next(size for size in count(input_size + 1) if _outputs(features, size))
        raise UsageError(
            f"backbone.input_size={input_size}: too small for {name}, nothing is left of such an image before the "
            f"fully connected layers. Give {least} or more."
        )
    hidden = {
        "fc6": nn.Linear(flat, 4096),
        "relu6": nn.ReLU(),
        "drop6": nn.Dropout(0.5),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
        "drop7": nn.Dropout(0.5),
    }
    network = Layers(maps, hidden, nn.Linear(4096, _CLASSES), 4096, _CLASSES)
    initialise(network)
    return network


def initialise(network: Network) -> None:
    """Draw weights for rectified units by He's rule, and small ones for the classifier: all classes begin equal."""
    classifier = set(network.get_classifier().modules())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if layer in classifier:
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def response_norm() -> nn.LocalResponseNorm:
    """Return the normalisation across maps of Krizhevsky et al. 2012, section 3.3.

    The paper multiplies the sum over 5 maps by alpha = 1e-4, torch their mean.
    """
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def strides(layers: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """Say how many pixels of the image a step is behind each layer of a chain, in timm's words.

    >>> strides({"conv1": nn.Conv2d(3, 96, 11, stride=4), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(3, stride=2)})[2]
    {'module': 'pool1', 'reduction': 8}
    """
    info, step = [], 1
    for name, layer in layers.items():
        for stride in (getattr(part, "stride", 1) for part in layer.modules()):
            step *= stride if isinstance(stride, int) else stride[0]
        info.append({"module": name, "reduction": step})
    return info


def _outputs(features: nn.Module, input_size: int) -> int:
    """Count what layers, on torch's meta device, put out for an RGB image; 0 where a map would vanish."""
    if input_size < 1:
        return 0
    try:
        return features(torch.zeros(1, 3, input_size, input_size, device="meta")).numel()  # type: ignore[no-any-return]
    except RuntimeError:  # torch's way to say so
        return 0
