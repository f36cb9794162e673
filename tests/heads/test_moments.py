"""Moments of rows against numpy, straight and by subtraction."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from tlkit.heads.moments import class_moments

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.mark.parametrize("weighted", [False, True])
def test_equal_numpys_on_each_subset(digits: Set, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlkit.heads.rows._BLOCK", 64 * 90)
    codes, labels = digits
    weights = np.linspace(1, 3, 10) if weighted else None
    subsets = [np.arange(500), np.arange(0, 500, 3), np.flatnonzero(np.arange(500) % 5)]
    for rows, found in zip(subsets, class_moments(codes, labels, 10, subsets, weights), strict=True):
        moved = codes[rows] - found.shift
        own = [labels[rows] == c for c in range(10)]
        np.testing.assert_array_equal(found.counts, [inside.sum() for inside in own])
        np.testing.assert_allclose(found.sums, [moved[inside].sum(axis=0) for inside in own], atol=1e-6)
        np.testing.assert_allclose(found.squares, (moved**2).sum(axis=0), atol=1e-6)
        if weights is None:
            assert found.scatter is None
        else:
            assert found.scatter is not None
            expected = (moved * weights[labels[rows], None]).T @ moved
            np.testing.assert_allclose(found.scatter, expected, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5])
def test_column_scale_equals_standard_scaler(offset: float) -> None:
    random = np.random.default_rng(0)
    codes = random.normal(size=(300, 6)) * random.lognormal(size=6, sigma=3) + offset
    codes[:, 2] = 0.1
    codes[1:, 3] = offset  # one other value, in the first row, which is in no fold's training rows
    scaler = StandardScaler().fit(codes[1:])
    (found,) = class_moments(codes, np.arange(300) % 2, 2, [np.arange(1, 300)])
    mean, spread = found.column_scale()
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(spread, scaler.scale_, rtol=1e-5)
