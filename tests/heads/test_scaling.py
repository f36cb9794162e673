"""Scaling by row against scikit-learn's normalize, of arrays and of tables that are read in slices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from tlkit.heads.scaling import Scale, rowwise, standardise

Codes = NDArray[np.float32]


def reference(codes: Codes, scale: Scale) -> Codes:
    values = codes.astype(float)
    rooted = np.sign(values) * np.sqrt(np.abs(values)) if scale == "power" else values
    return normalize(rooted) if scale in ("l2", "power") else codes


@pytest.mark.parametrize("scale", ["standard", "none", "l2", "power"])
@given(codes=arrays(np.float32, (4, 3), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_equals_normalize(scale: Scale, codes: Codes) -> None:
    codes[np.abs(codes) < 1e-10] = 0  # which scikit-learn takes rows of such numbers for
    found = np.asarray(rowwise(codes, scale)[0:4])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(codes, scale), rtol=1e-5, atol=1e-7)


def test_extreme_rows_keep_their_direction() -> None:
    codes = np.array([[3e38, 3e38], [1e-38, 0], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(rowwise(codes, "l2")[0:3], [[0.5**0.5] * 2, [1, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("scale", ["l2", "power"])
def test_a_table_is_scaled_as_it_is_read(scale: Scale, tmp_path: object) -> None:
    codes = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    stored = np.memmap(f"{tmp_path}/codes", dtype=np.float32, mode="w+", shape=(20, 5))
    stored[:] = codes
    lazy = rowwise(stored, scale)
    assert not isinstance(lazy, np.ndarray)
    assert lazy.shape == (20, 5)
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy[3:9], rowwise(codes, scale)[3:9])
    twice = standardise(lazy, np.ones(5), np.full(5, 2.0))
    np.testing.assert_allclose(twice[3:9], (rowwise(codes, scale)[3:9] - 1) / 2, rtol=1e-6)


def test_codes_without_row_scaling_are_the_same_object() -> None:
    codes = np.ones((3, 2), dtype=np.float32)
    assert rowwise(codes, "standard") is codes
    assert rowwise(codes, "none") is codes
