"""Deconvnet projections (Zeiler and Fergus 2013): what in an image made one unit of a map respond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tlkit.backbones import activations
from tlkit.backbones.taps import evaluating
from tlkit.visualize.rectified import Rectified

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tlkit.backbones import Tap
    from tlkit.codes import Rows

_BLOCK = 1024  # rows of codes read at once


def strongest(codes: Rows | NDArray[np.float32], most: int = 9) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the images that excite each map most.

    Args:
        codes: (n, d) float32, the highest activation of each map in each image; rows of NaN are left out.
        most: how many images.

    Returns:
        rows of the images and their activations, both (most, d), strongest first; where there are fewer images, the
        row is -1 and the activation -inf.
    """
    n, d = codes.shape
    rows, values = np.full((most, d), -1, dtype=np.int64), np.full((most, d), -np.inf, dtype=np.float32)
    for start in range(0, n, _BLOCK):
        block = np.asarray(codes[start : start + _BLOCK])
        known = np.flatnonzero(~np.isnan(block).any(axis=1))
        numbers = np.broadcast_to((start + known)[:, None], (len(known), d))
        values, rows = np.concatenate([values, block[known]]), np.concatenate([rows, numbers])
        order = np.argsort(-values, axis=0, kind="stable")[:most]
        values, rows = np.take_along_axis(values, order, axis=0), np.take_along_axis(rows, order, axis=0)
    return rows, values


@dataclass(frozen=True)
class Projections:
    """What the strongest unit of one map in each of n images is projected back to.

    Attributes:
        signals: (n, C, H, W) float32, in the input of the network.
        positions: (n,) of the units in the map, counted row by row.
        values: (n,) activations of the units.
        width: of the map.
        remarks: sentences on what the pass met that the paper does not speak of.
    """

    signals: NDArray[np.float32]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]
    width: int
    remarks: tuple[str, ...]


def project(module: nn.Module, batch: Tensor, tap: Tap, channel: int) -> Projections:
    """Project the strongest activation of a map back to the input, all others of that layer set to zero (section 2.1).

    The way back is: transposed filters, ReLU of the signal at each ReLU, unpooling with the switches of max-pooling,
    nothing at local response normalisation and at biases. `Rectified` says how.

    Args:
        module: the network.
        batch: (n, C, H, W) float32, normalised by the backbone's preprocess, on the network's device.
        tap: where the map is.
        channel: its number.
    """
    with evaluating(module), torch.enable_grad(), Rectified("deconvnet") as rule:
        images = batch.detach().clone().requires_grad_()
        output = activations(module, images, [tap], "flatten")[tap.name].reshape(len(batch), tap.channels, -1)
        values, positions = output.detach()[:, channel].max(dim=1)
        alone = torch.zeros_like(output)
        alone[torch.arange(len(batch)), channel, positions] = values
        (signals,) = torch.autograd.grad(output, images, alone)
    height, width = batch.shape[2:]
    return Projections(
        signals=signals.cpu().numpy(),
        positions=positions.cpu().numpy(),
        values=values.cpu().numpy(),
        width=max(1, round((output.shape[2] * width / height) ** 0.5)),
        remarks=tuple(_remarks(rule)),
    )


def _remarks(rule: Rectified) -> Iterator[str]:
    if rule.norms:
        yield "Local response normalisation passes signals back as they are."
    if rule.others:
        yield f"The paper does not speak of these, which pass signals back as gradients do: {', '.join(rule.others)}."
    if not rule.pools:
        yield "No max-pooling, so no switches: but for their place, projections are the same for every image."
