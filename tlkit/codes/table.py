"""One array of codes on disk: a raw file of little-endian float32 rows, and the durable blocks it consists of."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
SUFFIX = ".f32"
FLOAT = np.dtype("<f4")
_PIECE = 4 << 20  # bytes in memory while a block is checked


@dataclass(frozen=True)
class Damage:
    """What is not as it was written, and is dropped so that it is computed again.

    Attributes:
        space: the space's id.
        rows: the lost rows.
        what: what is damaged about them.
        table: number of the space's entry.
        block: number of the block; None when the whole space is lost.
    """

    space: str
    rows: range
    what: str
    table: int
    block: int | None = None

    def __str__(self) -> str:
        rows = f"rows {self.rows.start} to {self.rows.stop - 1}: " if self.rows else ""
        return f"{self.space[:12]}: {rows}{self.what}"


class File:
    """A file that stays readable when it is deleted (except on Windows, which refuses to delete it).

    It is read, not memory-mapped: under a mapping a file that was cut short, or a disk error, kills the process.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._fd)

    def read_into(self, target: memoryview, offset: int) -> bool:
        """Fill `target`; False when the file is too short or cannot be read."""
        while len(target):
            try:
                n = self._read(target, offset)
            except OSError:
                return False
            if n == 0:
                return False
            target, offset = target[n:], offset + n
        return True

    def _read(self, target: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):  # leaves alone the position, which forked processes share
            return os.preadv(self._fd, [target], offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, min(len(target), _PIECE))
        target[: len(data)] = data
        return len(data)


@dataclass(frozen=True)
class Block:
    """A durable block: its number, rows of the file, and the checksum of their values."""

    number: int
    rows: range
    checksum: int


class Table:
    """What one process knows of one array; `load` adds what was committed since.

    Args:
        number: of its entry in the SQLite file; never used again.
        base: what is added to a row of the file to get the row number that this process uses.
    """

    def __init__(self, number: int, space: str, width: int, file: File, base: int = 0) -> None:
        self.number = number
        self.width = width
        self.base = base
        self.end = 0
        self._space = space
        self._file = file
        self._last = 0  # number of the last block that was loaded
        self._blocks: list[Block] = []
        self._starts = np.zeros(0, dtype=np.int64)
        self._checked = np.zeros(0, dtype=bool)

    def load(self, db: sqlite3.Connection) -> tuple[list[tuple[int, bytes]], list[Damage]]:
        """Take in the blocks that were committed since; return (first row, keys) of each, and what is damaged."""
        new, damaged = [], []
        found = db.execute(
            "SELECT number, start, rows, checksum, seal, keys FROM blocks LEFT JOIN keys ON block = number"
            " WHERE number > ? AND space = ? ORDER BY number",
            (self._last, self.number),
        )
        for number, start, rows, checksum, seal, keys in found:
            self._last = number
            if seal is None or seal != seal_block(self.number, start, rows, checksum, keys) or start < self.end:
                damaged.append(Damage(self._space, _range(start, rows), "the entry is damaged", self.number, number))
                continue
            self._blocks.append(Block(number, range(start, start + rows), checksum))
            self.end = start + rows
            new.append((start, keys))
        if new:
            self._starts = np.array([block.rows.start for block in self._blocks], dtype=np.int64)
            self._checked = np.append(self._checked, np.zeros(len(new), dtype=bool))
        return new, damaged

    def check(self, rows: NDArray[np.int64] | None = None, *, again: bool = False) -> list[Damage]:
        """Compare the blocks that hold `rows`, by default all, with their checksums, once; return the damaged ones.

        Raises:
            IndexError: there is no such row.
        """
        wanted = np.full(len(self._blocks), rows is None)
        if rows is not None and len(rows):
            places = np.searchsorted(self._starts, rows, side="right") - 1
            if places.min(initial=0) < 0 or rows.max(initial=-1) >= self.end:
                raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.end}")
            wanted[places] = True
        doubtful = [self._blocks[place] for place in np.flatnonzero(wanted & (again | ~self._checked)).tolist()]
        damaged = [block for block in doubtful if self._checksum(block.rows) != block.checksum]
        self._checked |= wanted
        for block in damaged:
            self._checked[np.searchsorted(self._starts, block.rows.start)] = False
        return [Damage(self._space, b.rows, "the values are damaged", self.number, b.number) for b in damaged]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return rows of the file, which must have been checked; None when it cannot be read."""
        out = np.empty((len(rows), self.width), dtype=FLOAT)
        size = self.width * FLOAT.itemsize
        view = as_bytes(out)
        begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # of runs that lie together in the file
        bounds = [*begins.tolist(), len(rows)]
        for begin, stop, first in zip(bounds, bounds[1:], rows[begins].tolist(), strict=False):
            if not self._file.read_into(view[begin * size : stop * size], first * size):
                return None
        return out.astype(np.float32, copy=False)

    def _checksum(self, rows: range) -> int | None:
        size = self.width * FLOAT.itemsize
        piece = memoryview(bytearray(min(_PIECE, len(rows) * size)))
        checksum = 0
        for offset in range(rows.start * size, rows.stop * size, max(1, len(piece))):
            target = piece[: rows.stop * size - offset]
            if not self._file.read_into(target, offset):
                return None
            checksum = zlib.crc32(target, checksum)
        return checksum


def file_name(space: str, number: int) -> str:
    """Name the file of a space: digits only, whatever the description says."""
    return f"{space}-{number:016x}{SUFFIX}"


def new_number() -> int:
    """Draw a number that no array has had, not even in an SQLite file that was moved aside."""
    return secrets.randbits(62)


def seal_space(number: Any, space: Any, width: Any, end: Any) -> int:  # noqa: ANN401 - whatever a damaged file holds
    """Compute the checksum of a space's entry."""
    return zlib.crc32(repr((number, space, width, end)).encode())


def seal_block(table: int, start: Any, rows: Any, checksum: Any, keys: Any) -> int | None:  # noqa: ANN401
    """Compute the checksum of a block's entry; None where no checksum can be right."""
    if not isinstance(keys, bytes) or not isinstance(rows, int) or not 0 < rows * KEY_BYTES == len(keys):
        return None
    return zlib.crc32(keys, zlib.crc32(repr((table, start, rows, checksum)).encode()))


def as_bytes(values: NDArray[np.float32]) -> memoryview:
    """Return the memory of an array as bytes, without a copy."""
    return values.reshape(-1).data.cast("B") if values.size else memoryview(b"")


def split_keys(keys: bytes) -> Sequence[bytes]:
    """Part the keys of a block."""
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]


def write(path: Path, values: NDArray[np.float32], offset: int) -> None:
    """Write rows at an offset and flush them to the disk; on failure what was written is cut off again.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(as_bytes(values))
            file.flush()
            os.fsync(file.fileno())
        if not offset:
            _sync_folder(path.parent)
    except OSError:
        with suppress(OSError):  # the next block overwrites it
            os.truncate(path, offset)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no such thing
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _range(start: object, rows: object) -> range:
    return range(start, start + rows) if isinstance(start, int) and isinstance(rows, int) else range(0)
