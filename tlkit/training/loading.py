"""Batches of images: order and augmentation are pure functions of seed, epoch and image."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tlkit import ranks
from tlkit.codes.engines import processors
from tlkit.errors import TlkitError, UsageError
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
    """(epoch, row) of n rows in an order of the epoch's own; Lightning calls `set_epoch`.

    Several ranks deal the rows out among them: their next batches together are the next batch of one process.
    """

    def __init__(self, n: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.rank, self.ranks = rank, ranks
        self._done = (0, 0)

    def go_on(self, epoch: int, rows: int) -> None:
        """Leave out the first rows, of this rank, of an epoch from which training goes on."""
        self.epoch, self._done = epoch, (epoch, rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.ranks

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(number(self.seed, "order", self.epoch))
        order = torch.randperm(self.n, generator=generator)
        own = order[self.rank :: self.ranks][: len(self)]
        epoch, rows = self._done
        return iter([(self.epoch, int(row)) for row in own[rows if epoch == self.epoch else 0 :]])


def training_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int
) -> DataLoader[Batch]:
    """Return shuffled batches, of several ranks this one's share of each.

    Those that are not full are left out, for BatchNorm does not like them.

    Raises:
        UsageError: a batch cannot be shared evenly.
    """
    rank, size = ranks.world()
    if batch_size % size:
        raise UsageError(f"strategy.batch_size={batch_size}: give a multiple of {size}, the number of processes.")
    own = min(batch_size, len(data)) // size
    if own == 0:
        raise TlkitError(f"{len(data)} images to learn from are too few for {size} processes.")
    return _loader(data, load, Shuffled(len(data), seed, rank, size), own, seed, workers, drop_last=True)


def validation_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int
) -> DataLoader[Batch]:
    """Return all images in their order, of several ranks every so manieth."""
    rank, size = ranks.world()
    rows = [(0, row) for row in range(rank, len(data), size)]
    return _loader(data, load, rows, max(1, batch_size // size), seed, workers, drop_last=False)


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
        worker_init_fn=_end_by_the_parent if processes else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def _end_by_the_parent(worker: int) -> None:
    """Leave it to the parent to end this process: where all are told to (SIGTERM), it still writes a checkpoint."""
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def watch() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
