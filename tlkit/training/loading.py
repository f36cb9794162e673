"""Batches of images: order and augmentation are pure functions of seed, epoch and image."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
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
_FAREWELL = 60  # seconds that these go on when all are told to end, so that a checkpoint can be written


class Examples(Dataset[tuple[Tensor, int]]):
    """Labelled images, indexed by (epoch, row), so that processes that load them know what to draw.

    For a row that an epoch has again the first is another number, so that another view of the image is drawn.
    """

    def __init__(self, images: Sequence[Image], labels: NDArray[Any], load: Load, seed: int) -> None:
        self.images, self.labels, self.load, self.seed = images, labels, load, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, row = item
        with seeded(self.seed, epoch, row):
            return self.load(self.images[row]), int(self.labels[row])


class Shuffled(Sampler[tuple[int, int]]):
    """(epoch, row) of n rows in an order of the epoch's own; Lightning calls `set_epoch`.

    Several ranks deal the rows out among them: their next batches together are the next batch of one process.

    Args:
        n: How many rows there are.
        seed: Of the order.
        rank: Which rank this is.
        ranks: How many there are.
        balance: Labels (n,) whose classes are to come equally often; None for each row once.
    """

    def __init__(
        self, n: int, seed: int, rank: int = 0, ranks: int = 1, balance: NDArray[np.int64] | None = None
    ) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.rank, self.ranks, self.balance = rank, ranks, balance
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
        if self.balance is None:
            order = [(self.epoch, row) for row in torch.randperm(self.n, generator=generator).tolist()]
        else:
            order = self._numbered(balanced(self.balance, generator))
        own = order[self.rank :: self.ranks][: len(self)]
        epoch, rows = self._done
        return iter(own[rows if epoch == self.epoch else 0 :])

    def _numbered(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        times: Counter[int] = Counter()
        order = []
        for row in rows:
            again = times[row]
            order.append((number(self.epoch, "again", again) if again else self.epoch, row))
            times[row] += 1
        return order


def balanced(labels: NDArray[np.int64], generator: torch.Generator) -> list[int]:
    """Draw as many rows as there are, equally many of each class, in random order.

    The rows of a class come equally often too, but for one. Where the number of rows is no multiple of the number of
    classes, chance decides which classes have one more.

    >>> drawn = balanced(np.array([0] * 9 + [1] * 3), torch.Generator().manual_seed(1))
    >>> len({row for row in drawn if row < 9}), sorted(row for row in drawn if row >= 9)
    (6, [9, 9, 10, 10, 11, 11])
    """
    classes = np.unique(labels)
    shuffled = classes[torch.randperm(len(classes), generator=generator).numpy()]
    drawn = []
    for place, label in enumerate(shuffled):
        rows = torch.from_numpy(np.flatnonzero(labels == label))
        wanted = len(labels) // len(classes) + (place < len(labels) % len(classes))
        rounds = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-wanted // len(rows)))]
        drawn += [torch.cat(rounds)[:wanted]] if rounds else []
    together = torch.cat(drawn)
    mixed: list[int] = together[torch.randperm(len(together), generator=generator)].tolist()
    return mixed


def training_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int, *, balance: bool = False
) -> DataLoader[Batch]:
    """Return shuffled batches, of several ranks this one's share of each.

    Those that are not full are left out, for BatchNorm does not like them. With `balance` all classes come equally
    often.

    Raises:
        UsageError: a batch cannot be shared evenly.
    """
    rank, size = ranks.world()
    if batch_size % size:
        raise UsageError(f"strategy.batch_size={batch_size}: give a multiple of {size}, the number of processes.")
    own = min(batch_size, len(data)) // size
    if own == 0:
        raise TlkitError(f"{len(data)} images to learn from are too few for {size} processes.")
    order = Shuffled(len(data), seed, rank, size, data.labels if balance else None)
    return _loader(data, load, order, own, seed, workers, drop_last=True)


def validation_loader(
    data: ImageData, load: Load | Activations, batch_size: int, seed: int, workers: int
) -> DataLoader[Batch]:
    """Return all images in their order, of several ranks every so manieth.

    All have equally many, for they make each pass together: those with one less have the first of all at their end.
    """
    rank, size = ranks.world()
    rows = [(0, row) for row in range(rank, len(data), size)]
    rows += [(0, 0)] * (-(-len(data) // size) - len(rows))
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
        worker_init_fn=_outlive,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def _outlive(worker: int) -> None:
    """Let a process that loads images go on for a while when SIGTERM reaches all of a job, as SLURM sends it."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_FAREWELL))


def dismiss(loader: DataLoader[Batch]) -> None:
    """End the processes of a loader."""
    if loader._iterator is not None:  # of persistent ones, and it would wait to be collected
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None
