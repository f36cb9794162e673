"""Codes of images: what the frozen pass gives, as arrays or as tables that are read from the store when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tlkit.codes.rows import Rows
from tlkit.data import Image
from tlkit.errors import TlkitError, UsageError, some

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone


@dataclass(frozen=True)
class Codes:
    """Codes of n images at some taps; v views of each image stand below each other.

    Attributes:
        tables: tap name to float32 (n * v, d), in the store on disk; the rows of unreadable images are NaN, and d is 0
            if all are.
        errors: image to the reason why it could not be read.
        views: v.
    """

    tables: Mapping[str, Rows]
    errors: dict[int, str] = field(default_factory=dict)
    views: int = 1

    @cached_property
    def values(self) -> dict[str, NDArray[np.float32]]:
        """The same in memory: tap name to float32 (n * v, d)."""
        return {tap: np.asarray(table) for tap, table in self.tables.items()}

    def require_all(self, images: Sequence[Image]) -> None:
        """Stop unless each of the images could be read.

        Raises:
            TlkitError: with the images that could not, and why.
        """
        require_all(images, self.errors)

    def rows(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in the tables the views of some images are: (images * v,)."""
        rows: NDArray[np.int64] = (images[:, None] * self.views + np.arange(self.views)).ravel()
        return rows

    def table(self, taps: Sequence[str], images: NDArray[np.int64] | None = None) -> NDArray[np.float32] | Rows:
        """Join taps side by side, for some images or for all: float32 (n * v, sum of d).

        In memory if it takes no more than a quarter of what is free, and otherwise read from the store in slices.
        """
        joined = Rows.beside([self.tables[tap] for tap in taps])
        if images is not None:
            joined = joined.select(self.rows(images))
        return np.asarray(joined) if _fits(joined.shape) else joined

    def concatenated(self) -> NDArray[np.float32]:
        """Join all taps side by side in memory: float32 (n * v, sum of d)."""
        return np.asarray(Rows.beside(list(self.tables.values())))


def require_all(images: Sequence[Image], errors: Mapping[int, str]) -> None:
    """Stop unless each of the images could be read.

    Raises:
        TlkitError: with the images that could not, and why.
    """
    if errors:
        raise TlkitError(f"cannot read {some([f'{images[row]} ({why})' for row, why in errors.items()])}.")


def _fits(shape: tuple[int, int]) -> bool:
    import psutil

    return 4 * shape[0] * shape[1] <= psutil.virtual_memory().available / 4


def known_taps(backbone: Backbone, taps: str | Sequence[str], key: str) -> list[str]:
    """Return the taps that a setting called `key` names, as a list.

    Raises:
        UsageError: the backbone has no such tap, one is named twice, or none is named.
    """
    wanted = [taps] if isinstance(taps, str) else list(taps)
    for tap in wanted:
        try:
            backbone.tap(tap)
        except UsageError as err:
            raise UsageError(f"{key}={tap}: {err}") from err
    if not wanted or len({*wanted}) < len(wanted):
        raise UsageError(f"{key}={wanted}: name at least one tap, and each once.")
    return wanted
