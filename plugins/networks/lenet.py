"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import Layers

# Table I: the maps of S2 that each map of C3 takes.
TABLE_1 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Digits of 7x12 pixels, the targets of the ten outputs. The paper's own are in its figure 3; these are drawn anew.
GLYPHS = """
..###.. ...#... .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ...#.#. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# ..#..#. #.####. #.####. .....#. .#...#. #.....#
#.....# ...#... ....#.. ..####. .#...#. ##....# ##....# ....#.. ..###.. .######
#.....# ...#... ...#... ......# .#...#. ......# #.....# ....#.. .#...#. ......#
#.....# ...#... ..#.... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... #...... ......# .....#. #.....# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. .#...#. .#...#. ..#.... #.....# .....#.
..###.. .#####. ####### .#####. .....#. ..###.. ..###.. ..#.... .#####. .####..
"""


class Squash(nn.Module):
    """f(x) = 1.7159 tanh(2x/3), of appendix A: f(1) = 1, f(-1) = -1, and curved most there."""

    def forward(self, x: Tensor) -> Tensor:
        """Squash each number."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of each 2x2 window, times a coefficient and plus a bias, both learned, of the map (section II-B)."""

    stride = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.5))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of half the height and width."""
        sums = 4 * functional.avg_pool2d(x, 2)
        return sums * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """5x5 convolutions, each of its own selection of the maps.

    Only the kernels that exist are learned. They are laid out among zeros for one convolution of all maps with all,
    which multiplies more often than it has to and still is ten times faster than one for each selection.

    Attributes:
        weight: (kernels, 5, 5), those of the first selection first.
        bias: (selections,).
    """

    def __init__(self, selections: tuple[tuple[int, ...], ...], channels: int) -> None:
        super().__init__()
        self.channels = channels
        pairs = [number * channels + map_ for number, maps in enumerate(selections) for map_ in maps]
        fan_in = torch.tensor([25 * len(maps) for maps in selections for _ in maps])
        self.weight = nn.Parameter(torch.randn(len(pairs), 5, 5) * fan_in[:, None, None] ** -0.5)
        self.bias = nn.Parameter(torch.zeros(len(selections)))
        places = torch.tensor(
            [pairs.index(at) if at in pairs else len(pairs) for at in range(len(selections) * channels)]
        )
        self.register_buffer("places", places, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map for each selection."""
        kernels = torch.cat([self.weight, self.weight.new_zeros(1, 5, 5)])
        laid_out = kernels.index_select(0, self.get_buffer("places")).view(-1, self.channels, 5, 5)
        return functional.conv2d(x, laid_out, self.bias)


class EuclideanRBF(nn.Module):
    """Units that compare codes (n, 84) with the pixels, +1 and -1, of a glyph each; nothing is learned here.

    The paper's outputs are squared distances, of which the smallest wins. These are minus the squared distances, so
    that the largest wins, as with all logits.
    """

    def __init__(self) -> None:
        super().__init__()
        rows = [line.split() for line in GLYPHS.split("\n") if line]
        digits = ["".join(parts) for parts in zip(*rows, strict=True)]
        pixels = [[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits]
        self.register_buffer("glyphs", torch.tensor(pixels), persistent=False)  # fixed: no file has to have them

    def forward(self, x: Tensor) -> Tensor:
        """Return minus the squared distances, (n, 10)."""
        glyphs: Tensor = self.get_buffer("glyphs")
        return -(x[:, None] - glyphs).square().sum(2)


def lenet5_1998() -> Layers:
    """Build the network of section II-B, on grey images of 32x32 pixels.

    Weights are drawn with a deviation of fan-in ** -0.5, as LeCun et al. 1998, "Efficient BackProp", section 4.6, has
    it for this activation: the smaller ones of the paper need its own optimizer.
    """
    maps = {
        "c1": nn.Conv2d(1, 6, 5),
        "c1_squashed": Squash(),
        "s2": Subsampling(6),
        "s2_squashed": Squash(),
        "c3": PartialConvolution(TABLE_1, 6),
        "c3_squashed": Squash(),
        "s4": Subsampling(16),
        "s4_squashed": Squash(),
        "c5": nn.Conv2d(16, 120, 5),
        "c5_squashed": Squash(),
    }
    vectors = {"f6": nn.Linear(120, 84), "f6_squashed": Squash()}
    network = Layers(maps, vectors, EuclideanRBF(), num_features=84, num_classes=10)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
