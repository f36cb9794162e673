"""Batches of images: order and augmentation are pure functions of seed, epoch and image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tlkit.codes.engines import processors
from tlkit.training.chance import number, seeded
from tlkit.training.kept import Activations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.data import Image, ImageData
    from tlkit.training.augment import Load

Batch = tuple[Tensor, Tensor]
"""Pixels (n, H, W, C) uint8, or kept activations (n, ...) float32, and labels (n,) int64."""

_MOST = 16  # processes
_FEW = 64  # images that are read sooner than other processes are started


class Examples(Dataset[tuple[Tensor, int]]):
    """Labelled images, indexed by (epoch, row), so that processes that load them know what to draw."""

    def __init__(self, images: Sequence[Image], labels: NDArray[Any], load: Load, seed: int) -> None:
        self.images, self.labels, self.load, self.seed = images, labels, load, seed

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, row = item
        with seeded(self.seed, epoch, row):
            return self.load(self.images[row]), int(self.labels[row])


class Shuffled(Sampler[tuple[int, int]]):
    """(epoch, row) of n rows in an order of the epoch's own; Lightning calls `set_epoch`."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(number(self.seed, "order", self.epoch))
        order = torch.randperm(self.n, generator=generator)
        return iter([(self.epoch, int(row)) for row in order])


def training_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int
) -> DataLoader[Batch]:
    """Return shuffled batches; those that are not full are left out, for BatchNorm does not like them."""
    batch_size = min(batch_size, len(data))
    return _loader(data, load, Shuffled(len(data), seed), batch_size, seed, workers, drop_last=True)


def validation_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int
) -> DataLoader[Batch]:
    """Return all images in their order."""
    return _loader(data, load, [(0, row) for row in range(len(data))], batch_size, seed, workers, drop_last=False)


def _loader(
    data: ImageData,
    load: Load | Activations,
    sampler: Iterable[tuple[int, int]],
    batch_size: int,
    seed: int,
    workers: int,
    *,
    drop_last: bool,
) -> DataLoader[Batch]:
    examples: Dataset[Any] = load if isinstance(load, Activations) else Examples(data.images, data.labels, load, seed)
    most = min(workers, processors(), _MOST) if isinstance(examples, Examples) else 1  # which have something to do
    processes = most if most > 1 and len(data) > _FEW else 0
    return DataLoader(
        examples,
        batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=processes,
        persistent_workers=processes > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )
