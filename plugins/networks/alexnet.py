"""AlexNet: the two forms of the paper (Krizhevsky, Sutskever and Hinton 2012), and torchvision's."""

from typing import final

from torch import Tensor, nn

from .interface import Network
from .layers import Layers, imagenet_network, response_norm, strides


def alexnet_2012(name: str, input_size: int, halves: int) -> Layers:
    """Build the network of section 3.5; with `halves` = 2 as on its two GPUs.

    Then kernels of conv2, conv4 and conv5 see only those maps of the layer before that are on their GPU.
    """
    maps = {
        "conv1": nn.Conv2d(3, 96, 11, stride=4),
        "relu1": nn.ReLU(),
        "norm1": response_norm(),
        "pool1": nn.MaxPool2d(3, stride=2),
        "conv2": nn.Conv2d(96, 256, 5, padding=2, groups=halves),
        "relu2": nn.ReLU(),
        "norm2": response_norm(),
        "pool2": nn.MaxPool2d(3, stride=2),
        "conv3": nn.Conv2d(256, 384, 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(384, 384, 3, padding=1, groups=halves),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(384, 256, 3, padding=1, groups=halves),
        "relu5": nn.ReLU(),
        "pool5": nn.MaxPool2d(3, stride=2),
    }
    return imagenet_network(name, maps, input_size)


@final
class TorchvisionAlexNet(Network):
    """torchvision's layers under torchvision's names, so that its published weights fit, behind timm's interface."""

    classifier_path = "classifier.6"

    def __init__(self) -> None:
        from torchvision.models import alexnet

        super().__init__()
        original = alexnet()
        self.features, self.avgpool, self.classifier = original.features, original.avgpool, original.classifier
        self.feature_info = strides({f"features.{name}": layer for name, layer in self.features.named_children()})
        self.num_features, self.num_classes = 4096, 1000

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""
        return self.features(x)  # type: ignore[no-any-return]

    def pool(self, x: Tensor) -> Tensor:
        """Turn the last map into codes: fc7."""
        return self.classifier[:-1](self.avgpool(x).flatten(1))  # type: ignore[no-any-return]
