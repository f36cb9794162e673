"""Where the cache is, and what `tlkit codes` prints of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tlkit.codes import listing
from tlkit.codes.cache import Cache, cache_at
from tlkit.codes.disk import Disk, Space
from tlkit.errors import TlkitError, UsageError


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("TLKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return monkeypatch


def fill(cache: Cache, tap: str, n: int = 3) -> Space:
    description = {"backbone": "tiny", "tap": {"name": tap}, "pooling": "avg", "engine": "torch 2.11 float32 cpu"}
    space = cache.codes.space(description)
    space.append([row.to_bytes(32, "big") for row in range(n)], np.ones((n, 4), np.float32))
    return space


def test_the_folder_is_the_first_that_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_at().dir == tmp_path / ".cache" / "tlkit"
    environment.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_at().dir == tmp_path / ".cache" / "tlkit"
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_at().dir == tmp_path / "xdg" / "tlkit"
    environment.setenv("TLKIT_CACHE", "~/named")
    assert cache_at().dir == tmp_path / "named"
    cache = cache_at(dir="~/given", max_gb=2)
    assert (cache.dir, cache.networks) == (tmp_path / "given", tmp_path / "given" / "networks")
    assert (cache.codes.folder, cache.codes.max_bytes) == (tmp_path / "given" / "codes", 2 * 10**9)
    assert cache.codes is cache.codes


def test_nothing_is_written_before_codes_are_asked_for(tmp_path: Path) -> None:
    cache_at(dir=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match=r"cache\.max_gb="):
        cache_at(max_gb=wrong)


def test_a_file_in_the_way_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TlkitError, match=r"cache\.dir="):
        cache_at(dir=str(tmp_path / "file")).codes  # noqa: B018 - it is made when it is asked for


KEPT_NOWHERE = """
import numpy as np
from tlkit.codes.cache import cache_at
cache = cache_at(dir="never", max_gb=0)
space = cache.codes.space({"tap": "a"})
space.append([bytes(32)], np.ones((1, 4), np.float32))
assert space.find([bytes(32)]).tolist() == [0] and cache.dir is None and cache.networks is None
print(cache.codes.folder)
"""


def test_with_no_limit_at_all_nothing_is_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", KEPT_NOWHERE]
    run = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = cache_at(dir=str(tmp_path / "cache"))
    networks = made.networks
    assert networks is not None
    (networks / "abc").mkdir(parents=True)
    (networks / "abc" / "net.bin").write_bytes(bytes(5000))
    (networks / ".half").mkdir()
    return made


def test_list_show_and_verify(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    listing.show_all(cache)
    assert "0 tables of codes, 1 converted networks (5.0 kB)" in capsys.readouterr().out
    space = fill(cache, "blocks.2")
    listing.show_all(cache)
    shown = capsys.readouterr().out
    for word in (space.id[:12], "tiny", "blocks.2", "avg", "torch 2.11 float32 cpu", "48 B", "just now", "20.0 GB"):
        assert word in shown
    listing.show(cache, space.id[:5])
    shown = capsys.readouterr().out
    assert space.id in shown
    assert '"name": "blocks.2"' in shown
    assert listing.verify(cache)
    assert "checked 3 codes in 1 tables, 48 B: no damaged blocks" in capsys.readouterr().out
    (file,) = cache.codes.folder.glob("*.f32")
    file.write_bytes(b"\x01" + file.read_bytes()[1:])
    assert not listing.verify(cache, space.id)
    assert f"damaged and dropped: {space.id[:12]}: rows 0 to 2: the values are damaged" in capsys.readouterr().out
    assert listing.verify(cache)


def test_ids_are_found_by_their_beginning(cache: Cache) -> None:
    spaces = [fill(cache, str(tap)) for tap in range(20)]
    with pytest.raises(UsageError, match=r"id=zz: no codes have an id that begins so. There are: \w{12} \(tiny \d+\)"):
        listing.show(cache, "zz")
    with pytest.raises(UsageError, match="id=: 20 codes have"):
        listing.prune(cache, id="")
    listing.prune(cache, id=spaces[3].id[:12])
    assert {record.id for record in cache.codes.records()} == {space.id for space in spaces} - {spaces[3].id}


def test_prune(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    fill(cache, "a")
    with pytest.raises(UsageError, match="say what to remove"):
        listing.prune(cache)
    with pytest.raises(UsageError, match="max_gb=-1"):
        listing.prune(cache, max_gb=-1)
    listing.prune(cache, unused_days=1, max_gb=1)
    assert "removed 0 tables of codes and 0 converted networks: 0 B" in capsys.readouterr().out
    assert cache.networks is not None
    old = time.time() - 3 * 86400
    os.utime(cache.networks / "abc" / "net.bin", (old, old))
    listing.prune(cache, unused_days=2)
    assert "removed 0 tables of codes and 1 converted networks: 5.0 kB" in capsys.readouterr().out
    listing.prune(cache, max_gb=0)
    assert "(tiny a), 48 B" in capsys.readouterr().out
    fill(cache, "a")
    (cache.networks / "file.xml").touch()
    listing.prune(cache, all=True)
    assert cache.codes.records() == []
    assert listing.converted(cache) == []


def test_odd_descriptions_print_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = cache_at(dir=str(tmp_path))
    odd = {"backbone": "a\nb\x1b[2J[red]" + "x" * 500, "tap": ["猫", None], "engine": {"a": 1}}
    cache.codes.space(odd).append([bytes(32)], np.ones((1, 1), np.float32))
    listing.show_all(cache)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown
    assert "[red]" in shown
    listing.show(cache, "")
    assert "\x1b" not in capsys.readouterr().out


def test_a_store_that_is_opened_twice_is_listed_alike(cache: Cache) -> None:
    fill(cache, "a")
    assert Disk(cache.codes.folder).records() == cache.codes.records()
