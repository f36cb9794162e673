"""Tables come back from each format as they were."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit import tables
from tlkit.errors import UsageError

TABLE = pd.DataFrame(
    {"file": ["a, b.jpg", 'q"uote.png', "ünï.gif"], "predicted": ["ant", "bee", None], "p(ant)": [0.75, 0.25, None]}
)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("t.csv", pd.read_csv),
        ("t.jsonl", lambda path: pd.read_json(path, lines=True)),
        ("t.PARQUET", pd.read_parquet),
    ],
)
def test_round_trip(name: str, read: Callable[[Path], pd.DataFrame], tmp_path: Path) -> None:
    tables.write(TABLE, tmp_path / name)
    pd.testing.assert_frame_equal(read(tmp_path / name), TABLE, check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    tables.write(TABLE, "-")
    assert capsys.readouterr().out.splitlines()[0] == "file,predicted,p(ant)"


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match=r"out=x\.xls: give a name that ends in \.csv, \.jsonl, \.parquet"):
        tables.check_extension("x.xls")


NAMES = [
    "=cmd()",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "a;=1",
    "a\n=1",
    "'=1",
    "＝1",
    "=",
    "a-b",
    "'",
    "-1",
    "+0.5",
]


def test_a_spreadsheet_finds_no_formula_in_a_csv(tmp_path: Path) -> None:
    table = pd.DataFrame({"file": NAMES, "p(ant)": [-0.5] * len(NAMES)})
    tables.write(table, tmp_path / "t.csv")
    for separator in ",;":  # as spreadsheets of different countries part cells
        with (tmp_path / "t.csv").open(newline="") as file:
            cells = [cell for row in csv.reader(file, delimiter=separator) for cell in row]
        assert not [cell for cell in cells if re.match(r"\s*[=@＝]|[\t\r\n]|[+-](?![\d.]+(,-0.5)?$)", cell)]
    tables.write(table, tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["file"].tolist() == NAMES


def test_names_come_back_from_a_csv(tmp_path: Path) -> None:
    tables.write(pd.DataFrame({"file": NAMES}), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [tables.original(row["file"]) for row in csv.DictReader(file)] == NAMES
    numbers = pd.read_csv(tmp_path / "t.csv", dtype=str)["file"].tolist()[-2:]
    assert numbers == ["-1", "+0.5"]  # labels of data sets, and no formulas


@given(st.text(st.sampled_from("=+-@'; \t\r\na1")) | st.text())
def test_every_text_comes_back(text: str) -> None:
    assert tables.original(tables.plain(text)) == text
