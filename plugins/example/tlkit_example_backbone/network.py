"""The network: put yours here."""

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Three stages of one convolution each, with timm's model interface; (n, 3, H, W) in, (n, classes) out."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.stem = _convolution(3, width)
        self.stages = nn.Sequential(
            _convolution(width, width), _convolution(width, 2 * width), _convolution(2 * width, 4 * width)
        )
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer; tlkit puts a head of its own in its place."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer; 0 classes: none."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, (n, num_features, H / 16, W / 16)."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the map, (n, num_features), and, unless `pre_logits`, classify."""
        codes = x.mean((2, 3))
        logits: Tensor = self.classifier(codes)
        return codes if pre_logits else logits

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return self.forward_head(self.forward_features(x))


def _convolution(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )
