"""Images that are decoded in other processes, as beside a GPU, give what threads give."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tlkit.backbones import Backbone
from tlkit.codes import Codes, CodesStore, cache_at, store


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """40 scans, one of them twice, one file that is none, one that is missing."""
    paths = [tmp_path / f"{row}.png" for row in range(43)]
    for path, scan in zip(paths, load_digits().images[:40], strict=False):
        Image.fromarray((scan * 15).astype(np.uint8)).save(path)
    paths[40].write_bytes(paths[3].read_bytes())
    paths[41].write_text("no image")
    return paths


def test_processes_and_threads_see_the_same(
    tiny: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MANY", 30)
    found: list[Codes] = []
    for apart in (False, True):
        codes = CodesStore(cache_at(dir=str(tmp_path / str(apart))), views="flip", workers=2)
        codes._decode_apart = apart
        found.append(codes.codes(tiny, files, ["pool"]))
        assert codes.forwards == 80
        decoded = codes.decoded
        assert decoded in (40, 41)  # the second of two equal files may come before the codes of the first are there
        again = codes.codes(tiny, files, ["pool"])
        assert codes.forwards == 80
        assert codes.decoded == decoded
        np.testing.assert_array_equal(again.values["pool"], found[-1].values["pool"])
    threads, processes = found
    assert threads.errors == processes.errors
    assert {*threads.errors} == {41, 42}
    np.testing.assert_array_equal(threads.values["pool"], processes.values["pool"])


def test_a_few_new_images_are_decoded_in_threads(
    tiny: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MANY", 30)
    monkeypatch.setattr(store, "in_processes", None)
    codes = CodesStore(cache_at(dir=str(tmp_path / "cache")))
    codes.codes(tiny, files[:35], ["pool"])
    codes._decode_apart = True
    codes.codes(tiny, files, ["pool"])
    assert codes.forwards == 40
