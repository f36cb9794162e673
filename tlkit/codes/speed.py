"""How fast a network is here: images a second through the engine that makes its codes, decoding left out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlkit.codes.engines import make_engine

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.codes.store import CodesStore

_SECONDS, _BATCHES = 0.5, 3


def images_per_second(store: CodesStore, backbone: Backbone, taps: Sequence[str]) -> float:
    """Time batches of black images, for half a second and three batches at least, after one that is not counted."""
    engine = make_engine(
        backbone,
        taps,
        **store._engine,
        pooling=store.pooling,
        batch_size=store.batch_size,
        cache=store.cache.networks,
    )
    channels, height, width = backbone.preprocess.input_size
    batch = np.zeros((engine.batch_size, height, width, channels), dtype=np.uint8)
    engine(batch)
    started, batches = time.perf_counter(), 0
    while batches < _BATCHES or time.perf_counter() - started < _SECONDS:
        engine(batch)
        batches += 1
    return batches * len(batch) / (time.perf_counter() - started)
