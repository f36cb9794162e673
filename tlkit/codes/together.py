"""Passes of several networks over the same images, each of which is decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tlkit.codes.looking import Prepared, Views

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.codes.store import CodesStore
    from tlkit.data import Image, Preprocess

_PIXEL_BYTES = 500_000_000  # of prepared images that are in memory at once
_FEWEST = 64  # images that are worth loading the networks for

Ask = tuple["CodesStore", "Backbone", Sequence[str]]


def compute_together(asks: Sequence[Ask], images: Sequence[Image]) -> None:
    """See to it that stores have the codes of several networks.

    Images go through all networks a part at a time, so that their pixels for every network are made from one decoding.
    Beside a GPU, where other processes decode, each network has a pass of its own.

    Args:
        asks: Store, network and taps of each.
        images: n of them.
    """
    if len(asks) < 2 or any(store._decode_apart for store, *_ in asks):
        size = max(1, len(images))
    else:
        pixels = sum(int(np.prod(backbone.preprocess.input_size)) * len(store.views) for store, backbone, _ in asks)
        size = max(_FEWEST, _PIXEL_BYTES // pixels)
    for start in range(0, len(images), size):
        prepared = Prepared([_wanted(*ask) for ask in asks])
        for store, backbone, taps in asks:
            store._changed(_prepared=prepared if len(asks) > 1 else None).codes(
                backbone, images[start : start + size], taps
            )


def _wanted(store: CodesStore, backbone: Backbone, taps: Sequence[str]) -> tuple[Preprocess, Callable[[bytes], Views]]:
    spaces = store._spaces(backbone, taps)
    for space in spaces.values():
        space.find(())  # takes in what is on disk
    return backbone.preprocess, partial(store._missing, spaces=spaces)
