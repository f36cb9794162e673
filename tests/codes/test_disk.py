"""The store on disk against a plain dict, and against everything that can happen to files."""

import hashlib
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlkit.codes.disk import INDEX, DamagedBlock, Disk, Space
from tlkit.errors import TlkitError

Array = NDArray[np.float32]
WIDTH = 5


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def keys(*numbers: int) -> list[bytes]:
    return [key(number) for number in numbers]


def values(numbers: Sequence[int], width: int = WIDTH, salt: int = 0) -> Array:
    """The one right row of each key."""
    rows = [np.random.default_rng([number, salt]).standard_normal(width) for number in numbers]
    return np.array(rows, dtype=np.float32).reshape(len(numbers), width)


def filled(folder: Path, n: int = 30, block: int = 10, name: str = "a") -> Space:
    space = Disk(folder).space({"tap": name})
    for start in range(0, n, block):
        space.append(keys(*range(start, start + block)), values(range(start, start + block)))
    return space


def file_of(folder: Path, space: Space) -> Path:
    (path,) = folder.glob(f"{space.id}-*")
    return path


def change(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def age(folder: Path, space: Space, seconds: float) -> None:
    """Make a space look as if it had not been used for some time."""
    with sqlite3.connect(folder / INDEX) as db:
        db.execute("UPDATE spaces SET used = ? WHERE id = ?", (time.time() - seconds, space.id))
    db.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "find", "read", "both", "new"]),
        st.integers(0, 1),  # which process
        st.integers(0, 1),  # which space
        st.lists(st.integers(0, 20), max_size=8),
    ),
    max_size=14,
)


