"""Seven small networks of different seeds vote: `python tests/benchmarks/ensembles.py [--epochs N] [--held-out SHARE]`.

They are trained from scratch on scikit-learn's digits, on one split, through the command line's own path; the ensemble
is compared with the mean member on the images that all of them held out, paired, by a bootstrap over the images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from tlkit import results
from tlkit.runs import METRICS

SEEDS = "1,2,3,4,5,6,7"
CLASSES = tuple("0123456789")


def main() -> None:
    """Train, vote, and print both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--held-out", type=float, default=0.5, help="of the digits; half leaves room for mistakes")
    parser.add_argument("--backbone", default="lenet5")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _tlkit(
            folder,
            *("fit", "-m", f"seed={SEEDS}", "strategy=scratch", f"backbone={told.backbone}"),
            *("data.split_seed=1", f"data.test_size={told.held_out}", "data.val_size=0.1"),
            *("strategy.augment=none", "strategy.optimizer=adamw", "strategy.lr=1e-2"),
            *(f"trainer.max_epochs={told.epochs}", "hydra.sweep.dir=sweep"),
        )
        for voting in ("soft", "hard"):
            _tlkit(folder, "ensemble", "runs=sweep", f"voting={voting}", f"hydra.run.dir={voting}")
            report(sorted(path.parent for path in Path(folder, "sweep").glob(f"*/{METRICS}")), Path(folder, voting))


def report(members: list[Path], ensemble: Path) -> None:
    """Print the gain over the mean member with its paired 95 % interval."""
    right = []
    for run in [*members, ensemble]:
        said = results.read_probabilities(run, CLASSES, "held out")
        assert said is not None
        order = np.argsort(said.files)
        right.append((said.probabilities.argmax(axis=1) == said.labels)[order])
    gain = right[-1].astype(float) - np.mean(right[:-1], axis=0)
    interval = bootstrap((gain,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0)).confidence_interval
    alone = ", ".join(f"{one.mean():.4f}" for one in right[:-1])
    print(f"members {alone}; mean {np.mean(right[:-1]):.4f}; ensemble ({ensemble.name}) {right[-1].mean():.4f}")
    print(f"GAIN over the mean member {gain.mean():+.4f}, 95 % interval {interval.low:+.4f} to {interval.high:+.4f}")


def _tlkit(folder: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "tlkit", *words], check=True, cwd=folder)


if __name__ == "__main__":
    main()
