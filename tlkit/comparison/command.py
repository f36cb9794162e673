"""`tlkit compare`: a leaderboard of finished runs, and which of them really differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tlkit import files, plots, tables
from tlkit import runs as directories
from tlkit.comparison import pictures
from tlkit.comparison import tables as telling
from tlkit.comparison.finished import Finished, find_runs, finished
from tlkit.comparison.pairs import Pair, groups, pairs
from tlkit.errors import UsageError, some
from tlkit.tables import on_screen

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEADERBOARD, PAIRS, RECORD, REPORT = "leaderboard.csv", "pairs.csv", "comparison.json", "comparison.md"
_MOST_PRINTED = 45  # pairs: of ten runs all


class Comparison(NamedTuple):
    """A row for each run, the best first, and a row for each pair of them; see `Finished` and `Pair`."""

    runs: pd.DataFrame
    pairs: pd.DataFrame


def compare(*, runs: str | list[str], out: str | None = None) -> Comparison:
    """Compare finished runs on the images that they held out; print the tables, and write them with pictures to `out`.

    Args:
        runs: run directories, and folders with runs below them.
        out: a new folder; None prints only.

    Raises:
        UsageError: no run is named.
        TlkitError: there are none, one is damaged, or `out` cannot be written.
    """
    words = [runs] if isinstance(runs, str) else runs
    if not words:
        raise UsageError("compare: name runs or folders of runs: tlkit compare RUN RUN, or tlkit compare runs.")
    parted = groups(finished(find_runs(words)))
    found = pairs(parted)
    _print(parted, found)
    result = Comparison(telling.leaderboard(parted), telling.comparisons(found))
    if out is None:
        print("out=FOLDER writes these tables, and pictures.")
    else:
        with directories.directory(Path(out), {"runs": words, "out": out}) as folder:
            _write(folder, parted, found, result)
        print(f"results: {directories.short(folder)}")
    return result


def _print(parted: Sequence[Sequence[Finished]], found: Sequence[Pair]) -> None:
    numbers = _numbers(parted)
    for runs in parted:
        print(on_screen(_title(runs, len(parted))))
        _show(telling.BOARD, telling.board_rows(runs, numbers[runs[0].name]), len(telling.REACHED))
    if found:
        _show(telling.PAIRS, telling.pair_rows(found[:_MOST_PRINTED], numbers))
        if len(found) > _MOST_PRINTED:
            print(f"... and {len(found) - _MOST_PRINTED} pairs more: out=FOLDER writes all.")
    print("\n".join(_notes(parted, found)))
    for runs in parted:
        print(on_screen(telling.conclusion(runs, found, numbers)))


def _show(titles: Sequence[str], rows: telling.Rows, parted: int | None = None) -> None:
    """Print a table; where the terminal is too narrow for it, as two with their first column in common."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console(width=None if sys.stdout.isatty() else 1000)
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(on_screen(cell)) for cell in row))
    if parted and console.measure(table).maximum >= console.width:
        _show(titles[:parted], [row[:parted] for row in rows])
        _show([titles[0], *titles[parted:]], [[row[0], *row[parted:]] for row in rows])
    else:
        console.print(table, "")


def _write(folder: Path, parted: Sequence[Sequence[Finished]], found: Sequence[Pair], result: Comparison) -> None:
    drawn = dict(_pictures(parted, found))
    for name, figure in drawn.items():
        plots.save(figure, folder / name)
    tables.write(result.runs, folder / LEADERBOARD)
    tables.write(result.pairs, folder / PAIRS)
    files.write_text(folder / REPORT, _markdown(parted, found, list(drawn)))
    records = {name: json.loads(table.to_json(orient="records")) for name, table in result._asdict().items()}
    files.write_json(folder / RECORD, {**records, "note": telling.NOTE})


def _pictures(parted: Sequence[Sequence[Finished]], found: Sequence[Pair]) -> Iterator[tuple[str, Figure]]:
    numbers = _numbers(parted)
    for group, runs in enumerate(parted, 1):
        ending = f"_{group}.png" if len(parted) > 1 else ".png"
        names = [f"{numbers[run.name]}  {name}" for run, name in zip(runs, telling.short_names(runs), strict=True)]
        accuracy = [run.measured["accuracy"] for run in runs]
        intervals = [run.measured["accuracy_interval"] for run in runs]
        yield f"leaderboard{ending}", pictures.leaderboard(names, accuracy, intervals, telling.tied(runs, found))
        rows = list(zip(names, runs, strict=True))
        counted = [(name, r.measured["accuracy"], r.macs, r.params) for name, r in rows if r.macs and r.params]
        if counted:
            yield f"accuracy_by_operations{ending}", pictures.accuracy_by_operations(*zip(*counted, strict=True))
        timed = [(name, r.measured["accuracy"], r.seconds) for name, r in rows if r.seconds is not None]
        if timed:
            yield f"accuracy_by_time{ending}", pictures.accuracy_by_time(*zip(*timed, strict=True))


def _markdown(parted: Sequence[Sequence[Finished]], found: Sequence[Pair], images: Sequence[str]) -> str:
    numbers = _numbers(parted)
    parts = ["# Comparison of runs"]
    for runs in parted:
        parts.append(telling.plain(_title(runs, len(parted))))
        parts.append(telling.markdown(telling.BOARD, telling.board_rows(runs, numbers[runs[0].name])))
        parts.append(telling.plain(telling.conclusion(runs, found, numbers)))
    if found:
        parts.append(telling.markdown(telling.PAIRS, telling.pair_rows(found, numbers)))
    return (
        "\n\n".join([*parts, *map(telling.plain, _notes(parted, found)), *(f"![{name}]({name})" for name in images)])
        + "\n"
    )


def _title(runs: Sequence[Finished], groups: int) -> str:
    what = f"{len(runs)} run{'s' if len(runs) > 1 else ''}, classes {some(sorted(runs[0].classes), 10)}"
    return f"{what} (runs with other classes or images stand in a table of their own)" if groups > 1 else what


def _notes(parted: Sequence[Sequence[Finished]], found: Sequence[Pair]) -> list[str]:
    starred = any(run.forwards == 0 for runs in parted for run in runs)
    return [*([telling.NOTE] if found else []), *([telling.STARRED] if starred else [])]


def _numbers(parted: Sequence[Sequence[Finished]]) -> dict[str, int]:
    """Number the runs from 1, through all groups."""
    return {run.name: number for number, run in enumerate((run for runs in parted for run in runs), 1)}
