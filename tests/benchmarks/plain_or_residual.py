"""Does depth hurt a plain network, and not a residual one? He et al. 2015, figures 4 and 6, on scikit-learn's digits.

    python tests/benchmarks/plain_or_residual.py [--depths 20 56] [--epochs 10] [--seeds 1] [--out FOLDER]

`tlkit fit strategy=scratch data=digits` of `plain_cifar` and `resnet_cifar` at each depth, with the same words: rates,
epochs, order of images and all else are alike, and nothing is tuned. Draws the training loss and the validation error
over the epochs, one panel a kind, and prints where the picture is. Ends with 1 if, at the end, the deepest plain
network has not the larger training loss, than the residual one of its depth and than the shallowest plain one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

WORDS = "strategy=scratch data=digits strategy.augment=none"  # a mirrored digit is another one, or none
KINDS = {"plain_cifar": "plain", "resnet_cifar": "residual"}

Curve = list[dict[str, float]]
"""A row an epoch, with "epoch", "train_loss" and "val_accuracy"."""


def curve(kind: str, depth: int, epochs: int, seed: int) -> Curve:
    """Train a network; return its epochs."""
    started = time.perf_counter()
    words = f"{WORDS} backbone={kind} backbone.depth={depth} trainer.max_epochs={epochs} seed={seed}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "tlkit", "fit", *words.split(), f"hydra.run.dir={folder}/run"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TLKIT_CACHE": f"{folder}/cache"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    rows: Curve = metrics["training"]["epochs"]
    found = f"training loss {rows[-1]['train_loss']:.4f} at the end, test accuracy {metrics['accuracy']:.4f}"
    seconds = time.perf_counter() - started
    print(f"{KINDS[kind]}, {depth} layers, seed {seed}: {found}; {seconds:.0f} s", flush=True)
    return rows


def draw(curves: dict[tuple[str, int], list[Curve]], path: Path) -> None:
    """Draw training loss above and validation error below, a column a kind; means over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    colours = dict(
        zip(sorted({depth for _, depth in curves}), ("#0072B2", "#D55E00", "#009E73", "#666666"), strict=False)
    )
    for (kind, depth), several in curves.items():
        column = list(KINDS).index(kind)
        epochs = [row["epoch"] for row in several[0]]
        for row, name in enumerate(("train_loss", "val_accuracy")):
            values = [mean(one[epoch][name] for one in several) for epoch in range(len(epochs))]
            values = [100 * (1 - value) for value in values] if name == "val_accuracy" else values
            axes = panels[row, column]
            axes.plot(epochs, values, color=colours[depth], label=f"{KINDS[kind]}-{depth}")
    for column, kind in enumerate(KINDS.values()):
        panels[0, column].set_title(kind, fontsize=11)
        panels[1, column].set(xlabel="epoch")
        for axes in panels[:, column]:
            axes.grid(alpha=0.3)
            axes.legend(fontsize=9, frameon=False)
    panels[0, 0].set(ylabel="training loss", yscale="log")
    panels[1, 0].set(ylabel="validation error (%)", ylim=(0, 100))
    figure.savefig(path, dpi=110)


def ends(curves: Sequence[Curve]) -> float:
    """Return the training loss of the last epoch, the mean over the seeds."""
    return mean(rows[-1]["train_loss"] for rows in curves)


def main() -> None:
    """Train all, draw, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", nargs="+", type=int, default=[20, 56])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    pairs = [(kind, depth) for depth in sorted(asked.depths) for kind in KINDS]
    curves = {pair: [curve(*pair, asked.epochs, seed) for seed in asked.seeds] for pair in pairs}
    asked.out.mkdir(parents=True, exist_ok=True)
    picture = asked.out / "plain_or_residual.png"
    draw(curves, picture)
    print(picture.absolute())
    shallow, deep = min(asked.depths), max(asked.depths)
    plain = ends(curves["plain_cifar", deep])
    beaten = [ends(curves["resnet_cifar", deep]), ends(curves["plain_cifar", shallow])]
    sys.exit(0 if plain > max(beaten) else f"plain-{deep} ends at {plain:.4f}, not above {max(beaten):.4f}")


if __name__ == "__main__":
    main()
