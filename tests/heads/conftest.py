"""Real images as codes: the pixels of scikit-learn's scanned digits, some of them always 0."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture(scope="session")
def digits() -> Set:
    """500 scans: codes (500, 64) float32 and labels 0 to 9."""
    codes, labels = load_digits(return_X_y=True)
    return codes[:500].astype(np.float32), labels[:500].astype(np.int64)


@pytest.fixture(scope="session")
def more_digits() -> Set:
    """Another 500 scans."""
    codes, labels = load_digits(return_X_y=True)
    return codes[500:1000].astype(np.float32), labels[500:1000].astype(np.int64)
