"""Tables to files: CSV, JSON lines or Parquet by extension, written whole or not at all."""

from __future__ import annotations

import sys
from io import BytesIO
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
