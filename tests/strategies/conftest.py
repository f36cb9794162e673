"""Images for tests of strategies."""

import numpy as np
import pytest

from tlkit import registry
from tlkit.data import ImageData, prepare


@pytest.fixture
def data() -> ImageData:
    """300 scans with their split."""
    return prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(300))
