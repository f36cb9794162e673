"""Files are written whole or not at all: a temporary file in the same folder, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tlkit.errors import TlkitError

UNFINISHED = ".*.tmp"
"""What files are called while they are written; a killed process leaves them."""

_ADVICE = {
    errno.ENOSPC: "Free some space there, or choose another folder.",
    errno.EDQUOT: "Your quota is used up: free some space there, or choose another folder.",
    errno.EACCES: "Change its permissions, or choose a folder you may write to.",
    errno.EPERM: "Change its permissions, or choose a folder you may write to.",
    errno.EROFS: "Choose a folder on a disk that can be written to.",
    errno.ENOTDIR: "Part of that path is a file: choose another folder.",
    errno.EEXIST: "Part of that path is a file: choose another folder.",
    errno.EISDIR: "That is a folder: choose another file name.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically; see `replacing`."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that becomes `path` when it is whole and on the disk: a reader sees the old one or the new one.

    Missing folders are made. On failure the new file is removed and an existing `path` is untouched.

    Raises:
        TlkitError: The operating system refused; the message names the path and what to do.
    """
    # The name does not grow from the target's, which may already be as long as a file name can be.
    temporary = path.parent / UNFINISHED.replace("*", secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the name everybody knows for an atomic rename
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Check the disk, or choose another folder.")
        raise TlkitError(f"cannot write '{path}': {error.strerror or error}. {advice}") from error
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with the line ends it has; see `write_bytes`.

    What UTF-8 cannot hold, such as the undecodable part of a file name, becomes a question mark.
    """
    write_bytes(path, text.encode(errors="replace"))


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically as indented JSON; see `write_bytes`.

    Raises:
        TypeError, ValueError: `value` is not JSON: it holds a foreign type, NaN or an infinity. Nothing is written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is not one: there was never a file, and the first error is the one to tell
        return