Steps = list[tuple[str, int, int, list[int]]]


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_two_processes_behave_like_one_dict(steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    disks = [Disk(folder), Disk(folder)]
    expected: list[dict[bytes, Array]] = [{}, {}]
    for salt, (step, which, number, numbers) in enumerate(steps):
        disk, chosen, rows = disks[which], keys(*numbers), values(numbers, salt=salt)
        if step == "new":
            disks[which] = Disk(folder)
        elif step == "append":
            disk.space({"space": number}).append(chosen, rows)
            _enter(expected[number], chosen, rows)
        elif step == "both":
            disk.append(chosen, {disk.space({"space": number}): rows for number in (0, 1)})
            for model in expected:
                _enter(model, chosen, rows)
        else:
            _compare(disk.space({"space": number}), chosen, expected[number], read=step == "read")
    for disk in (*disks, Disk(folder)):
        for number in (0, 1):
            _compare(disk.space({"space": number}), keys(*range(21)), expected[number], read=True)
        assert disk.verify() == []


def _enter(model: dict[bytes, Array], chosen: Sequence[bytes], rows: Array) -> None:
    """What is there already stays."""
    for one, row in zip(chosen, rows, strict=True):
        model.setdefault(one, row)


def _compare(space: Space, chosen: Sequence[bytes], model: dict[bytes, Array], *, read: bool) -> None:
    found = space.find(chosen)
    assert [row >= 0 for row in found] == [one in model for one in chosen]
    assert [one in space for one in chosen] == [one in model for one in chosen]
    if read and (known := [one for one in chosen if one in model]):
        np.testing.assert_array_equal(space.read(found[found >= 0]), np.stack([model[one] for one in known]))


def test_rows_come_back_in_any_order_and_as_a_new_array(tmp_path: Path) -> None:
    space = filled(tmp_path)
    order = np.random.default_rng(0).integers(0, 30, 100)
    read = space.read(space.find(keys(*order)))
    np.testing.assert_array_equal(read, values(order.tolist()))
    assert read.dtype == np.float32
    assert read.flags.writeable
    assert space.read(np.empty(0, np.int64)).shape == (0, WIDTH)
    assert space.width == WIDTH


def test_reading_where_the_system_cannot_read_at_an_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    space = filled(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(lambda _: space.read(space.find(keys(*range(30)))), range(20)):
            np.testing.assert_array_equal(read, values(range(30)))


def test_the_file_is_the_plain_array(tmp_path: Path) -> None:
    space = filled(tmp_path)
    mapped = np.memmap(file_of(tmp_path, space), dtype="<f4", mode="r").reshape(-1, WIDTH)
    np.testing.assert_array_equal(mapped, values(range(30)))


def test_a_description_that_differs_is_another_space(tmp_path: Path) -> None:
    base = {"backbone": "tiny", "weights": "ab", "preprocess": {"size": 224}, "view": "center", "precision": "float32"}
    disk = Disk(tmp_path)
    first = disk.space(base)
    first.append(keys(1), values([1]))
    assert disk.space(dict(reversed(base.items()))) is first
    for field in base:
        other = disk.space(base | {field: "changed"})
        assert other.id != first.id
        assert other.find(keys(1)).tolist() == [-1]


@pytest.mark.parametrize(
    "name",
    ["../../escape", "/etc/passwd", "a/b", "x" * 5000, "猫\n\0", "con", "..", "\ud800", "'; DROP TABLE spaces;--"],
)
def test_no_description_leaves_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "codes"
    disk = Disk(folder)
    space = disk.space({name: name, "tap": [name]})
    space.append(keys(1), values([1]))
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]
    assert {path.suffix for path in folder.iterdir()} == {".sqlite", ".lock", ".f32"}
    assert disk.records()[0].description == {name: name, "tap": [name]}
    assert disk.verify() == []


def test_a_description_that_is_not_json_is_refused(tmp_path: Path) -> None:
    for wrong in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((TypeError, ValueError)):
            Disk(tmp_path).space(wrong)


def test_wrong_shapes_are_refused_and_nothing_is_added(tmp_path: Path) -> None:
    space = filled(tmp_path, 10)
    with pytest.raises(ValueError, match="32 bytes"):
        space.append([b"short"], values([1]))
    with pytest.raises(ValueError, match="1 keys and values of shape"):
        space.append(keys(50), values([50, 51]))
    with pytest.raises(TlkitError, match=r"width 3 do not fit those on disk, of width 5.*prune id="):
        space.append(keys(50), values([50], width=3))
    for rows in ([10], [-1], [0, 10**9]):
        with pytest.raises(IndexError):
            space.read(np.array(rows))
    assert Disk(tmp_path).space({"tap": "a"}).find(keys(50)).tolist() == [-1]


def test_threads_share_a_space(tmp_path: Path) -> None:
    disk = Disk(tmp_path)

    def work(thread: int) -> None:
        space = disk.space({"tap": "a"})
        for start in range(0, 60, 6):
            numbers = range(start, start + 6 + thread)
            space.append(keys(*numbers), values(numbers))
            assert key(start) in space
            np.testing.assert_array_equal(space.read(space.find(keys(*numbers))), values(numbers))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert disk.records()[0].rows == 63


# Damage


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_the_values_is_found_and_costs_one_block(seed: int, tmp_path: Path) -> None:
    path, pick = file_of(tmp_path, filled(tmp_path)), random.Random(seed)
    at = pick.randrange(path.stat().st_size)
    lost = at // (10 * WIDTH * 4)
    change(path, at, pick.randrange(8))
    if seed % 2:
        (damage,) = Disk(tmp_path).verify()
        assert damage.rows == range(10 * lost, 10 * lost + 10)
        assert Disk(tmp_path).verify() == []
    space = Disk(tmp_path).space({"tap": "a"})
    rows = space.find(keys(*range(30)))
    if seed % 2 == 0:
        with pytest.raises(DamagedBlock, match=f"rows {10 * lost} to {10 * lost + 9}: the values are damaged"):
            space.read(rows)
        rows = space.find(keys(*range(30)))
    missing = range(10 * lost, 10 * lost + 10)
    assert np.flatnonzero(rows < 0).tolist() == list(missing)
    assert not any(one in space for one in keys(*missing))
    space.append(keys(*missing), values(missing))
    np.testing.assert_array_equal(space.read(space.find(keys(*range(30)))), values(range(30)))
    moved = {number: 30 + number % 10 if number in missing else number for number in (0, 15, 29)}
    assert Disk(tmp_path).space({"tap": "a"}).find(keys(*moved)).tolist() == list(moved.values())
    assert Disk(tmp_path).verify() == []


def _flip_in_index(folder: Path, seed: int, aim: str | None) -> None:
    path, pick = folder / INDEX, random.Random(seed)
    data = path.read_bytes()
    target = {"keys": key(7), "header": data[:100], "description": b'{"tap":"a"}', None: data}[aim]
    change(path, data.index(target) + pick.randrange(len(target)), pick.randrange(8))


@pytest.mark.parametrize("aim", ["keys", "header", "description", None])
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.full) for n in range(3, 60))])
def test_a_flipped_bit_in_the_index_never_gives_wrong_codes(seed: int, aim: str | None, tmp_path: Path) -> None:
    filled(tmp_path)
    _flip_in_index(tmp_path, seed, aim)
    for _ in range(2):
        space = Disk(tmp_path).space({"tap": "a"})
        rows = space.find(keys(*range(30)))
        if found := np.flatnonzero(rows >= 0).tolist():
            np.testing.assert_array_equal(space.read(rows[found]), values(found))
        space.append(keys(*range(30)), values(range(30)))
        np.testing.assert_array_equal(space.read(space.find(keys(*range(30)))), values(range(30)))
        Disk(tmp_path).verify()
        assert Disk(tmp_path).verify() == []
    if aim == "keys":
        assert len(found) >= 20


