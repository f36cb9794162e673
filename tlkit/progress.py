"""One progress bar for everything that can take longer than two seconds; on stderr, and only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlkit import ranks

if TYPE_CHECKING:
    from rich.progress import Progress

_shown: list[Progress] = []  # what is on the screen; a bar within a bar is a line of it, for rich draws one at a time


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a bar with speed and time left, or without a `total` a spinner with the time taken.

    Yields:
        a function that says how many more units are done.
    """
    with _display() as bar:
        task = bar.add_task(what, total=total, done="")

        def advance(units: int) -> None:
            bar.advance(task, units)
            state = bar.tasks[bar.task_ids.index(task)]
            speed = f" {state.speed:,.0f} {unit}/s" if state.speed else ""
            bar.update(task, done=f"{state.completed:,.0f}/{total:,}{speed}" if total else speed)

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

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeRemainingColumn(compact=True),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or ranks.launched() > 0,
    ) as bar:
        _shown.append(bar)
        try:
            yield bar
        finally:
            _shown.remove(bar)
