"""Tables to files: CSV, JSON lines or Parquet by extension, written whole or not at all; and tables as text."""

from __future__ import annotations

import csv
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


def printable(name: str) -> str:
    r"""Replace what no table can hold: the undecodable part of a file name.

    >>> printable("caf\udce9.jpg")
    'caf?.jpg'
    """
    return name.encode(errors="replace").decode()


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
        table.to_csv(sys.stdout, index=False)
    elif suffix == ".parquet":
        buffer = BytesIO()
        table.to_parquet(buffer, index=False)
        files.write_bytes(Path(out), buffer.getvalue())
    elif suffix == ".jsonl":
        files.write_text(Path(out), table.to_json(orient="records", lines=True, force_ascii=False))
    else:
        files.write_text(Path(out), table.to_csv(index=False))


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    r"""Write rows with the same keys as CSV; None is an empty cell.

    >>> csv_text([{"a": 1, "b": None}])
    'a,b\n1,\n'
    """
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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
