"""Codes that were computed once are not computed again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.codes.extraction import Codes, check_settings, extract
from tlkit.data import Image, UnreadableImage, digest
from tlkit.data.imagedata import LazyImages
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from tlkit.backbones import Backbone

_CHUNK = 1024  # files that are read ahead


class CodesStore:
    """Codes by backbone, tap and content of the image, kept in memory as long as the store lives.

    Rows are keyed by content, so an image that occurs twice is passed through the network once, and an edited
    file is never answered with the codes of its old content.

    Args:
        settings: keyword arguments of `extract`.

    Raises:
        UsageError: settings that `extract` refuses.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        check_settings(**settings)
        self.settings = settings
        self.forwards = 0  # images that went through a network so far
        self._rows: dict[tuple[nn.Module, str], dict[str, NDArray[np.float32]]] = {}
        self._unreadable: dict[str, str] = {}
        self._digests: dict[LazyImages, tuple[dict[int, str], dict[int, str]]] = {}

    def codes(self, backbone: Backbone, images: Sequence[Image], taps: Sequence[str]) -> Codes:
        """Return the codes of n images at `taps`, computing what the store does not have.

        Raises:
            UsageError: as `extract`.
        """
        keys, errors = self._keys(images)
        tables = [self._rows.setdefault((backbone.module, tap), {}) for tap in taps]
        wanted = {
            key: row
            for row, key in keys.items()
            if key not in self._unreadable and any(key not in table for table in tables)
        }
        if wanted:
            missing = LazyImages(images.__getitem__, list(wanted.values()))
            self._extract(backbone, missing, list(wanted), taps)
        errors = errors | {row: self._unreadable[key] for row, key in keys.items() if key in self._unreadable}
        values = {tap: _table(table, keys, len(images)) for tap, table in zip(taps, tables, strict=True)}
        return Codes(values, dict(sorted(errors.items())))

    def _keys(self, images: Sequence[Image]) -> tuple[dict[int, str], dict[int, str]]:
        if not isinstance(images, LazyImages):  # a list may hold something else the next time
            return _digests(images)
        if images not in self._digests:
            self._digests[images] = _digests(images)
        return self._digests[images]

    def _extract(self, backbone: Backbone, images: Sequence[Image], keys: list[str], taps: Sequence[str]) -> None:
        new = extract(backbone, images, taps, **self.settings)
        self._unreadable |= {keys[row]: reason for row, reason in new.errors.items()}
        self.forwards += len(images) - len(new.errors)
        for tap, values in new.values.items():
            readable = {key: values[row] for row, key in enumerate(keys) if row not in new.errors}
            self._rows[backbone.module, tap].update(readable)


def _digests(images: Sequence[Image]) -> tuple[dict[int, str], dict[int, str]]:
    """Return the content key of each readable row, and why the others cannot be read."""

    def key(row: int) -> tuple[str, str]:
        try:
            return digest(images[row]), ""
        except (UnreadableImage, OSError) as err:
            return "", str(err)

    keys: dict[int, str] = {}
    reasons: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("reading", len(images)) as advance:
        for start in range(0, len(images), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(images)))
            for row, (found, reason) in zip(rows, pool.map(key, rows), strict=True):
                (keys if found else reasons)[row] = found or reason
            advance(len(rows))
    return keys, reasons


def _table(table: dict[str, NDArray[np.float32]], keys: dict[int, str], n: int) -> NDArray[np.float32]:
    width = len(next(iter(table.values()), ()))
    values = np.full((n, width), np.nan, dtype=np.float32)
    for row, key in keys.items():
        if key in table:
            values[row] = table[key]
    return values
