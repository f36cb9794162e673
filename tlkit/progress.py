"""One progress bar for everything that can take longer than two seconds; on stderr, and only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a bar with speed and time left, or without a `total` a spinner with the time taken.

    Yields:
        a function that says how many more units are done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    speed = TextColumn("{task.fields[speed]}")
    columns = [BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn(compact=True)] if total else []
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total, speed="")

        def advance(units: int) -> None:
            rate = bar.tasks[task].speed
            bar.update(task, advance=units, speed=f"{rate:,.0f} {unit}/s" if rate else "")

        yield advance
