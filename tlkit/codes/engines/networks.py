"""Converted networks on disk: a folder by digest each, whole or not there, checked before it is read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tlkit import files

log = logging.getLogger(__name__)

FILES = ("network.xml", "network.bin")
MOST_BYTES = 5_000_000_000  # of all networks together; those that were not used for longest go
_RECORD = "network.json"
_ABANDONED = 86400.0  # seconds after which nobody can still be writing a temporary folder


class NotConvertible(Exception):
    """OpenVINO cannot take a network, or makes something else of it; the message says why.

    Args:
        reason: The message.
        lasting: Whether the next try would end alike.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


def find_network(folder: Path) -> Path | None:
    """Return the network that `keep_network` put there; None if there is none, or only a damaged one.

    The folder's time of change becomes now, so that those that nobody uses can be told.

    Raises:
        NotConvertible: `refuse_network` put that there.
    """
    damage = _damage(folder)
    if damage:
        if folder.exists():
            log.warning("%s is damaged (%s): the network is converted again", folder, damage)
        return None
    with suppress(OSError):  # it may be somebody else's
        os.utime(folder)
    return folder / FILES[0]


def _damage(folder: Path) -> str:
    """Say what is wrong with a folder; nothing if it is whole."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if "refused" in record:
            raise NotConvertible(str(record["refused"]))
        same = record["sha256"] == {name: _sha256(folder / name) for name in FILES}
    except (OSError, ValueError, KeyError, TypeError) as err:
        return repr(err)
    return "" if same else "its files are not those that were written"


def keep_network(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` put `FILES` into a new folder, and move that to `folder` when it is complete.

    Raises:
        OSError: there is no space, or no permission.
    """
    temporary = folder.parent / f".{secrets.token_hex(8)}.tmp"
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        for name in FILES:
            _flush(temporary / name)
        _record(temporary, {"sha256": {name: _sha256(temporary / name) for name in FILES}})
        _move(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _make_room(folder)
    return folder / FILES[0]


def refuse_network(folder: Path, reason: str) -> None:
    """Remember that a network cannot be converted, so that nobody tries again.

    Raises:
        OSError: there is no space, or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _record(folder, {"refused": reason})


def _make_room(kept: Path) -> None:
    """Remove the networks that were not used for longest, and what killed processes left behind."""
    total = 0
    with suppress(OSError):  # another process has just removed it
        for folder in sorted(kept.parent.iterdir(), key=lambda folder: -folder.stat().st_mtime):
            total += sum(file.stat().st_size for file in folder.iterdir())
            abandoned = folder.name.startswith(".") and time.time() - folder.stat().st_mtime > _ABANDONED
            if abandoned or (total > MOST_BYTES and folder != kept and not folder.name.startswith(".")):
                shutil.rmtree(folder, ignore_errors=True)


def _record(folder: Path, content: object) -> None:
    files.write_json(folder / _RECORD, content)


def _move(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        if _damage(folder):  # else another process was faster, and wrote the same
            old = folder.rename(temporary.with_suffix(".old"))
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
