"""Every notebook runs, and is stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    words = ["-m", "jupyter", "execute", "--kernel_name=python3", f"--output={tmp_path / path.name}", str(path)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=offline, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
