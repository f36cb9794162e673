"""Codes on disk, shared by any number of processes: what was computed once is not computed again.

A folder holds one SQLite file (spaces, blocks, keys) and one raw float32 array a space. A block of rows is written
behind the committed ones and flushed to the disk, then its keys are committed. A process that is killed between the two
leaves bytes that the next block overwrites: it loses that block, and nobody ever sees half of one. Every entry, and the
values of every block, carry a checksum; what does not match is dropped, said, and computed again. Rows are never
renumbered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlkit.codes import database, table
from tlkit.codes.space import DamagedBlock, Space, forget, forget_orphans
from tlkit.codes.table import Damage, Table
from tlkit.errors import some

__all__ = ["Damage", "DamagedBlock", "Disk", "Record", "Space"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")

INDEX = "index.sqlite"
_IN_USE = 600.0  # seconds; what was used since is not evicted


@dataclass(frozen=True)
class Record:
    """A space as `tlkit codes` lists it.

    Attributes:
        number: of its entry; another one when the space was removed and made again.
        id: SHA-256 of its description.
        description: what it holds; empty when that is damaged.
        rows: number of images.
        width: number of columns.
        bytes: size of its file.
        made: seconds since 1970.
        used: seconds since 1970.
    """

    number: int
    id: str
    description: dict[str, Any]
    rows: int
    width: int
    bytes: int
    made: float
    used: float


class Disk:
    """One folder of codes.

    Args:
        folder: made when it is missing.
        max_bytes: of all its files. Above it whole spaces are removed, the one that was not used for longest first, but
            none that was used in the last ten minutes. None: no limit.

    Raises:
        TlkitError: the folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._numbers: dict[bytes, int] = {}  # every key that was met, once for all spaces
        self._warned = False
        self.run(database.check_writable, write=True)

    def space(self, description: Mapping[str, Any]) -> Space:
        """Return the space that a JSON-able description means: another description, another space."""
        text = _canonical(description)
        name = _digest(text)
        with self.lock:
            return self._spaces.setdefault(name, Space(self, name, text))

    def append(self, keys: Sequence[bytes], values: Mapping[Space, NDArray[np.float32]]) -> None:
        """Add rows to any number of spaces, all of them durably or none; keys that a space has are skipped.

        Args:
            keys: n keys of 32 bytes.
            values: float32 (n, d) of each space; d is the same whenever that space is appended to.

        Raises:
            TlkitError: the disk is full or cannot be written; nothing was added.
            ValueError: keys or shapes that do not fit.
        """
        if any(len(key) != table.KEY_BYTES for key in keys):
            raise ValueError(f"a key has {table.KEY_BYTES} bytes")
        if wrong := [rows.shape for rows in values.values() if rows.ndim != 2 or len(rows) != len(keys)]:
            raise ValueError(f"{len(keys)} keys and values of shape {wrong[0]}")

        def work(db: sqlite3.Connection) -> None:
            for space, rows in values.items():
                space.write(db, keys, rows)

        with self.lock:
            self.run(work, write=True)
            self.run(lambda db: [space.load(db) for space in values], write=False)
            self._evict([space.id for space in values])

    def records(self) -> list[Record]:
        """List the spaces, the most recently used first."""
        found = self.run(_records, write=False)
        sized = [
            Record(
                number=number,
                id=str(name),
                description=_parsed(text),
                rows=int(rows or 0),
                width=width if isinstance(width, int) else 0,
                bytes=_size(self.path(name, number)),
                made=_time(made),
                used=_time(used),
            )
            for number, name, text, width, made, used, rows in found
        ]
        return sorted(sized, key=lambda record: -record.used)

    def size(self) -> int:
        """Add up the bytes of all files in the folder."""
        return sum(_size(path) for path in self.folder.iterdir())

    def prune(
        self,
        *,
        ids: Collection[str] = (),
        unused_days: float | None = None,
        max_bytes: int | None = None,
        everything: bool = False,
    ) -> list[Record]:
        """Remove the named spaces, those unused for long, the least recently used above a size, or all; return them."""
        oldest = math.inf if unused_days is None else unused_days * 86400
        now = time.time()
        doomed = [r for r in self.records() if everything or r.id in ids or now - r.used > oldest]
        if max_bytes is not None:
            doomed += self._oldest(max_bytes, doomed, sum(record.bytes for record in doomed))
        self._remove(doomed)
        for path in self.folder.glob(f"{INDEX}*.damaged"):
            path.unlink(missing_ok=True)
        return doomed

    def verify(self, ids: Collection[str] | None = None) -> list[Damage]:
        """Read everything, or the named spaces; return what is not as it was written, and drop it."""
        damaged = []
        for record in self.records():
            if ids is None or record.id in ids:
                damaged += self._verify(record)
        if fault := self.run(database.faults, write=False):
            database.set_aside(self.folder / INDEX, fault)
            damaged.append(Damage("everything", range(0), f"{INDEX} is damaged: {fault}", 0))
        self._remove([])
        return damaged

    def number(self, key: bytes) -> int:
        """Return the number that this process gave to a key; -1 when it has none."""
        return self._numbers.get(key, -1)

    def numbers(self, keys: Sequence[bytes]) -> list[int]:
        """Return the numbers of keys, giving them some where they have none."""
        return [self._numbers.setdefault(key, len(self._numbers)) for key in keys]

    def path(self, name: str, number: int) -> Path:
        """Return where the file of a space is."""
        return self.folder / table.file_name(name, number)

    def run(self, work: Callable[[sqlite3.Connection], _T], *, write: bool) -> _T:
        """Do some work on the SQLite file in one transaction; see `database.run`."""
        return database.run(self.folder / INDEX, work, write=write)

    def drop(self, damaged: Sequence[Damage]) -> None:
        """Forget what is damaged, and say so."""
        log.warning("damaged codes in %s are dropped, and computed again: %s", self.folder, some(damaged))
        self.run(lambda db: forget(db, damaged), write=True)

    def _verify(self, record: Record) -> list[Damage]:
        space = Space(self, record.id, "")  # one that has checked nothing yet

        def work(db: sqlite3.Connection) -> tuple[Table | None, list[Damage]]:
            found, damaged = space.open(db)
            if found is None:
                return None, damaged or [Damage(record.id, range(record.rows), "the entry is damaged", record.number)]
            return found, found.load(db)[1]

        found, damaged = self.run(work, write=False)
        if found is not None:
            damaged += found.check()
            if _digest(_canonical(record.description)) != record.id:
                what = "the description is damaged"
                damaged = [Damage(record.id, range(record.rows), what, record.number)]
        if damaged:
            self.drop(damaged)
        return damaged

    def _evict(self, spared: Collection[str]) -> None:
        """Remove what was not used for longest, until the folder is within its limit."""
        if self.max_bytes is None or self.size() <= self.max_bytes:
            return
        recent = [r for r in self.records() if r.id in spared or r.used > time.time() - _IN_USE]
        doomed = self._oldest(self.max_bytes, recent)
        self._remove(doomed)
        if doomed:
            log.info("removed %d spaces of codes from %s that were not used for longest", len(doomed), self.folder)
        if not self._warned and self.size() > self.max_bytes:
            self._warned = True
            size, limit = self.size() / 1e9, self.max_bytes / 1e9
            log.warning("%s: %.2f GB are in use, more than cache.max_gb=%.2f", self.folder, size, limit)

    def _oldest(self, max_bytes: int, spared: Sequence[Record], removed: int = 0) -> list[Record]:
        excess = self.size() - removed - max_bytes
        doomed = []
        for record in reversed([record for record in self.records() if record not in spared]):
            if excess <= 0:
                break
            doomed.append(record)
            excess -= record.bytes
        return doomed

    def _remove(self, doomed: Sequence[Record]) -> None:
        """Forget spaces, then delete the files that belong to none; a process that has them open still reads them."""

        def work(db: sqlite3.Connection) -> list[Path]:
            db.executemany("DELETE FROM spaces WHERE number = ?", [(record.number,) for record in doomed])
            forget_orphans(db)
            kept = {table.file_name(*row) for row in db.execute("SELECT id, number FROM spaces")}
            return [path for path in self.folder.glob(f"*{table.SUFFIX}") if path.name not in kept]

        for path in self.run(work, write=True):
            with suppress(OSError):  # Windows keeps what a process has open; the next removal finds it
                path.unlink()


def _records(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT number, id, description, width, made, used, total FROM spaces"
        " LEFT JOIN (SELECT space, TOTAL(rows) AS total FROM blocks GROUP BY space) ON space = number"
    ).fetchall()


def _canonical(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parsed(text: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a damaged file holds
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(value: Any) -> float:  # noqa: ANN401
    """Return a time, 1970 for what cannot be one."""
    return float(value) if isinstance(value, int | float) and 0 < value < time.time() + 86400 else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # another process has just removed it, or its name is damaged
        return 0
