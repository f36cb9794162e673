"""Chance as a pure function of (seed, epoch, image or step), whatever else draws numbers in the process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def number(*parts: int | str) -> int:
    """Return a number below 2**32 that depends on all parts.

    >>> number(1, 2, 3) == number(1, 2, 3) != number(1, 2, 4)
    True
    """
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4])


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Let torch (on the CPU) and NumPy draw the numbers that the parts stand for; outside they go on as before."""
    import numpy as np
    import torch

    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number(*parts))
        np.random.seed(number(*parts, "numpy"))
        try:
            yield
        finally:
            np.random.set_state(before)
