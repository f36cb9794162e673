"""Partial freezing on kept activations: the frozen stages run once over the images, epochs run what is trained."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tlkit import ranks
from tlkit.codes.halves import unpacked
from tlkit.data.views import PLAIN
from tlkit.training.augment import drawn
from tlkit.training.chance import seeded
from tlkit.training.splitting import NoSplit, Split, find_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone
    from tlkit.codes import CodesStore, Rows
    from tlkit.data import ImageData
    from tlkit.training import Policy, Settings
    from tlkit.training.network import Network

log = logging.getLogger(__name__)


class Activations(Dataset[tuple[Tensor, int]]):
    """What a network puts out at its boundary, with labels, indexed by (epoch, row) as images are.

    Args:
        table: Float32 (n * views, d): the views of an image stand below each other, and one is drawn each time.
        labels: (n,).
        views: How many.
        split: The boundary.
        precision: What the table is packed in.
        seed: Of the views.
    """

    def __init__(
        self,
        table: Rows | NDArray[np.float32],
        labels: NDArray[np.int64],
        views: int,
        split: Split,
        precision: str,
        seed: int,
    ) -> None:
        self.table, self.labels, self.views = table, labels, views
        self.split, self.precision, self.seed = split, precision, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> list[tuple[Tensor, int]]:
        """Read a batch at once."""
        values = self.table[np.array([row * self.views + self._view(epoch, row) for epoch, row in items])]
        whole = self.precision == "float32"
        flat = torch.from_numpy(values) if whole else unpacked(values, self.precision, self.split.width)
        maps = flat.reshape(-1, *self.split.shape)
        return [(one, int(self.labels[row])) for one, (_, row) in zip(maps, items, strict=True)]

    def _view(self, epoch: int, row: int) -> int:
        if self.views == 1:
            return 0
        with seeded(self.seed, epoch, row):  # as for the same view of an image
            return drawn(self.views)


def kept_activations(
    network: Network,
    backbone: Backbone,
    learned: ImageData,
    judged: ImageData,
    policy: Policy,
    settings: Settings,
    store: CodesStore,
    seed: int,
) -> tuple[Activations, Activations] | None:
    """Run the frozen stages over all images, and let the network begin behind them.

    Args:
        network: What will be trained; its `split` is set.
        backbone: What it was made from.
        learned: Images to learn from.
        judged: Images to choose the epoch by.
        policy: What is frozen.
        settings: Of the training.
        store: Where activations are kept.
        seed: Of the views.

    Returns:
        activations of both; None where the frozen stages have to run in every epoch, which a line of the log explains.
    """
    if policy.first == 0:
        return None  # there are none
    views = store.views if settings.augment == "views" else (PLAIN,)
    split = _split(network, policy, settings, store, len(learned) * len(views) + len(judged))
    if isinstance(split, str):
        log.info("the frozen stages run in every epoch: %s", split)
        return None
    log.info("the frozen stages run once, up to %s; epochs go on from there", split.tap.name)
    boundary = replace(backbone, taps=(split.tap,))
    made = []
    for data, chosen in ((learned, views), (judged, (PLAIN,))):
        codes = store.maps(chosen).codes(boundary, data.images, [split.tap.name])
        codes.require_all(data.images)
        precision = str(store.recipe["precision"])
        made.append(Activations(codes.table([split.tap.name]), data.labels, len(chosen), split, precision, seed))
    network.split = split
    return made[0], made[1]


def _split(network: Network, policy: Policy, settings: Settings, store: CodesStore, rows: int) -> Split | str:
    """Return where the network can begin, or why that is of no use."""
    if obstacle := _obstacle(policy, settings):
        return obstacle
    network.freeze(policy.first)
    try:
        split = find_split(network)
    except NoSplit as err:
        return str(err)
    needed = rows * split.width * (4 if store.recipe["precision"] == "float32" else 2)
    return _no_room(store, needed) or split


def _obstacle(policy: Policy, settings: Settings) -> str:
    """Say which setting makes the boundary, or what comes there, different from epoch to epoch."""
    if ranks.world()[1] > 1:
        return "several processes share the training"
    if policy.every is not None:
        return f"strategy.unfreeze_every={policy.every} moves the boundary"
    if settings.augment not in ("none", "views"):
        return f"strategy.augment={settings.augment} makes new images each time, augment=none or views would not"
    changing = ("color_jitter", "random_erasing", "mixup", "cutmix")
    found = [f"strategy.{name}={getattr(settings, name)}" for name in changing if getattr(settings, name)]
    return f"{' and '.join(found)} makes new images each time" if found else ""


def _no_room(store: CodesStore, needed: int) -> str:
    limit, free = store.cache.max_gb * 1e9, shutil.disk_usage(store.cache.dir or Path.cwd()).free
    if needed <= min(limit, free):
        return ""
    what = f"cache.max_gb={store.cache.max_gb:g}" if needed > limit else f"the {free / 1e9:.2g} GB free on the disk"
    return f"their outputs take {needed / 1e9:.2g} GB, more than {what}"
