"""The SQLite file of a codes store: which spaces, blocks and keys there are.

Each piece of work opens the file anew (0.05 ms), so that threads, forked processes and a file that was replaced
meanwhile need no care. SQLite does the locking, on Windows as well, and undoes what a killed process had begun.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from tlkit.errors import TlkitError

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FORMAT = 1
_PATIENCE = 120.0  # seconds to wait for other processes
_SCHEMA = (
    # An evicted space that is made again has another number: blocks and files never mix. Seals are checksums of a row.
    "CREATE TABLE spaces (number INTEGER PRIMARY KEY, id TEXT, description TEXT, width INTEGER, end INTEGER,"
    " made REAL, used REAL, seal INTEGER)",
    "CREATE TABLE blocks (number INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER, start INTEGER, rows INTEGER,"
    " checksum INTEGER, seal INTEGER)",
    # Apart, so that looking for the blocks of a space reads little.
    "CREATE TABLE keys (block INTEGER PRIMARY KEY, keys BLOB)",
    f"PRAGMA user_version = {_FORMAT}",
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What SQLite reports for other reasons than a damaged file.
_NO_DAMAGE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_AUTH,
}
_NOT_WRITTEN = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_NOMEM,
}


def run(path: Path, work: Callable[[sqlite3.Connection], _T], *, write: bool) -> _T:
    """Do some work in one transaction, and commit it; a damaged file is moved aside and a new one begun.

    Args:
        path: the SQLite file, made with its folder when it is missing.
        work: what to do; done again if the file was damaged or replaced meanwhile.
        write: whether the work changes anything; only one process at a time may.

    Raises:
        TlkitError: the file cannot be opened or written.
    """
    for _ in range(5):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = _identity(path)
            with _lock(path, "shared"):
                return _once(path, work, write)
        except OSError as err:
            raise cannot_write(path.parent, err) from err
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as err:
            code = getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
            if not _is_damage(path, code):
                raise _refused(path, err, code) from err
            set_aside(path, str(err), opened)
    raise TlkitError(f"{path} is damaged again and again. Check the disk, or choose another folder with cache.dir=...")


def set_aside(path: Path, fault: str, opened: tuple[int, int] | None = None) -> None:
    """Move a damaged file and its journal away, when no other process has it open.

    Args:
        path: the file.
        fault: what is wrong with it.
        opened: which file it was; if it is another one now, another process was faster.

    Raises:
        TlkitError: it cannot be moved.
    """
    try:
        with _lock(path, "exclusive"):
            if opened is not None and _identity(path) != opened:
                return
            log.warning("%s is damaged (%s): it is moved aside, and codes are computed again", path, fault)
            for file in (Path(f"{path}-journal"), path):
                with suppress(FileNotFoundError):
                    os.replace(file, f"{file}.damaged")  # noqa: PTH105 - the name everybody knows for an atomic rename
    except (OSError, sqlite3.Error) as err:
        raise TlkitError(f"{path} is damaged ({fault}) and cannot be moved aside ({err}). Remove it.") from err


def faults(db: sqlite3.Connection) -> str:
    """Let SQLite check the whole file; return the first fault it finds, or an empty string."""
    found = db.execute("PRAGMA integrity_check(1)").fetchone()
    return "" if found == ("ok",) else str(found[0]).splitlines()[-1]


def cannot_write(folder: Path, err: OSError) -> TlkitError:
    """Return the error that says why the store cannot be written, and what to do."""
    if err.errno in _FULL:
        advice = "Free some space there, choose another folder with cache.dir=..., or keep less with cache.max_gb=..."
    else:
        advice = "Choose a folder you may write to with cache.dir=..., or keep nothing with cache.max_gb=0."
    return TlkitError(f"cannot write the codes to '{folder}': {err.strerror or err}. {advice}")


def check_writable(db: sqlite3.Connection) -> None:
    """Write what is there already."""
    db.execute(f"PRAGMA user_version = {_FORMAT}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _lock(path: Path, kind: Literal["shared", "exclusive"]) -> Iterator[None]:
    """Hold the lock under which the SQLite file is replaced; it is on an empty database, which nothing can damage."""
    lock = path.with_suffix(".lock")
    with closing(sqlite3.connect(lock, timeout=_PATIENCE, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE" if kind == "exclusive" else "BEGIN")
        db.execute("SELECT * FROM sqlite_master").fetchall()  # takes the shared lock
        yield


def _once(path: Path, work: Callable[[sqlite3.Connection], _T], write: bool) -> _T:
    with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as db:
        db.text_factory = lambda text: text.decode(errors="replace")  # one damaged row costs that row
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA user_version").fetchone() != (_FORMAT,):
            _make(db)
        db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite may have rolled back already; the first error is the one to tell
                db.execute("ROLLBACK")
            raise
        return result


def _make(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()
    if version not in ((0,), (_FORMAT,)):
        raise sqlite3.DatabaseError(f"unknown format {version}")
    for statement in _SCHEMA if version == (0,) else ():
        db.execute(statement)
    db.execute("COMMIT")


def _is_damage(path: Path, code: int) -> bool:
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code not in _NOT_WRITTEN
    if code & 0xFF == sqlite3.SQLITE_READONLY:  # also what a damaged version number in the file's header looks like
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code & 0xFF not in _NO_DAMAGE


def _refused(path: Path, err: sqlite3.Error, code: int) -> TlkitError:
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return TlkitError(
            f"{path}: other processes kept it locked for {_PATIENCE:.0f} s ({err}). "
            "Try again, or choose a folder on a local disk with cache.dir=..."
        )
    full = code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return cannot_write(path.parent, OSError(errno.ENOSPC if full else errno.EACCES, str(err)))