def test_a_flipped_key_or_row_number_is_dropped_when_the_space_is_opened(tmp_path: Path) -> None:
    for column, value in [("start", 17), ("rows", 9), ("checksum", 1), ("seal", 1), ("space", 5), ("start", "x")]:
        folder = tmp_path / f"{column}{value}"
        filled(folder)
        with sqlite3.connect(folder / INDEX) as db:
            db.execute(f"UPDATE blocks SET {column} = ? WHERE number = 2", (value,))
        db.close()
        rows = Disk(folder).space({"tap": "a"}).find(keys(*range(30)))
        assert np.flatnonzero(rows < 0).tolist() == list(range(10, 20))
        assert Disk(folder).verify() == []


def test_a_file_that_is_cut_or_gone(tmp_path: Path) -> None:
    filled(tmp_path)
    space = Disk(tmp_path).space({"tap": "a"})
    rows = space.find(keys(*range(30)))
    space.read(rows)  # the checks have passed, then someone cuts the file
    os.truncate(file_of(tmp_path, space), 12 * WIDTH * 4)
    with pytest.raises(DamagedBlock, match="rows 10 to 19"):
        space.read(rows)
    assert (space.find(keys(*range(30))) >= 0).tolist() == [True] * 10 + [False] * 20
    space.append(keys(*range(30)), values(range(30)))
    np.testing.assert_array_equal(space.read(space.find(keys(*range(30)))), values(range(30)))

    file_of(tmp_path, space).unlink()
    other = Disk(tmp_path).space({"tap": "a"})
    assert (other.find(keys(*range(30))) < 0).all()
    other.append(keys(*range(30)), values(range(30)))
    np.testing.assert_array_equal(other.read(other.find(keys(*range(30)))), values(range(30)))


