"""ImageData: labelled images and where each belongs, listed but not yet opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from tlkit.data.images import Image
from tlkit.errors import TlkitError, did_you_mean, some

Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class ImageData:
    """n labelled images. Classes are bound by name; row i of every field is the same image.

    Attributes:
        name: The kind of source or the name of the set, such as "folder" or "Flowers102".
        images: n images, opened when they are indexed.
        files: n different names for results, POSIX paths relative to the source's root.
        labels: (n,) int64, positions in `classes`.
        classes: Class names, different, in plain string order.
        split: (n,) of "train", "val", "test"; None where the source has none: `prepare` makes one.
        groups: (n,) names of what must stay on one side of a split, such as patients; None without groups.
        source: Where the images came from; fit for JSON.
        ignored: Number of files that were passed over because they are no images.
        unreadable: File to reason, of the images already left out.
        on_error: What `without` does: leave unreadable images out, or stop.
        similarity: What the user says about how like they are to what the backbone was pretrained on; None: nothing.
    """

    name: str
    images: Sequence[Image] = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    labels: Ints = field(repr=False)
    classes: tuple[str, ...]
    split: Strings | None = field(default=None, repr=False)
    groups: Strings | None = field(default=None, repr=False)
    source: dict[str, Any] = field(default_factory=dict)
    ignored: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    on_error: Literal["skip", "raise"] = "skip"
    similarity: Literal["similar", "different"] | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def held_out(self) -> str:
        """The split that results are reported on: "test" if there is one, else "val"."""
        return "test" if len(self.rows("test")) else "val"

    def rows(self, split: str) -> Ints:
        """Return the rows of "train", "val" or "test", ascending.

        Raises:
            TlkitError: The data has no split yet.
        """
        if self.split is None:
            raise TlkitError(f"{self.name}: the images are not split yet; call tlkit.data.prepare first.")
        return np.flatnonzero(self.split == split).astype(np.int64)

    def split_sizes(self) -> str:
        """Say how many images each split has, as in "244 train, 153 val"."""
        if self.split is None:
            return "not split"
        sizes = {split: len(self.rows(split)) for split in ("train", "val", "test")}
        return ", ".join(f"{size:,} {split}" for split, size in sizes.items() if size)

    def aligned(self, classes: Sequence[str]) -> ImageData:
        """Number the labels as another list of classes does, such as a trained classifier's.

        Raises:
            TlkitError: There are images of a class that the list lacks.
        """
        number = {name: label for label, name in enumerate(classes)}
        present = [self.classes[label] for label in np.unique(self.labels)]
        if unknown := [name for name in present if name not in number]:
            hint = did_you_mean(unknown[0], classes)
            raise TlkitError(f"{self.name}: unknown classes: {some(unknown)}.{hint} Known: {some(classes, 20)}.")
        table = np.array([number.get(name, -1) for name in self.classes], dtype=np.int64)
        return replace(self, labels=table[self.labels], classes=tuple(classes))

    def select(self, rows: Sequence[int] | Ints) -> ImageData:
        """Return the given rows, in the given order; `classes` stays whole."""
        index = np.asarray(rows, dtype=np.int64)
        images = self.images
        return replace(
            self,
            images=images.select(index) if isinstance(images, LazyImages) else [images[row] for row in index],
            files=tuple(self.files[row] for row in index),
            labels=self.labels[index],
            split=None if self.split is None else self.split[index],
            groups=None if self.groups is None else self.groups[index],
        )

    def without(self, errors: Mapping[int, str]) -> ImageData:
        """Leave out rows that could not be read, and record why.

        Args:
            errors: Row to reason.

        Raises:
            TlkitError: `on_error` is "raise", or a class would lose the last image to learn from.
        """
        if not errors:
            return self
        reasons = {self.files[row]: reason for row, reason in sorted(errors.items())}
        listed = some(f"{file} ({reason})" for file, reason in reasons.items())
        if self.on_error == "raise":
            raise TlkitError(
                f"{self.name}: {len(reasons)} unreadable: {listed}. "
                "Repair or remove them, or leave them out with data.on_error=skip."
            )
        kept = self.select([row for row in range(len(self)) if row not in errors])
        if lost := sorted(self._learnable() - kept._learnable()):
            raise TlkitError(f"{self.name}: no readable training image is left of class {some(lost)}: {listed}.")
        return replace(kept, unreadable={**self.unreadable, **reasons})

    def _learnable(self) -> set[str]:
        labels = self.labels if self.split is None else self.labels[self.rows("train")]
        return {self.classes[label] for label in np.unique(labels)}


class LazyImages(Sequence[Image]):
    """Images that are opened when they are indexed; a slice of them is lazy too.

    Args:
        open_row: Opens the image of one row; a module's function or a partial of one, so that processes can share it.
        rows: The rows to offer, in order.
    """

    def __init__(self, open_row: Callable[[int], Image], rows: Sequence[int] | Ints) -> None:
        self._open_row = open_row
        self._rows = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, item: int) -> Image: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Image]: ...
    def __getitem__(self, item: int | slice) -> Image | Sequence[Image]:
        if isinstance(item, slice):
            return LazyImages(self._open_row, self._rows[item])
        return self._open_row(int(self._rows[item]))

    def identity(self, row: int) -> tuple[Hashable, int]:
        """Return what is the same for the same image of the same source, whatever else is selected from it."""
        return self._open_row, int(self._rows[row])

    def select(self, rows: Ints) -> LazyImages:
        """Return the images at the given positions."""
        return LazyImages(self._open_row, self._rows[rows])


def by_name(names: Iterable[str]) -> tuple[tuple[str, ...], Ints]:
    """Turn one class name an image into sorted classes and labels.

    >>> by_name(["10", "9", "10"])
    (('10', '9'), array([0, 1, 0]))
    """
    listed = list(names)
    classes = tuple(sorted(set(listed)))
    if broken := [repr(name) for name in classes if any("\ud800" <= letter <= "\udfff" for letter in name)]:
        raise TlkitError(f"class names that are not valid text: {some(broken)}. Rename them.")
    number = {name: label for label, name in enumerate(classes)}
    return classes, np.array([number[name] for name in listed], dtype=np.int64)
