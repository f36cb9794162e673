"""Several processes at one job: who this one is, and what they tell each other. One process is rank 0 of 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tlkit.errors import TlkitError

_PATIENCE = timedelta(days=2)  # a rank may have the slow disk, or the slow device


def launched() -> int:
    """Return this process's rank as torchrun (or another launcher of its kind) set it; 0 without one."""
    return int(os.environ.get("RANK", "0")) if "WORLD_SIZE" in os.environ else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of a launcher such as torchrun, if there are any, for as long as the block lasts."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    import torch
    from torch import distributed

    if not distributed.is_available():
        raise TlkitError("this build of torch has no torch.distributed: start one process, without torchrun.")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    except (ValueError, RuntimeError) as err:
        raise TlkitError(f"WORLD_SIZE is set, but the other processes cannot be joined: {err} Use torchrun.") from err
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world() -> tuple[int, int]:
    """Return (rank, number of ranks) of the process group, (0, 1) without one; Lightning's groups count too."""
    import torch.distributed as distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def everyones(value: Any) -> list[Any]:  # noqa: ANN401
    """Return the value of each rank, by rank; every rank has to call it, and waits here for the others."""
    import torch.distributed as distributed

    _, size = world()
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    distributed.all_gather_object(values, value)
    return values