def test_a_file_that_is_deleted_while_it_is_open(tmp_path: Path) -> None:
    space = filled(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    space.append(keys(0, 40), values([0, 40]))
    np.testing.assert_array_equal(space.read(space.find(keys(*range(30), 40))), values([*range(30), 40]))
    assert Disk(tmp_path).space({"tap": "a"}).find(keys(0, 40)).tolist() == [-1, 0]
    space = filled(tmp_path, name="b")
    file_of(tmp_path, space).unlink()
    space.append(keys(40), values([40]))
    assert Disk(tmp_path).space({"tap": "b"}).find(keys(0, 40)).tolist() == [-1, 0]


@pytest.mark.parametrize("garbage", [b"no database at all" * 99, b"SQLite format 3\0" + bytes(5000), bytes(600)])
def test_a_damaged_index_is_moved_aside_with_one_warning(
    garbage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path)
    (tmp_path / INDEX).write_bytes(garbage)
    with caplog.at_level(logging.WARNING):
        space = filled(tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text
    assert (tmp_path / f"{INDEX}.damaged").read_bytes() == garbage
    np.testing.assert_array_equal(space.read(space.find(keys(*range(30)))), values(range(30)))
    Disk(tmp_path).prune(max_bytes=10**9)
    assert len(list(tmp_path.glob("*.f32"))) == 1


# Size


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        age(tmp_path, filled(tmp_path, name=name), 5000 - 1000 * number)
    before = Disk(tmp_path).size()
    space = Disk(tmp_path, before).space({"tap": "new"})
    space.append(keys(1), values([1]))
    assert sorted(record.description["tap"] for record in Disk(tmp_path).records()) == ["b", "c", "new"]
    assert len(list(tmp_path.glob("*.f32"))) == 3
    space._disk.max_bytes = 1
    space.append(keys(2), values([2]))
    assert [record.description["tap"] for record in Disk(tmp_path).records()] == ["new"]


def test_use_keeps_a_space(tmp_path: Path) -> None:
    age(tmp_path, filled(tmp_path, name="a"), 5000)
    age(tmp_path, filled(tmp_path, name="b"), 4000)
    Disk(tmp_path).space({"tap": "a"}).find(keys(1))
    Disk(tmp_path, 1).space({"tap": "new"}).append(keys(1), values([1]))
    assert {record.description["tap"] for record in Disk(tmp_path).records()} == {"a", "new"}


def test_a_space_larger_than_the_limit_stays_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = Disk(tmp_path, 1000).space({"tap": "a"})
    with caplog.at_level(logging.WARNING):
        for start in range(0, 30, 10):
            space.append(keys(*range(start, start + 10)), values(range(start, start + 10)))
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "0.00 GB are in use, more than cache.max_gb=0.00"
    ]
    assert (space.find(keys(*range(30))) >= 0).all()


def test_an_evicted_space_serves_those_who_have_it_open(tmp_path: Path) -> None:
    space = filled(tmp_path)
    rows = space.find(keys(*range(30)))
    Disk(tmp_path).prune(everything=True)
    assert list(tmp_path.glob("*.f32")) == []
    np.testing.assert_array_equal(space.read(rows), values(range(30)))

    other = Disk(tmp_path).space({"tap": "a"})
    other.append(keys(3, 70), values([3, 70], salt=1))  # the same row numbers mean other images now
    np.testing.assert_array_equal(space.read(rows), values(range(30)))
    space.append(keys(3, 71), values([3, 71]))
    found = space.find(keys(2, 70, 71))
    np.testing.assert_array_equal(space.read(found[1:]), np.concatenate([values([70], salt=1), values([71])]))
    np.testing.assert_array_equal(space.read(np.append(found, rows))[[0, *range(3, 33)]], values([2, *range(30)]))
    assert other.find(keys(3, 70, 71)).tolist() == [0, 1, 2]
    assert Disk(tmp_path).verify() == []


def test_prune_and_records(tmp_path: Path) -> None:
    spaces = {name: filled(tmp_path, name=name) for name in "abc"}
    age(tmp_path, spaces["b"], 10 * 86400)
    disk = Disk(tmp_path)
    listed = {record.description["tap"]: record for record in disk.records()}
    assert (listed["a"].rows, listed["a"].width, listed["a"].bytes) == (30, WIDTH, 30 * WIDTH * 4)
    assert 10 * 86400 <= time.time() - listed["b"].used < 11 * 86400
    assert [record.description["tap"] for record in disk.prune(unused_days=9)] == ["b"]
    assert [record.description["tap"] for record in disk.prune(ids=[spaces["c"].id])] == ["c"]
    assert disk.prune(max_bytes=10**9) == []
    assert [record.id for record in disk.prune(max_bytes=0)] == [spaces["a"].id]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.lock", INDEX]


# Disks that refuse


def test_a_full_disk_is_explained_and_the_store_stays_right(small_disk: Path) -> None:
    disk = Disk(small_disk)
    spaces = [disk.space({"tap": name}) for name in "ab"]

    def fill() -> None:
        for number in range(1000):
            disk.append(keys(number), {space: values([number], 2000) for space in spaces})

    with pytest.raises(TlkitError, match=r"No space left on device\. Free some space.*cache\.dir=.*cache\.max_gb="):
        fill()
    disk = Disk(small_disk)
    spaces = [disk.space({"tap": name}) for name in "ab"]
    found = [space.find(keys(*range(1000))) >= 0 for space in spaces]
    assert 5 < found[0].sum() < 20
    np.testing.assert_array_equal(found[0], found[1])
    numbers = np.flatnonzero(found[0]).tolist()
    np.testing.assert_array_equal(spaces[1].read(spaces[1].find(keys(*numbers))), values(numbers, 2000))
    assert disk.verify() == []
    disk.prune(everything=True)
    disk.append(keys(1), {space: values([1], 2000) for space in spaces})


LIMITED = """
import resource, sys
import numpy as np
from pathlib import Path
from tlkit.codes.disk import Disk
from tlkit.errors import TlkitError
space = Disk(Path(sys.argv[1])).space({"tap": "a"})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    for number in range(100):
        space.append([bytes([number]) * 32], np.full((1, 2000), number, dtype=np.float32))
except TlkitError as error:
    print(number, error)
"""


def test_a_file_that_may_not_grow_is_explained(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("12 cannot write the codes to")
    assert "File too large. Free some space there" in run.stdout
    space = Disk(tmp_path).space({"tap": "a"})
    rows = space.find([bytes([number]) * 32 for number in range(13)])
    assert rows.tolist() == [*range(12), -1]
    assert space.read(rows[:12])[:, 7].tolist() == list(range(12))
    assert file_of(tmp_path, space).stat().st_size == 12 * 8000


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TlkitError, match=r"cannot write the codes to .*cache\.dir=.*cache\.max_gb=0"):
        Disk(tmp_path / "file" / "codes")


READ_ONLY = """
import os, sys
from pathlib import Path
from tlkit.codes.disk import Disk
if os.geteuid() == 0:  # root may write everywhere
    os.setuid(65534)
Disk(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_a_folder_without_permission_is_explained() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which other users cannot enter
        filled(Path(folder))
        for path in (*Path(folder).iterdir(), Path(folder)):
            path.chmod(0o555)
        run = subprocess.run([sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True, check=False)
        Path(folder).chmod(0o755)
        assert "TlkitError: cannot write the codes to" in run.stderr, run.stderr
        assert "Choose a folder you may write to with cache.dir=" in run.stderr
        assert not (Path(folder) / f"{INDEX}.damaged").exists()


def test_many_keys_are_found_fast(tmp_path: Path) -> None:
    n = 100_000
    numbered = [number.to_bytes(32, "big") for number in range(n)]
    Disk(tmp_path).space({"tap": "a"}).append(numbered, np.arange(n, dtype=np.float32)[:, None])
    space = Disk(tmp_path).space({"tap": "a"})
    started = time.process_time()
    rows = space.find(numbered)
    assert time.process_time() - started < 0.8
    np.testing.assert_array_equal(space.read(rows)[:, 0], np.arange(n))


def test_descriptions_can_be_read_by_people(tmp_path: Path) -> None:
    space = filled(tmp_path)
    assert json.loads(space.description) == {"tap": "a"} == Disk(tmp_path).records()[0].description
