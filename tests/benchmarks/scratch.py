"""Does every network of ours learn from nothing? Test accuracy on scikit-learn's digits, through the command line.

    python tests/benchmarks/scratch.py [--seeds 1 2] [NAME ...]

Each is `tlkit fit strategy=scratch data=digits` with the words of its row in a process of its own, on one thread; a
seed splits the data, draws the weights and orders the images. The cache is a temporary one. Ends with 1 if the mean
of a network's accuracies is below its bar.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

PLAIN = "strategy.augment=none"


@dataclass(frozen=True)
class Case:
    """The accuracy that is asked for, and the words after `tlkit fit strategy=scratch data=digits`."""

    bar: float
    words: str


CASES = {
    "lenet5": Case(0.98, "backbone=lenet5 strategy.augment=crop strategy.lr=0.02 trainer.max_epochs=60"),
    "nin_cifar": Case(
        0.97, f"backbone=nin_cifar {PLAIN} strategy.optimizer=adamw strategy.lr=5e-4 trainer.max_epochs=30"
    ),
    "zfnet": Case(0.97, f"backbone=zfnet backbone.input_size=64 {PLAIN} strategy.lr=0.01 trainer.max_epochs=10"),
    "resnet_cifar": Case(0.98, f"backbone=resnet_cifar {PLAIN} trainer.max_epochs=20"),
    "resnet_cifar_sd": Case(0.97, f"backbone=resnet_cifar_sd backbone.depth=20 {PLAIN} trainer.max_epochs=20"),
    # The paper's 20 layers for CIFAR, with the widths of its table of depths: a sixteenth of the operations.
    "fractalnet": Case(
        0.97,
        f"backbone=fractalnet backbone.columns=3 backbone.width=16 {PLAIN} "
        "strategy.optimizer=adamw strategy.lr=1e-3 trainer.max_epochs=20",
    ),
}


def measure(words: str, seed: int) -> tuple[float, float]:
    """Train once; return the test accuracy and the seconds of the whole process."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tlkit", "fit", "strategy=scratch", "data=digits", *words.split()]
        done = subprocess.run(
            [*command, f"seed={seed}", f"hydra.run.dir={folder}/run"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TLKIT_CACHE": f"{folder}/cache"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"tlkit fit {words} seed={seed}: {done.stderr}")
        accuracy = json.loads(Path(folder, "run", "metrics.json").read_text())["accuracy"]
    return accuracy, time.perf_counter() - started


def main() -> None:
    """Train the networks that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    asked = parser.parse_args()
    short = []
    for name in asked.names or CASES:
        case = CASES[name]
        found = []
        for seed in asked.seeds:
            accuracy, seconds = measure(case.words, seed)
            found.append(accuracy)
            print(f"{name}, seed {seed}: test accuracy {accuracy:.4f} in {seconds:.0f} s", flush=True)
        if mean(found) < case.bar:
            short.append(name)
        print(f"| `{name}` | {case.bar} | {mean(found):.4f} ({min(found):.4f} to {max(found):.4f}) |", flush=True)
    sys.exit(f"below the bar: {', '.join(short)}" if short else 0)


if __name__ == "__main__":
    main()
