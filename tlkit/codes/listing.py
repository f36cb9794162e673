"""What `tlkit codes` prints: what is kept, how large it is, and what was removed or found damaged."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlkit.codes.cache import Cache, cache_at
from tlkit.codes.disk import Record
from tlkit.errors import TlkitError, UsageError, some
from tlkit.progress import progress
from tlkit.tables import on_screen

_SHORT = 12  # digits of an id that are shown


@dataclass(frozen=True)
class Network:
    """A converted network in the cache; times are seconds since 1970."""

    path: Path
    bytes: int
    used: float


def codes(
    *,
    action: Literal["list", "show", "prune", "verify"],
    id: str | None,
    all: bool,
    unused_days: float | None,
    max_gb: float | None,
    cache: dict[str, Any],
) -> None:
    """List, describe, remove or check what is kept of codes and converted networks.

    Raises:
        UsageError: no codes have that id, or nothing says what to remove.
        TlkitError: codes are damaged; they were dropped, to be computed again.
    """
    place = cache_at(**cache)
    if action == "list":
        show_all(place)
    elif action == "show":
        if id is None:
            raise UsageError("show: give id=ID, the first digits of one that tlkit codes lists.")
        show(place, id)
    elif action == "prune":
        prune(place, id=id, all=all, unused_days=unused_days, max_gb=max_gb)
    elif not verify(place, id):
        raise TlkitError("some codes were damaged; they are dropped, and will be computed again when they are needed.")


def show_all(cache: Cache) -> None:
    """Print all codes and converted networks, the most recently used first, and their sizes."""
    records, networks = cache.codes.records(), converted(cache)
    if records:
        table = Table("id", "backbone", "tap", "pooling", "engine", "codes", "width", "size", "used", box=None)
        for record in records:
            told = record.description
            words = [_word(told.get(key)) for key in ("backbone", "tap", "pooling", "engine")]
            numbers = [f"{record.rows:,}", f"{record.width:,}", size(record.bytes), ago(record.used)]
            table.add_row(record.id[:_SHORT], *map(escape, words), *numbers)
        _print(table)
    total = cache.codes.size() + sum(network.bytes for network in networks)
    limit = f" of at most {size(int(cache.max_gb * 1e9))} of codes" if cache.max_gb else ""
    print(
        f"{cache.dir or cache.codes.folder}: {len(records):,} tables of codes, "
        f"{len(networks):,} converted networks ({size(sum(network.bytes for network in networks))}), "
        f"{size(total)} together{limit}"
    )


def show(cache: Cache, id: str) -> None:
    """Print everything that is known of one table of codes.

    Raises:
        UsageError: no table or several have an id that begins so.
    """
    record = _named(cache.codes.records(), id)
    print(f"{record.id}\n{record.rows:,} codes of width {record.width:,}, {size(record.bytes)}")
    print(f"made {_date(record.made)}, used {_date(record.used)} ({ago(record.used)})")
    print(json.dumps(record.description, indent=2, ensure_ascii=True))


def prune(
    cache: Cache,
    *,
    id: str | None = None,
    all: bool = False,
    unused_days: float | None = None,
    max_gb: float | None = None,
) -> None:
    """Remove codes and converted networks, and print what was removed.

    Args:
        cache: from which.
        id: the codes whose id begins so.
        all: everything.
        unused_days: what was not used for so many days.
        max_gb: the codes that were not used for longest, until no more than this is left.

    Raises:
        UsageError: nothing says what to remove, or no codes have that id.
    """
    if id is None and not all and unused_days is None and max_gb is None:
        raise UsageError("prune: say what to remove: id=ID, all=true, unused_days=DAYS or max_gb=SIZE.")
    for key, value in {"unused_days": unused_days, "max_gb": max_gb}.items():
        if value is not None and not value >= 0:
            raise UsageError(f"{key}={value}: give a number that is not negative.")
    ids = [_named(cache.codes.records(), id).id] if id is not None else []
    most = None if max_gb is None else int(max_gb * 1e9)
    removed = cache.codes.prune(ids=ids, unused_days=unused_days, max_bytes=most, everything=all)
    oldest = time.time() - unused_days * 86400 if unused_days is not None else 0.0
    networks = [network for network in converted(cache) if all or network.used < oldest]
    for network in networks:
        _delete(network.path)
    for record in removed:
        print(f"removed {_line(record)}, {size(record.bytes)}")
    freed = sum(record.bytes for record in removed) + sum(network.bytes for network in networks)
    print(f"removed {len(removed):,} tables of codes and {len(networks):,} converted networks: {size(freed)}")


def verify(cache: Cache, id: str | None = None) -> bool:
    """Read all codes, or those of one id, drop what is damaged, and print it; say whether all were good.

    Raises:
        UsageError: no table or several have an id that begins so.
    """
    records = cache.codes.records()
    chosen = records if id is None else [_named(records, id)]
    total = sum(record.bytes for record in chosen)
    with progress(f"checking {size(total)} of codes"):
        damaged = cache.codes.verify({record.id for record in chosen})
    for lost in damaged:
        print(f"damaged and dropped: {lost}")
    rows = sum(record.rows for record in chosen)
    print(f"checked {rows:,} codes in {len(chosen):,} tables, {size(total)}: {len(damaged) or 'no'} damaged blocks")
    return not damaged


def converted(cache: Cache) -> list[Network]:
    """List the converted networks, the most recently used first."""
    folder = cache.networks
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder and folder.is_dir() else []
    listed = []
    for path in paths:
        with suppress(OSError):  # another process has just removed it
            files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
            used = max((max(file.st_mtime, file.st_atime) for file in files), default=path.stat().st_mtime)
            listed.append(Network(path, sum(file.st_size for file in files), used))
    return sorted(listed, key=lambda network: -network.used)


def size(n: float) -> str:
    """Write a number of bytes.

    >>> size(999), size(20_500_000), size(3_100_000_000)
    ('999 B', '20.5 MB', '3.1 GB')
    """
    power = 0
    while n >= 999.95 and power < 4:
        n, power = n / 1000, power + 1
    return f"{n:.0f} B" if power == 0 else f"{n:.1f} {'kMGT'[power - 1]}B"


def ago(then: float) -> str:
    """Write how long ago something was.

    >>> import time
    >>> ago(time.time() - 7300), ago(time.time()), ago(0)
    ('2 hours ago', 'just now', 'unknown')
    """
    if then <= 0:
        return "unknown"
    seconds = time.time() - then
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            n = int(seconds // length)
            return f"{n:,} {unit}{'s' if n > 1 else ''} ago"
    return "just now"


def _named(records: Sequence[Record], id: str) -> Record:
    found = [record for record in records if record.id.startswith(id)]
    if len(found) != 1:
        which = some(_line(record) for record in found or records)
        raise UsageError(
            f"id={id}: {len(found) or 'no'} codes have an id that begins so. There are: {which or 'none at all'}."
        )
    return found[0]


def _line(record: Record) -> str:
    words = [_word(record.description.get(key)) for key in ("backbone", "tap")]
    return f"{record.id[:_SHORT]} ({' '.join(words)})"


def _word(value: Any) -> str:  # noqa: ANN401 - whatever a description holds
    """Write a value of a description on one line, without what could move the cursor."""
    named = value.get("name", value) if isinstance(value, dict) else value
    text = "?" if named is None else str(named)
    return on_screen(text)[:60]


def _date(then: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then)) if then > 0 else "at an unknown time"


def _print(table: Table) -> None:
    """Print as wide as the terminal; into a file or a pipe nothing is cut."""
    Console(width=None if sys.stdout.isatty() else 1000, soft_wrap=False).print(table)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
