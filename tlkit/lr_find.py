"""`tlkit lr-find`: which `strategy.lr` to take, for the same words as `tlkit fit`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit import registry, runs
from tlkit.errors import UsageError
from tlkit.progress import progress
from tlkit.sources import build_backbone, lasting, load_data
from tlkit.words import words

if TYPE_CHECKING:
    from tlkit.training.search import Found

log = logging.getLogger(__name__)

CURVE, PICTURE = "lr_find.csv", "lr_find.png"


def lr_find(
    run_dir: Path,
    *,
    data: dict[str, Any],
    backbone: dict[str, Any],
    strategy: dict[str, Any],
    codes: dict[str, Any],
    cache: dict[str, Any],
    trainer: dict[str, Any],
    seed: int,
    steps: int = 100,
) -> float:
    """Train a few steps at rising rates, show the losses, and return the rate that they suggest.

    Raises:
        UsageError: the strategy trains nothing, or `steps` are too few.
        TlkitError: what stops it; nothing is left behind then.
    """
    from tlkit.codes import CodesStore, cache_at
    from tlkit.strategies import TRAINED, Resources
    from tlkit.training.search import FEWEST, Found

    if strategy["name"] not in TRAINED:
        raise UsageError(f"strategy={strategy['name']} has no rate to find. Take one of {', '.join(TRAINED)}.")
    if steps < FEWEST:
        raise UsageError(f"steps={steps}: give {FEWEST} or more.")
    data = {key: lasting(key, value) for key, value in data.items()}
    groups = {"data": data, "backbone": backbone, "strategy": strategy, "codes": codes, "cache": cache}
    record = {**groups, "trainer": trainer, "seed": seed}
    with runs.directory(run_dir, {**record, "steps": steps}) as out:
        store = CodesStore(cache_at(**cache), **codes)
        with progress("looking the images over"):
            images = load_data(data, seed)
        network = build_backbone(backbone, seed)
        try:
            registry.build("strategy", strategy, network, images, Resources(store, trainer, seed, rates_to_try=steps))
        except Found as found:
            _write(found, out)
            suggested = found.suggested
            print(_report(found, out, {**record, "strategy": {**strategy, "lr": suggested}}))
    return suggested


def _write(found: Found, out: Path) -> None:
    import pandas as pd

    from tlkit import plots, tables

    table = {"lr": found.rates, "loss": found.losses, "smooth": found.smooth}
    tables.write(pd.DataFrame(table), out / CURVE)
    plots.save(plots.rate_search(found.rates, found.losses, found.smooth, found.suggested), out / PICTURE)


def _report(found: Found, out: Path, record: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"up to a rate of {found.edge:.2g} of the last stage the loss is about as low as it gets",
            f"suggested: strategy.lr={found.suggested:g}, a tenth of that; as asked it would be {found.usual:.2g}",
            f"results: {runs.short(out)}",
            f"next:    tlkit fit {words(**record)}",
        ]
    )
