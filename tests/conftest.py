"""Shared fixtures: the real images and weights outside the repository, when this machine has them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real images and real ImageNet weights that TLKIT_TEST_ASSETS names."""
    folder = os.environ.get("TLKIT_TEST_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    return Path(folder).resolve()
