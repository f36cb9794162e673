"""One look through the images for those that excite the maps of a tap most, and their projections."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tlkit.codes import CodesStore, cache_at
from tlkit.codes.engines import check_settings
from tlkit.data import decode
from tlkit.errors import TlkitError, UsageError, some
from tlkit.progress import progress
from tlkit.visualize.deconvnet import project, strongest
from tlkit.visualize.pages import MapPanel
from tlkit.visualize.receptive import receptive_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone, Tap
    from tlkit.data import Image
    from tlkit.visualize.deconvnet import Projections
    from tlkit.visualize.receptive import Box

log = logging.getLogger(__name__)

_PAPER = "Zeiler and Fergus 2013, section 2.1: unpooling with switches, ReLU of the signal, transposed filters."


@dataclass(frozen=True)
class Found:
    """What `project_maps` found.

    Attributes:
        tap: name of the tap.
        panels: one for each map.
        units: of each projected unit the map, rank (1 is the strongest), image, activation, row and column in the map,
            and the part of the input that it sees.
        caption: how it was done.
        errors: image to the reason why it could not be read.
    """

    tap: str
    panels: list[MapPanel]
    units: list[dict[str, Any]]
    caption: str
    errors: Mapping[int, str]


def project_maps(
    network: Backbone,
    images: Sequence[Image],
    tap: str | None,
    maps: int | list[int],
    codes: Mapping[str, Any],
    cache: Mapping[str, Any],
) -> Found:
    """Find the nine images that excite each of some maps most, and project these activations back.

    Raises:
        UsageError: no such tap or map, or settings of the pass that do not fit.
        TlkitError: no image can be read, or no map ever responds.
    """
    chosen = _tap(network, tap)
    _check_maps(chosen, maps)
    if idle := sorted(codes.keys() & {"pooling", "views"}):
        raise UsageError(f"codes.{idle[0]}: what=deconvnet looks for the highest activation of the image as it is.")
    store = CodesStore(cache_at(**cache), **{**codes, "pooling": "max"}).alone()
    found = store.codes(network, images, [chosen.name])
    if len(found.errors) == len(images):
        raise TlkitError(f"not one of the {len(images)} images can be read: {some(found.errors.values())}.")
    rows, values = strongest(found.tables[chosen.name])
    numbers = _numbers(maps, values, chosen)
    device = check_settings(device=codes.get("device", "auto"))
    module = network.module.to(device)
    panels: list[MapPanel] = []
    units: list[dict[str, Any]] = []
    remarks: dict[str, None] = {}
    with progress("projecting", len(numbers), "maps") as advance:
        for number in numbers:
            seen = rows[:, number][values[:, number] > 0]
            pixels = np.stack([network.preprocess.pixels(decode(images[int(row)])) for row in seen])
            batch = network.preprocess.normalise(torch.from_numpy(pixels).to(device))
            result = project(module, batch, chosen, number)
            boxes = receptive_fields(module, chosen, number, network.preprocess.input_size, result.positions.tolist())
            panels.append(_panel(number, pixels, result, boxes))
            units += _units(number, seen, result, boxes)
            remarks |= dict.fromkeys(result.remarks)
            advance(1)
    return Found(chosen.name, panels, units, " ".join([_PAPER, *remarks]), found.errors)


def _panel(number: int, pixels: NDArray[np.uint8], result: Projections, boxes: Sequence[Box]) -> MapPanel:
    """Cut images and projections down to what the units see."""
    parts = [(slice(top, bottom), slice(left, right)) for top, left, bottom, right in boxes]
    signals = result.signals.transpose(0, 2, 3, 1)
    return MapPanel(
        f"map {number}: activations {result.values[0]:.3g} to {result.values[-1]:.3g}",
        [image[part] for image, part in zip(pixels, parts, strict=True)],
        [signal[part] for signal, part in zip(signals, parts, strict=True)],
    )


def _units(number: int, seen: NDArray[np.int64], result: Projections, boxes: Sequence[Box]) -> Iterator[dict[str, Any]]:
    for rank, (image, box) in enumerate(zip(seen.tolist(), boxes, strict=True)):
        row, column = divmod(int(result.positions[rank]), result.width)
        yield {
            **{"map": number, "rank": rank + 1, "image": image, "activation": float(result.values[rank])},
            **{"row": row, "column": column},
            **dict(zip(("top", "left", "bottom", "right"), box, strict=True)),
        }


def _tap(network: Backbone, tap: str | None) -> Tap:
    if tap is not None:
        return network.tap(tap)
    spacious = [
        t for t in network.taps if t.reduction is not None and t.reduction < min(network.preprocess.input_size[1:])
    ]
    return spacious[-1] if spacious else network.taps[-1]


def _check_maps(tap: Tap, maps: int | list[int]) -> None:
    if isinstance(maps, int):
        if maps < 1:
            raise UsageError(f"maps={maps}: how many? Or give their numbers: maps=[3,17].")
    elif not maps or (wrong := [number for number in maps if not 0 <= number < tap.channels]):
        raise UsageError(
            f"maps={maps}: {tap.name} has maps 0 to {tap.channels - 1}, not {some(wrong) if maps else 'none'}."
        )


def _numbers(maps: int | list[int], values: NDArray[np.float32], tap: Tap) -> list[int]:
    """Return the maps to draw: those that were named, or those with the highest mean of their nine activations."""
    alive = values[0] > 0
    if isinstance(maps, list):
        if silent := [number for number in maps if not alive[number]]:
            log.warning("never above 0 in these images, so not drawn: map %s of %s", some(silent), tap.name)
        numbers = [number for number in maps if alive[number]]
    else:
        mean = np.where(values > 0, values, 0).mean(axis=0)
        numbers = [int(number) for number in np.argsort(-mean, kind="stable")[:maps] if alive[number]]
    if not numbers:
        raise TlkitError(
            f"none of the maps of {tap.name} responds to any of these images: choose others, or another tap."
        )
    return numbers
