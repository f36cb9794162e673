"""Tables to files: CSV, JSON lines or Parquet by extension, written whole or not at all; and tables as text.

Spreadsheets run what looks like a formula, whoever named the file or the class. In CSV such text has a ' before it.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from tlkit import files
from tlkit.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

EXTENSIONS = (".csv", ".jsonl", ".parquet")

# Where a cell begins, also in a spreadsheet that parts cells at semicolons; what is or becomes a formula there.
_START, _FORMULA, _BREAK = r"(?<![^;\t\r\n])", r"(?='*[^\S\t\r\n]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])", r"(?='*[\t\r\n])"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def printable(name: str) -> str:
    r"""Replace what no table can hold: the undecodable part of a file name.

    >>> printable("caf\udce9.jpg")
    'caf?.jpg'
    """
    return name.encode(errors="replace").decode()


def plain(text: str) -> str:
    r"""Return a text as a CSV cell that no spreadsheet runs: a ' stands before what would be a formula.

    >>> plain("=cmd()"), plain("-1"), plain("bees"), plain("'=x")
    ("'=cmd()", '-1', 'bees', "''=x")
    """
    return text if _NUMBER.fullmatch(text) else re.sub(f"{_START}{_FORMULA}|^{_BREAK}", "'", text)


def original(cell: str) -> str:
    """Undo `plain`.

    >>> original("'=cmd()"), original("'twas")
    ('=cmd()', "'twas")
    """
    return re.sub(f"{_START}'{_FORMULA}|^'{_BREAK}", "", cell)


def on_screen(text: str) -> str:
    r"""Replace what could move the cursor of a terminal: names come from anywhere.

    >>> on_screen("a\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_extension(out: str | Path) -> None:
    """Refuse a file name that says no known format; "-" is CSV on standard output.

    Raises:
        UsageError: with the formats that are known.
    """
    if str(out) != "-" and Path(out).suffix.lower() not in EXTENSIONS:
        raise UsageError(f"out={out}: give a name that ends in {', '.join(EXTENSIONS)}, or - for the terminal.")


def write(table: pd.DataFrame, out: str | Path) -> None:
    """Write a table in the format that the extension of `out` names."""
    suffix = Path(out).suffix.lower()
    if str(out) == "-":
        sys.stdout.write(_csv(table))
    elif suffix == ".parquet":
        buffer = BytesIO()
        table.to_parquet(buffer, index=False)
        files.write_bytes(Path(out), buffer.getvalue())
    elif suffix == ".jsonl":
        files.write_text(Path(out), table.to_json(orient="records", lines=True, force_ascii=False))
    else:
        files.write_text(Path(out), _csv(table))


def _csv(table: pd.DataFrame) -> str:
    texts = table.select_dtypes(exclude=["number", "bool"])
    cells = {str(name): texts[name].map(_plain) for name in texts}
    safe = table.assign(**cells).rename(columns=plain)
    text = safe.to_csv(index=False)
    # Python quotes a line feed, but not a carriage return, which would begin a row, too.
    return safe.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC) if "\r" in text else text


def _plain(cell: object) -> object:
    return plain(cell) if isinstance(cell, str) else cell


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    r"""Write rows with the same keys as CSV; None is an empty cell.

    >>> csv_text([{"a": 1, "b": None}])
    'a,b\n1,\n'
    """
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(cell) for key, cell in row.items()} for row in rows)
    return text.getvalue()


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    r"""Write rows with the same keys as a Markdown table, numbers to the right.

    >>> print(markdown([{"a": 1000, "b": "x|y"}]), end="")
    | a | b |
    |---:|---|
    | 1,000 | x\|y |
    """
    if not rows:
        return ""
    numeric = {key for key in rows[0] if any(isinstance(row[key], int | float) for row in rows)}
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|" + "|".join("---:" if key in numeric else "---" for key in rows[0]) + "|"
    return "\n".join([head, rule, *body]) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")


def short(n: float) -> str:
    """Write a number with three digits.

    >>> short(138_357_544), short(1728), short(999_999), short(64), short(0)
    ('138 M', '1.73 K', '1 M', '64', '0')
    """
    power = 0
    while abs(n) >= 999.5 and power < 4:
        n, power = n / 1000, power + 1
    return f"{n:.3g} {'KMGT'[power - 1]}" if power else f"{n:g}"
