"""Where codes and converted networks are kept between runs."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tlkit.codes.disk import Disk
from tlkit.errors import UsageError


@dataclass(frozen=True)
class Cache:
    """A folder that outlives a run.

    Attributes:
        dir: the folder; None when nothing is kept.
        max_gb: limit of the codes in it, in 1e9 bytes; 0 when nothing is kept.
    """

    dir: Path | None
    max_gb: float

    @property
    def networks(self) -> Path | None:
        """Folder of converted networks; None when they are not kept."""
        return self.dir / "networks" if self.dir else None

    @cached_property
    def codes(self) -> Disk:
        """The codes; in a temporary folder, which is removed at exit, when they are not kept.

        Raises:
            TlkitError: the folder cannot be written.
        """
        if self.dir:
            return Disk(self.dir / "codes", int(self.max_gb * 1e9))
        folder = tempfile.mkdtemp(prefix="tlkit-")
        disk = Disk(Path(folder))
        weakref.finalize(disk, shutil.rmtree, folder, ignore_errors=True)
        return disk


def cache_at(*, dir: str | None = None, max_gb: float = 20.0) -> Cache:
    """Return the cache that the settings mean.

    Args:
        dir: its folder; by default what TLKIT_CACHE names, else tlkit in XDG_CACHE_HOME, else ~/.cache/tlkit.
        max_gb: codes that were not used for longest are removed above this; 0 keeps nothing after the run.

    Raises:
        UsageError: `max_gb` is no limit.
    """
    if not 0 <= max_gb < math.inf:
        raise UsageError(f"cache.max_gb={max_gb}: give a number of gigabytes, or 0 to keep nothing.")
    if max_gb == 0:
        return Cache(None, 0.0)
    return Cache(Path(dir).expanduser().absolute() if dir else _default(), max_gb)


def _default() -> Path:
    if named := os.environ.get("TLKIT_CACHE"):
        return Path(named).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "tlkit"
