"""Ordered streams: what they promise about order, memory, errors and stopping."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from tlkit.codes.engines import Engine
from tlkit.codes.stream import ahead, forward


def sums(pixels: NDArray[np.uint8], _most: int) -> list[NDArray[np.float32]]:
    return [pixels.sum(axis=(1, 2), dtype=np.float32)]


def images(n: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for number in range(n):
        yield f"image {number}", np.full((2, 2, 3), number, dtype=np.uint8)


def network_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ahead", "network"))]


def test_results_come_in_order_and_every_one_once() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 * (number < 3))
        return number

    assert list(ahead(slow_at_first, 30, workers=4, most=7)) == list(range(30))
    assert list(ahead(slow_at_first, 0, workers=4, most=7)) == []


def test_no_more_is_computed_ahead_than_was_allowed() -> None:
    started: list[int] = []
    results = ahead(lambda number: started.append(number), 100, workers=3, most=5)
    with closing(results):
        for taken in range(1, 21):
            next(results)
            time.sleep(0.002)
            assert len(started) <= taken + 5
    assert len(started) <= 25


def test_a_failure_is_raised_at_its_turn_and_ends_the_threads() -> None:
    def fail_at_seven(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    seen = []
    with pytest.raises(ValueError, match="seven"):  # noqa: PT012
        for number in ahead(fail_at_seven, 1000, workers=2, most=16):
            seen.append(number)  # noqa: PERF402
    assert seen == list(range(7))
    assert not network_threads()


def test_what_was_not_started_is_dropped_when_nobody_wants_it() -> None:
    ran: list[int] = []

    def work(number: int) -> int:
        time.sleep(0.01)
        ran.append(number)
        return number

    with closing(ahead(work, 1000, workers=2, most=200)) as results:
        next(results)
    assert len(ran) < 10
    assert not network_threads()


@pytest.mark.parametrize(("n", "size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (0, 4, [])])
def test_tags_stay_with_their_rows(n: int, size: int, sizes: list[int]) -> None:
    batches = list(forward(Engine("sums", "1", ["all"], size, sums), images(n)))
    assert [len(tags) for tags, _ in batches] == sizes
    assert [tag for tags, _ in batches for tag in tags] == [f"image {number}" for number in range(n)]
    rows = [row.tolist() for _, codes in batches for row in codes["all"]]
    assert rows == [[4.0 * number] * 3 for number in range(n)]


def test_the_next_batch_is_gathered_while_the_network_runs() -> None:
    running, gathered = threading.Event(), threading.Event()

    def run(pixels: NDArray[np.uint8], most: int) -> list[NDArray[np.float32]]:
        if pixels[0, 0, 0, 0] == 0:
            running.set()
            assert gathered.wait(10), "nothing was gathered while the network ran"
        return sums(pixels, most)

    def items() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for number, item in enumerate(images(4)):
            if number == 3:
                assert running.wait(10)
                gathered.set()
            yield item

    assert len(list(forward(Engine("sums", "1", ["all"], 2, run), items()))) == 2


def test_at_most_two_batches_are_held() -> None:
    taken = 0

    def items() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        nonlocal taken
        for item in images(100):
            taken += 1
            yield item

    with closing(forward(Engine("sums", "1", ["all"], 5, sums), items())) as batches:
        for done in range(1, 6):
            next(batches)
            assert taken <= 5 * (done + 1)


def test_failures_of_the_network_and_of_the_images_come_through() -> None:
    def broken(_pixels: NDArray[np.uint8], _most: int) -> list[NDArray[np.float32]]:
        raise RuntimeError("the network broke")

    def unreadable() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        yield from images(5)
        raise OSError("the disk is gone")

    with pytest.raises(RuntimeError, match="the network broke"):
        list(forward(Engine("sums", "1", ["all"], 2, broken), images(9)))
    with pytest.raises(OSError, match="the disk is gone"):
        list(forward(Engine("sums", "1", ["all"], 2, sums), unreadable()))
    assert not network_threads()


def test_batches_follow_a_network_that_had_to_shrink_them() -> None:
    def small(pixels: NDArray[np.uint8], most: int) -> list[NDArray[np.float32]]:
        if most > 3:
            raise MemoryError
        return sums(pixels, most)

    engine = Engine("sums", "1", ["all"], 8, small)
    batches = list(forward(engine, images(30)))
    assert engine.batch_size == 2
    assert len(batches[-1][0]) == 2
    assert np.concatenate([codes["all"] for _, codes in batches])[:, 0].tolist() == [4.0 * n for n in range(30)]
