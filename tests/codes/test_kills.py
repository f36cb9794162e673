"""Real processes that append to one store at once, and are killed at random moments."""

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tlkit.codes.disk import Disk, Space

N, BLOCK, WIDTHS = 1800, 20, {"a": 700, "b": 30}

# Computes what is missing, block by block, as an extraction does; says when a block is safe.
WORKER = """
import hashlib, sys
from pathlib import Path
import numpy as np
from tlkit.codes.disk import Disk
folder, widths = Path(sys.argv[1]), eval(sys.argv[2])
n, block, order = map(int, sys.argv[3:])
disk = Disk(folder)
spaces = {disk.space({"tap": tap}): width for tap, width in widths.items()}
numbers = list(range(n))[::order]
print("ready", flush=True)
for start in range(0, n, block):
    todo = numbers[start : start + block]
    keys = [hashlib.sha256(str(number).encode()).digest() for number in todo]
    if all((space.find(keys) >= 0).all() for space in spaces):
        continue
    firsts = np.array(todo, dtype=np.float32)[:, None]
    disk.append(keys, {space: firsts + np.arange(width, dtype=np.float32) for space, width in spaces.items()})
    print(len(todo), flush=True)
"""


def start(folder: Path, order: int = 1) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, str(folder), repr(WIDTHS), str(N), str(BLOCK), str(order)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(folder: Path) -> dict[tuple[str, int], bytes]:
    """Everything in a store, found and read as any process does."""
    keys = [hashlib.sha256(str(number).encode()).digest() for number in range(N)]
    found: dict[tuple[str, int], bytes] = {}
    for tap in WIDTHS:
        space: Space = Disk(folder).space({"tap": tap})
        rows = space.find(keys)
        numbers = np.flatnonzero(rows >= 0)
        read = space.read(rows[numbers])
        found |= {(tap, number): row.tobytes() for number, row in zip(numbers.tolist(), read, strict=True)}
    return found


def expected() -> dict[tuple[str, int], bytes]:
    rows = {(tap, number): np.arange(width) + number for tap, width in WIDTHS.items() for number in range(N)}
    return {which: row.astype(np.float32).tobytes() for which, row in rows.items()}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.full)])
def test_killed_processes_lose_at_most_the_block_they_wrote(kills: int, tmp_path: Path) -> None:
    right, pick = expected(), random.Random(kills)
    safe = killed = 0
    for _ in range(kills):
        worker = start(tmp_path)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        said = [int(worker.stdout.readline()) for _ in range(pick.randrange(1 + N // BLOCK // (2 * kills)))]
        time.sleep(pick.uniform(0, 0.004))  # in the midst of a block
        worker.kill()
        said += map(int, worker.stdout)
        killed += worker.wait() == -9
        worker.stdout.close()
        assert worker.stderr is not None
        worker.stderr.close()
        found = content(tmp_path)
        assert found.items() <= right.items()
        assert len(found) % (BLOCK * len(WIDTHS)) == 0, "blocks are whole, and the same in both spaces"
        rows = len(found) // len(WIDTHS)
        assert safe + sum(said) <= rows <= safe + sum(said) + BLOCK, "what was said to be safe is there"
        safe = rows
    assert killed >= kills // 2
    output, errors = start(tmp_path).communicate()
    assert sum(map(int, output.split()[1:])) == N - safe, errors
    assert content(tmp_path) == right
    assert Disk(tmp_path).verify() == []
    assert sorted(path.stat().st_size for path in tmp_path.glob("*.f32")) == [N * width * 4 for width in (30, 700)]


@pytest.mark.parametrize("order", [1, -1])
def test_two_processes_write_one_store_at_once(order: int, tmp_path: Path) -> None:
    workers = [start(tmp_path), start(tmp_path, order)]
    for worker in workers:
        errors = worker.communicate()[1]
        assert worker.returncode == 0, errors
        assert errors == ""
    assert content(tmp_path) == expected()
    assert [record.rows for record in Disk(tmp_path).records()] == [N, N], "nothing was written twice"
    assert Disk(tmp_path).verify() == []


def test_readers_see_what_a_writer_has_committed(tmp_path: Path) -> None:
    right, seen = expected(), 0
    with start(tmp_path) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        safe = 0
        for line in worker.stdout:
            safe += int(line)
            if safe % (10 * BLOCK) == 0:
                found = content(tmp_path)
                assert len(found) >= safe * len(WIDTHS) > seen
                assert found.items() <= right.items()
                seen = safe * len(WIDTHS)
    assert worker.returncode == 0
    assert content(tmp_path) == right


def test_eviction_by_another_process_harms_no_reader(tmp_path: Path) -> None:
    with start(tmp_path) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line != "ready\n":
                Disk(tmp_path).prune(everything=True)
        errors = worker.stderr.read() if worker.stderr else ""
    assert worker.returncode == 0, errors
    assert errors == ""
    assert content(tmp_path).items() <= expected().items()
    assert start(tmp_path).communicate()[1] == ""
    assert content(tmp_path) == expected()


def test_an_index_that_is_destroyed_under_two_writers(tmp_path: Path) -> None:
    workers = [start(tmp_path), start(tmp_path, -1)]
    pick = random.Random(1)
    for _ in range(6):
        assert workers[0].stdout is not None
        workers[0].stdout.readline()
        path = tmp_path / "index.sqlite"
        try:
            with path.open("r+b") as file:
                file.seek(pick.choice([0, 20, 4096, 8192]))
                file.write(pick.randbytes(60))
        except FileNotFoundError:  # just being replaced
            continue
    for worker in workers:
        errors = worker.communicate()[1]
        assert worker.returncode == 0, errors
    assert content(tmp_path).items() <= expected().items()
    start(tmp_path).communicate()
    assert content(tmp_path) == expected()
