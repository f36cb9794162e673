"""Several real processes, started by torchrun, at one frozen pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tlkit import codes, ranks
from tlkit.errors import UsageError


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    digits = load_digits()
    for row in range(60):
        folder = tmp_path / "scans" / str(digits.target[row] % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15).astype(np.uint8)).save(folder / f"{row}.png")
    (tmp_path / "scans" / "0" / "broken.png").write_text("no image")
    return tmp_path / "scans"


def _tlkit(words: list[str], cache: Path, *, processes: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tlkit", *words],
        env={**os.environ, "TLKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_process_is_rank_0_of_1() -> None:
    assert (ranks.launched(), ranks.world(), ranks.everyones("x")) == (0, (0, 1), ["x"])


def test_processes_that_srun_starts_without_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    ranks.refuse_strangers()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(UsageError, match="srun started 8 of this"):
        ranks.refuse_strangers()
    monkeypatch.setenv("WORLD_SIZE", "32")
    ranks.refuse_strangers()


def test_two_ranks_share_one_pass_and_write_one_result(scans: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={scans}", "codes.engine=torch"]
    _tlkit(["extract", *words, "taps=[layer2,pool]", f"out={tmp_path}/two"], tmp_path / "cache2", processes=2)
    _tlkit(["extract", *words, "taps=[layer2,pool]", f"out={tmp_path}/one"], tmp_path / "cache1", processes=1)
    two, one = (codes.load(tmp_path / name) for name in ("two", "one"))
    assert two.index.equals(one.index)
    assert two.index["error"].notna().sum() == 1
    for tap in ("layer2", "pool"):
        np.testing.assert_allclose(two.values[tap], one.values[tap], rtol=1e-5, atol=1e-6)


def test_a_fit_of_two_ranks_computes_every_image_once(scans: Path, tmp_path: Path) -> None:
    words = ["fit", "data=folder", f"data.root={scans}", "codes.engine=torch", f"hydra.run.dir={tmp_path}/run"]
    words += ["strategy=linear_probe", "strategy.head=ridge"]
    out = _tlkit(words, tmp_path / "cache", processes=2)
    assert out.count("accuracy") >= 1
    assert out.count("results:") == 1
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["passes"]["forwards"] == 60
    assert not list(tmp_path.glob("**/run/**/run"))


def test_a_fit_of_two_ranks_without_a_cache_is_refused(scans: Path, tmp_path: Path) -> None:
    words = ["fit", "data=folder", f"data.root={scans}", "cache.max_gb=0", f"hydra.run.dir={tmp_path}/run"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tlkit"]
    done = subprocess.run(
        [sys.executable, *launcher, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.returncode != 0
    assert "cache.max_gb=0: several processes share a pass through the cache" in done.stderr
