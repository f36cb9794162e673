"""The filters of a network's first layer, and which of them are dead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tlkit.errors import TlkitError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from tlkit.backbones import Backbone

DEAD = 0.1
"""A filter with a norm below this share of the median filter's is called dead."""


@dataclass(frozen=True)
class Filters:
    """The n filters of a first layer.

    Attributes:
        layer: path of the module.
        weights: (n, C, height, width) float32, as the network applies them: the scale of a BatchNorm that follows
            is in them.
        stride: of the layer, down and across.
        scaled: whether there is such a BatchNorm.
    """

    layer: str
    weights: NDArray[np.float32]
    stride: tuple[int, int]
    scaled: bool

    @property
    def dead(self) -> NDArray[np.int64]:
        """Numbers of the filters with a norm below a tenth of the median filter's: their maps say next to nothing."""
        norms = np.sqrt(np.einsum("nchw,nchw->n", self.weights, self.weights, dtype=np.float64))
        return np.flatnonzero(norms < DEAD * np.median(norms)).astype(np.int64)

    def report(self) -> str:
        """Say what there is, and count the dead."""
        n, _, height, width = self.weights.shape
        numbers = f": {', '.join(map(str, self.dead))}" if len(self.dead) else ""
        scale = ", BatchNorm's scale included" if self.scaled else ""
        return (
            f"{self.layer}: {n} filters of {height}x{width}, stride {'x'.join(map(str, dict.fromkeys(self.stride)))}; "
            f"dead (norm below {DEAD:.0%} of the median{scale}): {len(self.dead)}{numbers}"
        )


def first_layer(backbone: Backbone) -> Filters:
    """Return the filters of the first convolution that takes images, in the order in which the network has its layers.

    Raises:
        TlkitError: there is none.
    """
    from torch import nn

    layers = list(_leaves(backbone.module))
    channels = backbone.preprocess.input_size[0]
    for (path, layer), following in pairwise([*layers, ("", None)]):
        if isinstance(layer, nn.Conv2d) and layer.in_channels == channels and layer.groups == 1:
            scale = _scale(following[1], layer.out_channels)
            weights = layer.weight.detach().float().cpu().numpy()
            stride = (layer.stride[0], layer.stride[1])
            return Filters(path, weights if scale is None else weights * scale, stride, scale is not None)
    raise TlkitError(
        f"{backbone.name} has no convolution of the image itself ({channels} channels), so no filters to show."
    )


def _leaves(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers; timm's BatchNorm holds its activation as a part of itself."""
    from torch import nn

    for path, part in module.named_modules():
        if isinstance(part, nn.BatchNorm2d) or not any(part.children()):
            yield path, part


def _scale(layer: nn.Module | None, channels: int) -> NDArray[np.float32] | None:
    """Return what a BatchNorm multiplies each of its maps by, (n, 1, 1, 1); None if the layer is none for them."""
    from torch import nn

    if not isinstance(layer, nn.BatchNorm2d) or layer.num_features != channels or layer.running_var is None:
        return None
    scale = (layer.running_var + layer.eps).rsqrt()
    scaled = scale if layer.weight is None else scale * layer.weight.detach()
    array: NDArray[np.float32] = scaled.float().cpu().numpy()[:, None, None, None]
    return array
