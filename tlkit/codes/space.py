"""The codes of one tap of one network, preprocess, view, precision and engine, in a store on disk."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tlkit.codes import table
from tlkit.codes.table import Damage, Table
from tlkit.errors import TlkitError, some

if TYPE_CHECKING:
    from tlkit.codes.disk import Disk

_BLOCK = 1024  # rows that a checksum covers, at most
_TOUCH = 60.0  # seconds between two notes that a space is in use


class DamagedBlock(TlkitError):
    """Rows that were asked for are damaged: they are dropped, so that `find` misses them and they can be computed."""


class Space:
    """Rows of float32 codes by the 32-byte key of their image; `Disk.space` makes it.

    Row numbers hold as long as the object lives, also when another process removes the space from the disk: the file
    stays open, and what is appended then goes to a new one.

    Attributes:
        id: SHA-256 of the description.
        description: what the space holds, as JSON.
    """

    def __init__(self, disk: Disk, name: str, description: str) -> None:
        self.id = name
        self.description = description
        self._disk = disk
        self._tables: list[Table] = []  # the last may be on disk still; those before it are not
        self._row_of = np.full(0, -1, dtype=np.int64)  # of each key, by the number that the disk gives it
        self._touched = 0.0

    @property
    def width(self) -> int | None:
        """Columns; None before the first row."""
        return self._tables[-1].width if self._tables else None

    def __contains__(self, key: bytes) -> bool:
        """Say whether a key has a row, as far as this process knows; cheap, and safe in threads."""
        rows, number = self._row_of, self._disk.number(key)
        return bool(0 <= number < len(rows) and rows[number] >= 0)

    def find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the row of each key, -1 where it is missing; sees what other processes have committed."""
        with self._disk.lock:
            damaged = self._disk.run(self.load, write=False)
            self._drop(damaged)
            self._touch()
            numbers = np.fromiter(map(self._disk.number, keys), dtype=np.int64, count=len(keys))
            known = (numbers >= 0) & (numbers < len(self._row_of))
            rows = np.full(len(keys), -1, dtype=np.int64)
            rows[known] = self._row_of[numbers[known]]
        return rows

    def append(self, keys: Sequence[bytes], values: NDArray[np.float32]) -> None:
        """Add n rows, float32 (n, d), durably; see `Disk.append`."""
        self._disk.append(keys, {self: values})

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows that `find` gave, in a new array (n, d); their blocks are checked the first time.

        Raises:
            DamagedBlock: some are damaged. They are missing from now on.
            IndexError: there is no such row.
        """
        rows = np.asarray(rows, dtype=np.int64)
        self.check(rows)
        out = None
        for part, places, local in self._parts(rows):
            values = part.read(local)
            if values is None:  # the file was cut, or the disk fails: which blocks are lost?
                self.check(rows, again=True)
                raise TlkitError(f"{self._disk.folder}: codes cannot be read. Check the disk.")
            if len(local) == len(rows):
                return values
            out = np.empty((len(rows), part.width), dtype=np.float32) if out is None else out
            out[places] = values
        return np.empty((0, self.width or 0), dtype=np.float32) if out is None else out

    def check(self, rows: NDArray[np.int64], *, again: bool = False) -> None:
        """Check the blocks that hold these rows, unless this process has done so before.

        Raises:
            DamagedBlock: some are damaged. They are missing from now on.
            IndexError: there is no such row.
        """
        damaged = []
        with self._disk.lock:
            self._touch()
            for part, _, local in self._parts(np.asarray(rows, dtype=np.int64)):
                found = part.check(local, again=again)
                for lost in found:
                    first, last = part.base + lost.rows.start, part.base + lost.rows.stop
                    self._row_of[(self._row_of >= first) & (self._row_of < last)] = -1
                damaged += found
            self._drop(damaged)
        if damaged:
            raise DamagedBlock(f"damaged codes in {self._disk.folder}: {some(damaged)}. They will be computed again.")

    def load(self, db: sqlite3.Connection) -> list[Damage]:
        """Take in what was committed since; return what is damaged."""
        current, damaged = self.open(db)
        if current is None:
            return damaged
        if not self._tables or current is not self._tables[-1]:
            self._tables.append(current)
        new, damaged = current.load(db)
        for start, keys in new:
            numbers = self._disk.numbers(table.split_keys(keys))
            self._reserve(max(numbers) + 1)
            self._row_of[numbers] = np.arange(start, start + len(numbers)) + current.base
        return damaged

    def open(self, db: sqlite3.Connection) -> tuple[Table | None, list[Damage]]:
        """Open the array that the space has on disk now, if it has one."""
        entry, damaged = self._entry(db)
        if entry is None:
            return None, damaged
        number, width, _ = entry
        if self._tables and self._tables[-1].number == number:
            return self._tables[-1], []
        base = self._tables[-1].base + self._tables[-1].end if self._tables else 0
        try:  # no other process can remove it before this transaction ends
            return Table(number, self.id, width, table.File(self._disk.path(self.id, number)), base), []
        except FileNotFoundError:
            return None, [Damage(self.id, range(0), "its file is gone", number)]

    def write(self, db: sqlite3.Connection, keys: Sequence[bytes], values: NDArray[np.float32]) -> None:
        """Write the rows whose keys are missing behind the others, and enter them; part of a transaction.

        Raises:
            OSError: the disk is full, or the file cannot be written.
            TlkitError: the values have another width than those before.
        """
        forget(db, self.load(db))
        rows = list({key: row for row, key in enumerate(keys) if key not in self}.values())
        if not rows:
            return
        entry = self._entry(db)[0]
        if entry and not self._disk.path(self.id, entry[0]).exists():  # someone deleted it while it was open here
            forget(db, [Damage(self.id, range(0), "its file is gone", entry[0])])
            entry = None
        number, width, end = entry or self._begin(db, values.shape[1])
        if values.shape[1] != width:
            raise TlkitError(
                f"codes of width {values.shape[1]} do not fit those on disk, of width {width}: remove them with "
                f"tlkit codes prune id={self.id[:12]}. They are of {self.description}"
            )
        new = np.ascontiguousarray(values[rows], dtype=table.FLOAT)
        table.write(self._disk.path(self.id, number), new, end * width * table.FLOAT.itemsize)
        for at in range(0, len(rows), _BLOCK):
            part = b"".join(keys[row] for row in rows[at : at + _BLOCK])
            _enter(db, number, end + at, part, zlib.crc32(table.as_bytes(new[at : at + _BLOCK])))
        end += len(rows)
        db.execute(
            "UPDATE spaces SET end = ?, used = ?, seal = ? WHERE number = ?",
            (end, time.time(), table.seal_space(number, self.id, width, end), number),
        )

    def _entry(self, db: sqlite3.Connection) -> tuple[tuple[int, int, int] | None, list[Damage]]:
        """Return number, width and end as they are on disk now."""
        row = db.execute("SELECT number, width, end, seal FROM spaces WHERE id = ?", (self.id,)).fetchone()
        if row is None:
            return None, []
        number, width, end, seal = row
        if seal != table.seal_space(number, self.id, width, end):
            return None, [Damage(self.id, range(0), "its entry is damaged", number)]
        return (number, width, end), []

    def _begin(self, db: sqlite3.Connection, width: int) -> tuple[int, int, int]:
        number, now = table.new_number(), time.time()
        db.execute(
            "INSERT INTO spaces VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
            (number, self.id, self.description, width, now, now, table.seal_space(number, self.id, width, 0)),
        )
        return number, width, 0

    def _parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[Table, NDArray[np.intp], NDArray[np.int64]]]:
        """Part row numbers by table: which of them, and the rows of its file."""
        if len(rows) and not self._tables:
            raise IndexError(f"rows {rows.min()} to {rows.max()} of none")
        bases = np.array([part.base for part in self._tables], dtype=np.int64)
        owners = np.maximum(np.searchsorted(bases, rows, side="right") - 1, 0)
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            yield self._tables[owner], places, rows[places] - self._tables[owner].base

    def _reserve(self, size: int) -> None:
        if size > len(self._row_of):  # replaced as a whole: other threads read the old one or the new one
            larger = np.full(max(size, 2 * len(self._row_of)), -1, dtype=np.int64)
            larger[: len(self._row_of)] = self._row_of
            self._row_of = larger

    def _touch(self) -> None:
        """Note that the space is in use, now and then."""
        now = time.time()
        if self._tables and now - self._touched > _TOUCH:
            self._touched = now
            note = ("UPDATE spaces SET used = ? WHERE number = ?", (now, self._tables[-1].number))
            with suppress(TlkitError):  # what can be read can be used
                self._disk.run(lambda db: db.execute(*note), write=True)

    def _drop(self, damaged: list[Damage]) -> None:
        if damaged:
            self._disk.drop(damaged)


def forget(db: sqlite3.Connection, damaged: Sequence[Damage]) -> None:
    """Delete the entries of what is damaged."""
    for lost in damaged:
        if lost.block is None:
            db.execute("DELETE FROM spaces WHERE number = ?", (lost.table,))
        else:
            db.execute("DELETE FROM blocks WHERE number = ? AND space = ?", (lost.block, lost.table))
    if damaged:
        forget_orphans(db)


def forget_orphans(db: sqlite3.Connection) -> None:
    """Delete the entries of blocks without a space, and of keys without a block."""
    db.execute("DELETE FROM blocks WHERE space NOT IN (SELECT number FROM spaces)")
    db.execute("DELETE FROM keys WHERE block NOT IN (SELECT number FROM blocks)")


def _enter(db: sqlite3.Connection, number: int, start: int, keys: bytes, checksum: int) -> None:
    rows = len(keys) // table.KEY_BYTES
    seal = table.seal_block(number, start, rows, checksum, keys)
    entered = db.execute(
        "INSERT INTO blocks (space, start, rows, checksum, seal) VALUES (?, ?, ?, ?, ?)",
        (number, start, rows, checksum, seal),
    )
    db.execute("INSERT INTO keys VALUES (?, ?)", (entered.lastrowid, keys))
