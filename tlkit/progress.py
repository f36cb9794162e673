"""One progress bar for everything that can take longer than two seconds; on stderr, and only on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tlkit import ranks

if TYPE_CHECKING:
    from rich.progress import Progress

_NEWS = 0.1  # seconds
_shown: list[Progress] = []  # what is on the screen; a bar within a bar is a line of it, for rich draws one at a time


class Advance(Protocol):
    """What moves a bar."""

    def __call__(self, units: int, note: str | None = None, /) -> None:
        """Say that more units are done; a note stands beside the bar until the next."""


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "images") -> Iterator[Advance]:
    """Show a bar with speed and time left, or without a `total` a spinner with the time taken.

    Yields:
        a function that says how many more units are done.
    """
    with _display() as bar:
        task = bar.add_task(what, total=total, done="", note="")

        told = 0.0

        def advance(units: int, note: str | None = None, /) -> None:
            nonlocal told
            bar.advance(task, units)
            if note is None and time.monotonic() - told < _NEWS:  # each image may be a unit
                return
            told = time.monotonic()
            state = bar.tasks[bar.task_ids.index(task)]
            speed = f" {state.speed:,.0f} {unit}/s" if state.speed else ""
            bar.update(task, done=f"{state.completed:,.0f}/{total:,}{speed}" if total else speed)
            if note is not None:
                bar.update(task, note=note)

        try:
            yield advance
        finally:
            bar.remove_task(task)


@contextmanager
def _display() -> Iterator[Progress]:
    if _shown:
        yield _shown[-1]
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    stderr, console = sys.stderr, Console(stderr=True)
    display = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or ranks.launched() > 0,
    )
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    spoilers = [handler for handler in handlers if handler.stream is stderr]  # they would write into the bar
    with display as bar:
        for handler in spoilers:
            handler.setStream(sys.stderr)  # rich's now, which writes above it
        _shown.append(bar)
        try:
            yield bar
        finally:
            _shown.remove(bar)
            for handler in spoilers:
                handler.setStream(stderr)
