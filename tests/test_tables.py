"""Tables come back from each format as they were."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

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
