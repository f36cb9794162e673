"""Every notebook runs, without a warning that a reader would stumble over, and is stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
FIRST, *OTHERS = NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize(
    "path",
    [FIRST, *(pytest.param(path, marks=[pytest.mark.full, pytest.mark.timeout(900)]) for path in OTHERS)],
    ids=lambda path: path.name,
)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    words = ["-m", "jupyter", "execute", "--kernel_name=python3", f"--output={tmp_path / path.name}", str(path)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    offline.pop("TLKIT_TEST_ASSETS", None)  # readers have no such folder
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=offline, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    told = "".join("".join(output["text"]) for output in shown if output.get("name") == "stderr")
    assert "Warning" not in told
