"""Shared fixtures: the real images and weights outside the repository, when this machine has them."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tlkit.backbones import Backbone

# On networks as small as these, threads wait for each other most of the time; beside other work it is ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TLKIT_CACHE"] = tempfile.mkdtemp(prefix="tlkit-tests-")  # not the user's; commands in tests inherit it
atexit.register(shutil.rmtree, os.environ["TLKIT_CACHE"], ignore_errors=True)

# TensorBoard brings absl; when logging is set up anew, that closes the stderr it knows, which is pytest's.
with suppress(ImportError):
    import_module("absl.logging").get_absl_handler().python_handler.stream = sys.__stderr__

Install = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real images and real ImageNet weights that TLKIT_TEST_ASSETS names."""
    folder = os.environ.get("TLKIT_TEST_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real scans of three digits as class folders, 40 files each."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("scans")
    digits = load_digits()
    for digit in range(3):
        (root / f"digit {digit}").mkdir()
        for row in np.flatnonzero(digits.target == digit)[:40]:
            Image.fromarray((digits.images[row] * 15).astype(np.uint8)).save(root / f"digit {digit}" / f"{row}.png")
    return root


@pytest.fixture
def tiny() -> "Backbone":
    """The embedded network with its weights."""
    from tlkit import registry

    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that lays out a distribution on sys.path as an installer does."""

    def lay_out(name: str, code: str, entry_points: str) -> None:
        folder = tmp_path / name
        package = folder / name.replace("-", "_")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(folder))

    return lay_out
