"""What counts as a table, and that a walk over rows in blocks misses none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tlkit.heads.rows import UnusableCodesError, blocks, is_table, loaded, require_finite, row_blocks
from tlkit.heads.scaling import rowwise


def memory_map(folder: Path, n: int, d: int) -> np.memmap:
    stored = np.memmap(folder / "codes", dtype=np.float32, mode="w+", shape=(n, d))
    stored[:] = np.arange(n * d).reshape(n, d)
    return stored


def test_what_is_a_table(tmp_path: Path) -> None:
    stored = memory_map(tmp_path, 3, 2)
    assert is_table(stored)
    assert is_table(rowwise(stored, "l2"))
    for other in (np.ones((3, 2)), [[1.0]], pd.DataFrame([[1.0]]), csr_array(np.eye(2)), np.float32(1), None):
        assert not is_table(other)


def test_a_small_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = memory_map(tmp_path, 3, 2)
    assert type(loaded(stored)) is np.ndarray
    monkeypatch.setattr("tlkit.heads.rows._SMALL", 23)  # one byte less than it has
    assert loaded(stored) is stored


@given(n=st.integers(1, 60), d=st.integers(1, 5), size=st.integers(1, 99), seed=st.none() | st.integers(0, 99))
def test_every_row_comes_once_and_in_order(n: int, d: int, size: int, seed: int | None) -> None:
    codes = np.arange(n * d, dtype=np.float32).reshape(n, d)
    rows = None if seed is None else np.flatnonzero(np.random.default_rng(seed).random(n) < 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlkit.heads.rows._BLOCK", size)
        for table in (codes, rowwise(codes.view(np.memmap), "none")):
            parts = list(blocks(table, rows))
            assert all(block.size <= max(size, d) for _, block in parts)
            numbers = np.concatenate([*(numbers for numbers, _ in parts), np.empty(0, int)])
            np.testing.assert_array_equal(numbers, np.arange(n) if rows is None else rows)
            for chosen, block in parts:
                np.testing.assert_array_equal(block, codes[chosen])


def test_blocks_are_no_larger_than_asked() -> None:
    assert [part.stop - part.start for part in row_blocks(10, 2**21)] == [2] * 5
    assert [part.stop - part.start for part in row_blocks(3, 2**30)] == [1] * 3


def test_rows_that_are_not_finite_are_named() -> None:
    codes = np.zeros((9, 3), dtype=np.float32)
    require_finite(codes)
    codes[[2, 5], 1] = np.nan, -np.inf
    with pytest.raises(UnusableCodesError, match=r"2 of 9 rows .*\(rows 2, 5\)"):
        require_finite(codes)
