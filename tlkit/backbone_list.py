"""`tlkit backbones`: the documented networks, from their records; nothing is built to list them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlkit import files, registry
from tlkit.errors import TlkitError, UsageError, did_you_mean
from tlkit.tables import csv_text, markdown, short

if TYPE_CHECKING:
    from tlkit.backbones import Record

_SUFFIXES = (".csv", ".json", ".md")


@dataclass(frozen=True)
class Listed:
    """A backbone that is installed; without a record little is known, and a broken one says why."""

    name: str
    origin: str
    record: Record | None
    broken: str | None = None


def backbones(
    *,
    pattern: str | None = None,
    family: str | None = None,
    year: int | str | None = None,
    max_params: float | None = None,
    out: str | None = None,
) -> list[Listed]:
    """List the installed backbones from oldest to newest, and write the list to a file, or with pictures to a folder.

    Args:
        pattern: A name, or a pattern such as "resnet*".
        family: That of the record.
        year: Of the paper, or from one to another: "2014-2016".
        max_params: Leave out networks that learn more numbers than this.
        out: A file that ends in .csv, .json or .md, or a folder.

    Raises:
        UsageError: nothing is like that, or the words make no sense.
        TlkitError: `out` cannot be written.
    """
    target = None if out is None else Path(out)
    if target is not None and not target.is_dir() and target.suffix.lower() not in ("", *_SUFFIXES):
        raise UsageError(f"out={out}: give a folder, or a file that ends in {', '.join(_SUFFIXES)}.")
    known = installed()
    found = [
        listed
        for listed in known
        if (pattern is None or fnmatchcase(listed.name, pattern)) and _fits(listed, family, _years(year), max_params)
    ]
    if not found:
        raise UsageError(_nothing(known, pattern=pattern, family=family, year=year, max_params=max_params))
    show(found)
    if target is not None:
        for path in write(found, target):
            print(f"wrote {path}")
    return found


def installed() -> list[Listed]:
    """Return every installed backbone, by year and name; those whose year is not known come last."""
    from tlkit.backbones import record_of

    listed = []
    for name, eps in registry.entry_points("backbone").items():
        origin = ", ".join(map(registry.origin, eps))
        try:
            listed.append(Listed(name, origin, record_of(registry.get("backbone", name))))
        except TlkitError as err:
            listed.append(Listed(name, origin, None, str(err)))
    return sorted(listed, key=lambda each: (each.record.reference.year if each.record else 9999, each.name))


def _fits(listed: Listed, family: str | None, years: tuple[int, int] | None, max_params: float | None) -> bool:
    record = listed.record
    if record is None:
        return family is None and years is None and max_params is None
    return (
        (family is None or record.family == family)
        and (years is None or years[0] <= record.reference.year <= years[1])
        and (max_params is None or record.params <= max_params)
    )


def _years(given: int | str | None) -> tuple[int, int] | None:
    """Read a year, or the first and the last.

    >>> _years(2014), _years("2014-2016"), _years(None)
    ((2014, 2014), (2014, 2016), None)
    """
    if given is None:
        return None
    words = str(given).split("-")
    if len(words) > 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"year={given}: give a year, 2014, or the first and the last, 2014-2016.")
    return int(words[0]), int(words[-1])


def _nothing(known: Sequence[Listed], **asked: Any) -> str:  # noqa: ANN401
    words = " ".join(f"{key}={value}" for key, value in asked.items() if value is not None)
    names = [listed.name for listed in known]
    families = sorted({listed.record.family for listed in known if listed.record})
    hint = did_you_mean(str(asked["pattern"] or "").strip("*"), names) + did_you_mean(
        str(asked["family"] or ""), families
    )
    return f"{words}: no installed backbone is like that.{hint} Families: {', '.join(families)}."


def rows(found: Sequence[Listed]) -> list[dict[str, Any]]:
    """Return the list as text and numbers; None where nothing is known or published."""
    return [
        {
            "name": listed.name,
            "family": record and record.family,
            "year": record and record.reference.year,
            "parameters": record and record.params,
            "multiply-adds": record and record.macs,
            "input": record and "x".join(map(str, (*record.input_size[1:], record.input_size[0]))),
            "top-1 error": _error(record.reference.top1 if record else None),
            "top-5 error": _error(record.reference.top5 if record else None),
            "weights": record and record.weights,
            "from": listed.origin,
            "note": listed.broken and f"BROKEN: {listed.broken}",
        }
        for listed in found
        for record in [listed.record]
    ]


def _error(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(100 - accuracy, 2)


def show(found: Sequence[Listed], console: Console | None = None) -> None:
    """Print the list as wide as the terminal; into a file or a pipe nothing is cut."""
    console = console or Console(width=None if sys.stdout.isatty() else 1000)
    narrow = console.width < 110
    table = Table(box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    for column in ("name", "year"):
        table.add_column(column, overflow="fold")
    for column in ("params", "ops", "input", "top-5"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("weights", "from"):
        table.add_column(column, overflow="fold")
    for row in rows(found):
        numbers = [short(row[key]) if row[key] else "-" for key in ("parameters", "multiply-adds")]
        top5 = "-" if row["top-5 error"] is None else f"{row['top-5 error']:.2f}"
        words = [row["name"], str(row["year"] or "-"), *numbers, row["input"] or "-", top5, _weights(row), row["from"]]
        table.add_row(*map(escape, words))
    console.print(table)
    notes = [f"{row['name']}: {row['note']}" for row in rows(found) if row["note"]]
    count = f"{len(found)} backbone{'s' if len(found) > 1 else ''}"
    legend = f"{count}; top-5: published error on ImageNet in %; ops: multiply-adds of one image."
    for line in (legend, *notes):
        console.print(line, markup=False, highlight=False)


def _weights(row: dict[str, Any]) -> str:
    missing = "BROKEN" if row["note"] else "none published" if row["year"] else "-"
    return row["weights"] or missing


def write(found: Sequence[Listed], out: Path) -> list[Path]:
    """Write one file, or tables and pictures to a folder, and return what was written.

    Raises:
        TlkitError: it cannot be written there.
    """
    if not out.is_dir() and out.suffix:
        _write_table(found, out)
        return [out]
    from tlkit import charts, plots

    tables = [out / f"backbones{suffix}" for suffix in _SUFFIXES]
    for path in tables:
        _write_table(found, path)
    records = [(listed.name, listed.record) for listed in found if listed.record]
    pictures = {"timeline": charts.timeline()}
    if any(record.reference.top1 is not None for _, record in records):
        pictures["accuracy"] = charts.bubbles(records)
    for name, figure in pictures.items():
        plots.save(figure, out / f"{name}.png")
    return [*tables, *(out / f"{name}.png" for name in pictures)]


def _write_table(found: Sequence[Listed], path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix == ".json":
        files.write_json(path, rows(found))
    else:
        files.write_text(path, csv_text(rows(found)) if suffix == ".csv" else markdown(rows(found)))
