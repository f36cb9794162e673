"""What strategy=auto measures and chooses on four data sets, and what every strategy reaches there.

    python tests/benchmarks/auto_strategy.py [--epochs 5] [--seed 1] [NAME ...]

MobileNetV2 with ImageNet weights on ants and bees, pollen (by group) and solar cells, all found through
TLKIT_TEST_ASSETS, and the embedded network on digits. One split; accuracy on the split that is held out, which no
strategy sees. The cache is a temporary one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

STRATEGIES: dict[str, dict[str, Any]] = {
    "probe, pool": {"name": "linear_probe"},
    "probe, tap=auto": {"name": "linear_probe", "tap": "auto"},
    "partial, last stage": {"name": "partial", "train_last": 1},
    "full": {"name": "full"},
}


def assets() -> Path:
    """The folder of real images and weights."""
    folder = os.environ.get("TLKIT_TEST_ASSETS")
    if not folder:
        sys.exit("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    return Path(folder).resolve()


def cases() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Name to the settings of backbone and data."""
    imagenet = {"name": "mobilenetv2_100", "weights": str(assets() / "weights" / "mobilenetv2_100.keras_in1k")}
    data = assets() / "data"
    return {
        "digits": ({"name": "tiny"}, {"name": "digits"}),
        "hymenoptera": (imagenet, {"name": "folder", "root": str(data / "hymenoptera")}),
        "pollen": (imagenet, {"name": "manifest", "path": str(data / "pollen" / "manifest.csv"), "group": "group"}),
        "solar_cells": (imagenet, {"name": "folder", "root": str(data / "solar_cells")}),
    }


def limits() -> Any:  # noqa: ANN401
    """Read the thresholds that are shipped."""
    from tlkit.strategies.decision import Thresholds

    shipped = Path(__file__).parents[2] / "conf" / "strategy" / "auto.yaml"
    settings = yaml.safe_load(shipped.read_text())
    del settings["name"]
    return Thresholds(**settings)


def reached(strategy: dict[str, Any], network: Any, data: Any, store: Any, epochs: int, seed: int) -> str:  # noqa: ANN401
    """Fit, and say the held-out accuracy, what was kept, and the seconds."""
    from tlkit import registry
    from tlkit.strategies import Resources

    trains = strategy["name"] != "linear_probe"
    started = time.perf_counter()
    resources = Resources(store, {"max_epochs": epochs} if trains else {}, seed)
    made = registry.build("strategy", strategy, network, data, resources)
    seconds = time.perf_counter() - started
    rows = data.rows(data.held_out)
    rows = rows[[row not in store.codes(network, data.images, ["pool"]).errors for row in rows]]
    right = made.predict_proba([data.images[row] for row in rows], store).argmax(axis=1) == data.labels[rows]
    how = made.training.get("kept", "+".join(made.taps))
    return f"{np.mean(right):.3f} of {len(rows)} ({how}; {seconds:.0f} s)"


def measure(name: str, epochs: int, seed: int) -> None:
    """Print the record, the decision, and what each strategy reaches."""
    from tlkit.codes import CodesStore
    from tlkit.sources import build_backbone, load_data
    from tlkit.strategies.auto import look
    from tlkit.strategies.decision import decide
    from tlkit.words import words

    spec, source = cases()[name]
    network, data, store = build_backbone(spec, seed), load_data(source, seed), CodesStore()
    codes = store.codes(network, data.images, [tap.name for tap in network.taps])
    measured = look(network, data, codes, seed)
    decision = decide(measured, limits())
    print(
        f"== {name}, {network.name}\n{measured}\n{decision.quadrant}: {words(strategy=decision.choice)}",
        flush=True,
    )
    for reason in decision.reasons:
        print(f"  {reason}", flush=True)
    for label, strategy in STRATEGIES.items():
        print(f"| {name} | {label} | {reached(strategy, network, data, store, epochs, seed)} |", flush=True)


def main() -> None:
    """Run the data sets that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TLKIT_CACHE"] = cache
        for name in asked.names or cases():
            measure(name, asked.epochs, asked.seed)


if __name__ == "__main__":
    main()
