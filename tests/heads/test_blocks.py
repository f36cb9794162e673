"""Blocks of rows, and moments of subsets against StandardScaler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from tlkit.heads.blocks import row_blocks, subset_moments


@given(n=st.integers(0, 10**6), width=st.integers(0, 10**6))
def test_blocks_cover_all_rows_once(n: int, width: int) -> None:
    blocks = list(row_blocks(n, width))
    assert [rows.start for rows in blocks] == [0, *(rows.stop for rows in blocks)][: len(blocks)]
    assert not blocks or blocks[-1].stop == n
    assert all((rows.stop - rows.start) * width <= max(2**21, 256 * width) for rows in blocks)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_moments_equal_the_standard_scaler(offset: float) -> None:
    random = np.random.default_rng(0)
    codes = (random.lognormal(size=(900, 7)) + offset).astype(np.float32)
    members = random.integers(0, 2, size=(900, 3)).astype(np.float32)
    members[0] = [1, 0, 1]
    codes[:, 3] = 0.1 + offset  # constant
    codes[:, 4] = members[:, 1] == 0  # constant in the second subset
    mean, spread = subset_moments(codes, members)
    for number, member in enumerate(members.T.astype(bool)):
        scaler = StandardScaler().fit(codes[member].astype(np.float64))
        np.testing.assert_allclose(mean[number], scaler.mean_, rtol=1e-9)
        np.testing.assert_allclose(spread[number], scaler.scale_, rtol=1e-6)
    assert spread[0, 3] == spread[1, 4] == 1
