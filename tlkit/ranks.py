"""Several processes at one job: who this one is, and what they tell each other. One process is rank 0 of 1."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from tlkit.errors import TlkitError, UsageError

_PATIENCE = timedelta(days=2)  # a rank may have the slow disk, or the slow device
_GONE = re.compile("gloo/transport|[Cc]onnection (closed|reset)|NCCL")
_NOTICE = 30.0  # seconds in which a rank notices by itself that another has died
_FAREWELL = 60.0  # seconds that a rank that has done its work has to end


def launched() -> int:
    """Return this process's rank as torchrun (or another launcher of its kind) set it; 0 without one."""
    return int(os.environ.get("RANK", "0")) if "WORLD_SIZE" in os.environ else 0


def refuse_strangers() -> None:
    """Refuse to be one of several processes that do not know each other, and would all do the same.

    Raises:
        UsageError: srun has started several of this, without torchrun.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            f"srun started {tasks} of this, and none knows of the others. Let it start one torchrun a machine, with "
            "--ntasks-per-node=1: srun torchrun --nproc-per-node=4 ... -m tlkit fit ... (the README has all of it)."
        )


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
        distributed.init_process_group(_backend(), timeout=_PATIENCE)
    except (ValueError, RuntimeError) as err:
        raise TlkitError(f"WORLD_SIZE is set, but the other processes cannot be joined: {err} Use torchrun.") from err
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _backend() -> str:
    """Return gloo for tensors on the CPU, beside NCCL for those on GPUs where torch has it."""
    import torch
    from torch import distributed

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"


@contextmanager
def started(processes: int, command: Sequence[str]) -> Iterator[None]:
    """Start the other processes of this job on this machine, and join them for as long as the block lasts.

    Args:
        processes: How many there are together; nothing is started for one.
        command: What each of the others runs; its environment says which rank it is, as torchrun would, and
            it should call `end_with_the_first`, lest it wait for days for a process that was killed.
    """
    if processes < 2:
        yield
        return
    before, port = dict(os.environ), _free_port()
    os.environ.update(_environment(0, processes, port))
    others = [
        subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **_environment(rank, processes, port)})
        for rank in range(1, processes)
    ]
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    try:
        with joined():
            yield
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(_FAREWELL)
    finally:
        done.set()
        for other in others:
            other.kill()
            other.communicate()
        os.environ.clear()
        os.environ.update(before)


def _watch(others: Sequence[subprocess.Popen[bytes]], done: threading.Event) -> None:
    """End this process if another has failed and this one still waits for it, where no exception would reach it."""
    while not done.wait(1):
        if any(other.poll() for other in others):
            if done.wait(_NOTICE):
                return
            print("tlkit: another process of this job failed: see what it printed.", file=sys.stderr, flush=True)
            for other in others:
                other.kill()
            os._exit(TlkitError.exit_code)


def end_with_the_first() -> None:
    """End this process as soon as the one that has `started` it, and holds the other end of its input, is gone."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, whose lock a forked process could not get
        print("tlkit: the first process of this job is gone.", file=sys.stderr, flush=True)
        os._exit(TlkitError.exit_code)

    threading.Thread(target=watch, daemon=True).start()


def _environment(rank: int, processes: int, port: int) -> dict[str, str]:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "GROUP_RANK": 0}
    return {**{name: str(value) for name, value in names.items()}, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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
    with company():
        distributed.all_gather_object(values, value)
    return values


def anyone(flag: bool) -> bool:
    """Tell whether the flag is set on any rank; every rank has to call it, and waits here for the others."""
    if world()[1] == 1:
        return flag
    import torch
    from torch import distributed

    found = torch.tensor(int(flag))
    with company():
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return bool(found)


@contextmanager
def company() -> Iterator[None]:
    """Word what torch says of a process that has gone while others wait for it."""
    try:
        yield
    except RuntimeError as err:
        if world()[1] == 1 or not _GONE.search(str(err)):
            raise
        reason = str(err).splitlines()[0]
        raise TlkitError(f"another process of this job is gone: see what it printed. ({reason})") from err
