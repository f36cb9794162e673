"""Atomic writing, with real files and a really full disk."""

import errno
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit.errors import TlkitError
from tlkit.files import write_bytes, write_json, write_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_writes_and_replaces_without_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    for data in (b"first, longer", b"second", b""):
        write_bytes(path, data)
        assert path.read_bytes() == data
        assert list(path.parent.iterdir()) == [path]


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_text_is_utf8_and_line_ends_are_kept(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ä\r\n猫\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\r\n猫\n".encode()


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "ours", b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("x" * 255), b"1")
    with pytest.raises(TlkitError, match="shorter name"):
        write_bytes(tmp_path / ("x" * 256), b"1")


@given(value=st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_json_round_trip(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates are not text
        return
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": object()}])
def test_what_is_not_json_is_refused_before_writing(value: object, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_explained_and_harms_nothing(small_disk: Path) -> None:
    path = small_disk / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(TlkitError, match=r"cannot write '.*a\.bin': No space left on device\. Free some space"):
        write_bytes(path, bytes(200_000))
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(TlkitError, match="is a file: choose another folder"):
        write_bytes(tmp_path / "file" / "a.bin", b"2")
    with pytest.raises(TlkitError, match="is a file: choose another folder"):
        write_bytes(tmp_path / "file" / "deeper" / "a.bin", b"2")


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(TlkitError, match="choose another file name"):
        write_bytes(tmp_path / "a.bin", b"2")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.bin"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TlkitError, match="permission"):
        write_bytes(tmp_path / "a.bin", b"1")


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.bin", b"1")
    assert not list(tmp_path.iterdir())


def test_an_unknown_failure_still_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TlkitError, match=r"'.*a\.bin': Input/output error\. Check the disk"):
        write_bytes(tmp_path / "a.bin", b"1")
    assert not list(tmp_path.iterdir())
