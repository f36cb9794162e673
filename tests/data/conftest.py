"""Small trees of real image files, and no network."""

import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

Plant = Callable[[Iterable[str]], Path]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Make image files, each of its own content, and whatever else the names ask for, below a folder."""
    rng = np.random.default_rng(0)

    def make(names: Iterable[str]) -> Path:
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif path.suffix in (".jpg", ".png"):
                PIL.Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
            else:
                path.write_text("text")
        return tmp_path / "root"

    return make
