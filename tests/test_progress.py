"""What a terminal shows of work under way, on a real terminal."""

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty")

PROGRAM = """
import logging, sys, time
from tlkit.progress import progress
logging.basicConfig(level=logging.INFO, format="%(message)s")
with progress("training net", 40) as advance:
    for batch in range(4):
        advance(10, f"loss {batch}.5" if batch % 2 else None)
        time.sleep(0.25)  # the terminal is drawn ten times a second
    logging.info("a line above")
logging.info("a line below")
"""


def shown(program: str) -> str:
    """Run a Python program on a terminal of its own; return all that it wrote there."""
    process, terminal = pty.fork()
    if process == 0:  # the program's side
        os.environ |= {"TERM": "xterm", "COLUMNS": "120"}
        os.execv(sys.executable, [sys.executable, "-c", program])
    written = b""
    try:
        while part := os.read(terminal, 65536):
            written += part
    except OSError:  # Linux's word for the end of a terminal
        pass
    assert os.waitpid(process, 0)[1] == 0, written
    os.close(terminal)
    return written.decode()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the fork becomes another program at once
def test_a_bar_has_speed_time_left_and_what_is_said_of_it() -> None:
    text = shown(PROGRAM)
    assert "training net" in text
    assert "40/40" in text
    assert "images/s" in text
    assert "loss 1.5" in text
    assert "loss 3.5" in text
    assert "\r\x1b[2Ka line above\r\n" in text  # in place of the bar, which follows again
    assert "training net" in text.partition("a line above")[2]
    assert text.endswith("\ra line below\r\n")


def test_nothing_is_shown_where_nobody_watches() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "a line above\na line below\n")
