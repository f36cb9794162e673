"""Codes: how fast, at what memory, and what survives. Each case prints both sides from one run.

    python tests/benchmarks/codes.py CASE [--backbone NAME]      CASE: speed, taps, again, memory, kills, auto, or all

Real photographs and ImageNet weights are found through TLKIT_TEST_ASSETS. Everything else is made in a temporary
folder, the cache too. Rates are of the work itself: neither side pays for imports or for reading weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

Images = Sequence[Path | PIL.Image.Image]


def assets() -> Path:
    """The folder of real images and weights."""
    folder = os.environ.get("TLKIT_TEST_ASSETS")
    if not folder:
        sys.exit("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    return Path(folder).resolve()


def photographs(folder: Path, n: int, size: tuple[int, int]) -> list[Path]:
    """Write n different JPEGs of a size, cut from real photographs."""
    sources = sorted(assets().glob("data/hymenoptera/*/*/*.jpg"))
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for number in range(n):
        path = folder / f"{number:05}.jpg"
        photo = PIL.Image.open(sources[number % len(sources)]).convert("RGB")
        left, top, right, bottom = draw.uniform((0, 0, 0.9, 0.9), (0.1, 0.1, 1, 1)) * (*photo.size, *photo.size)
        photo.resize(size, PIL.Image.Resampling.BICUBIC, (left, top, right, bottom)).save(path, quality=90)
    return sorted(folder.iterdir())


def settings(name: str) -> dict[str, Any]:
    """The settings of a backbone: real weights where the assets have them, else random ones, which are as fast."""
    folder = {"mobilenetv2_100": "mobilenetv2_100.keras_in1k", "mobilenetv1_100": "mobilenetv1_100.tflite_in1k"}
    return {"name": name, "weights": str(assets() / "weights" / folder[name]) if name in folder else None}


def backbone(name: str) -> Any:  # noqa: ANN401
    """Build a backbone."""
    from tlkit.sources import build_backbone

    return build_backbone(settings(name), 0)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---------------------------------------------------------------------------------------------------------------- speed


def plain_loop(network: Any, paths: Images, workers: int) -> float:  # noqa: ANN401
    """What people write: timm's model and transform in a DataLoader, eager, float32, batches of 32; images a second."""
    import timm.data
    import torch
    from torch.utils.data import DataLoader, Dataset

    p = network.preprocess
    library: Any = timm.data
    transform = library.create_transform(
        p.input_size, interpolation=p.interpolation, mean=p.mean, std=p.std, crop_pct=p.crop_pct, is_training=False
    )

    class Photographs(Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, row: int) -> Any:  # noqa: ANN401
            return transform(PIL.Image.open(paths[row]).convert("RGB"))  # type: ignore[arg-type]

    model = network.module.eval()

    def work() -> None:
        with torch.inference_mode():
            for batch in DataLoader(Photographs(), batch_size=32, num_workers=workers):
                model.forward_head(model.forward_features(batch), pre_logits=True)

    return len(paths) / seconds(work)


def our_rate(network: Any, paths: Images, scratch: Path, taps: Sequence[str] = ("pool",), **options: Any) -> float:  # noqa: ANN401
    """Images a second of `CodesStore.codes`, as `tlkit extract` and `tlkit fit` call it, into a new, empty store."""
    from tlkit.codes import CodesStore, cache_at

    cache = cache_at(dir=str(scratch / f"cache-{network.name}"))
    cache.codes.prune(everything=True)
    store = CodesStore(cache, **options)
    rate = len(paths) / seconds(lambda: store.codes(network, paths, taps))
    assert store.forwards == len(paths), "some images are equal, or not all were computed"
    return rate


def parts(network: Any, paths: Images, scratch: Path) -> tuple[float, float]:  # noqa: ANN401
    """Images a second of decoding alone, on all processors, and of the network alone."""
    from tlkit.codes.engines import make_engine
    from tlkit.codes.stream import ahead
    from tlkit.data import content, decode

    def read(row: int) -> Any:  # noqa: ANN401
        _, data = content(paths[row])
        return network.preprocess.pixels(decode(data))

    decoding = len(paths) / seconds(lambda: list(map(len, ahead(read, len(paths), os.cpu_count() or 1, 64))))
    pixels = np.stack([read(row) for row in range(128)])
    engine = make_engine(network, ["pool"], cache=scratch / f"cache-{network.name}" / "networks")
    engine(pixels)
    times = [seconds(lambda: engine(pixels)) for _ in range(5)]
    return decoding, len(pixels) / statistics.median(times)


def speed(scratch: Path, name: str) -> None:
    """1,024 JPEGs of about 400x533 to pooled codes: ours against the plain loops."""
    paths = photographs(scratch / "photographs", 1024, (533, 400))
    network = backbone(name)
    first = our_rate(network, paths, scratch)
    rounds = [[our_rate(network, paths, scratch), *parts(network, paths, scratch)] for _ in range(3)]
    plain = {workers: plain_loop(network, paths, workers) for workers in (0, 2)}
    rounds.append([our_rate(network, paths, scratch), *parts(network, paths, scratch)])
    ours, decoding, alone = (statistics.median(column) for column in zip(*rounds, strict=True))
    best = max(plain.values())
    both = 1 / (1 / decoding + 1 / alone)
    print(f"{name}, 1,024 JPEGs of 533x400, float32, {os.cpu_count()} processors; images a second")
    print(f"  timm + DataLoader, eager, batch 32:   workers=0 {plain[0]:.1f}   workers=2 {plain[2]:.1f}")
    print(f"  tlkit (median of {len(rounds)}: {', '.join(f'{r[0]:.0f}' for r in rounds)}):   {ours:.1f}")
    print(f"  tlkit, the first time, with the conversion of the network:   {first:.1f}")
    print(f"  decoding alone {decoding:.0f}, network alone {alone:.0f}; sharing the processors {both:.0f}")
    print(f"  RATIO {ours / best:.2f}   share of the slower part alone {ours / min(decoding, alone):.2f}")


def taps(scratch: Path, name: str) -> None:
    """Eight taps in one pass against one."""
    network = backbone(name)
    paths = photographs(scratch / "photographs", 512, (533, 400))
    every = [tap.name for tap in network.taps][-8:]
    rates: dict[int, list[float]] = {1: [], len(every): []}
    for asked in (["pool"], every):
        our_rate(network, paths, scratch, asked)  # converts the network
    for _ in range(5):
        rates[1].append(our_rate(network, paths, scratch, ["pool"]))
        rates[len(every)].append(our_rate(network, paths, scratch, every))
    medians = {n: statistics.median(each) for n, each in rates.items()}
    print(f"{name}: images a second with " + ", ".join(f"{n} taps {rate:.1f}" for n, rate in medians.items()))
    print(f"  COST of {len(every)} taps against one: {medians[1] / medians[len(every)]:.3f}")


# ---------------------------------------------------------------------------------------------------------------- again


def command(words: Sequence[str], cache: Path) -> tuple[float, float]:
    """Run tlkit in a process of its own; seconds of wall time and of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tlkit", *words], check=True, env={**os.environ, "TLKIT_CACHE": str(cache)},
        capture_output=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def passes(run: Path) -> dict[str, int]:
    """What a run counted."""
    counted: dict[str, int] = json.loads((run / "metrics.json").read_text())["passes"]
    return counted


def again(scratch: Path, name: str) -> None:
    """A second fit with another head; 10 images more."""
    data = ["data=folder", f"data.root={assets()}/data/hymenoptera"]
    told = settings(name)
    words = ["fit", "strategy=linear_probe", *data, f"backbone={name}", f"backbone.weights={told['weights'] or 'null'}"]
    first = command([*words, f"hydra.run.dir={scratch}/first"], scratch / "cache")
    heads = ["softmax", "ridge", "knn", "svm", "prototype"]
    times = {}
    for head in heads:
        out = scratch / head
        times[head] = command([*words, f"strategy.head={head}", f"hydra.run.dir={out}"], scratch / "cache")
        print(f"  then head={head:10} {times[head][0]:.1f} s wall, {times[head][1]:.1f} s processor, {passes(out)}")
    print(f"first fit {first[0]:.1f} s wall, {first[1]:.1f} s processor, {passes(scratch / 'first')}")
    print(f"SECOND FIT (median) {statistics.median(wall for wall, _ in times.values()):.1f} s wall")

    from tlkit.codes import CodesStore, cache_at

    network, paths = backbone(name), photographs(scratch / "more", 1010, (160, 120))
    store = CodesStore(cache_at(dir=str(scratch / "cache")))
    store.codes(network, paths[:1000], ["pool"])
    before = store.forwards
    store.codes(network, paths, ["pool"])
    print(f"10 images added to 1,000: {store.forwards - before} forward passes")


# --------------------------------------------------------------------------------------------------------------- memory


def memory(scratch: Path, name: str) -> None:
    """Peak memory of `tlkit extract` on 1,000 and on 20,000 images."""
    paths = photographs(scratch / "many" / "a", 20_000, (200, 150))
    told = settings(name)
    peaks = {}
    for n in (1000, 20_000):
        manifest = scratch / f"{n}.csv"
        lines = [f"{path},{'even' if row % 2 else 'odd'}" for row, path in enumerate(paths[:n])]
        manifest.write_text("\n".join(["path,label", *lines]))
        words = ["extract", "data=manifest", f"data.path={manifest}", f"backbone={name}", f"out={scratch}/codes{n}"]
        watched = "import resource, sys; from tlkit.cli import main; code = main(sys.argv[1:]); "
        watched += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        done = subprocess.run(
            [sys.executable, "-c", watched, *words, f"backbone.weights={told['weights'] or 'null'}"],
            check=True, capture_output=True, text=True, env={**os.environ, "TLKIT_CACHE": str(scratch / "cache")},
        )  # fmt: skip
        peaks[n] = int(done.stdout.split()[-1]) / 1024
        print(f"  {n:,} images: peak {peaks[n]:,.0f} MB")
    print(f"DIFFERENCE {peaks[20_000] - peaks[1000]:,.0f} MB")


# ---------------------------------------------------------------------------------------------------------------- kills


def extraction(name: str, paths: Images, cache: Path, pipe: Connection) -> None:
    """Extract in a process of its own; tell how many images have been through the network, all the time."""
    from tlkit.codes import CodesStore, cache_at

    store = CodesStore(cache_at(dir=str(cache)))

    def tell() -> None:
        while True:
            pipe.send(store.forwards)
            time.sleep(0.002)

    network = backbone(name)
    threading.Thread(target=tell, daemon=True).start()
    store.codes(network, paths, ["layer2", "pool"] if name == "tiny" else ["pool"])
    pipe.send(store.forwards)


def started(name: str, paths: Images, cache: Path) -> tuple[Any, Connection]:
    """Start an extraction."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=extraction, args=(name, paths, cache, theirs))
    process.start()
    theirs.close()
    return process, ours


def last(pipe: Connection, enough: int | None = None) -> int:
    """The last number told, when it is enough or the other end is closed."""
    forwards = 0
    try:
        while enough is None or forwards < enough:
            forwards = pipe.recv()
    except EOFError:
        pass
    return forwards


def content_of(cache: Path, name: str, paths: Images) -> dict[str, bytes]:
    """The codes of all images in a store, which must have them all."""
    from tlkit.codes import CodesStore, cache_at

    store = CodesStore(cache_at(dir=str(cache)))
    codes = store.codes(backbone(name), paths, ["layer2", "pool"] if name == "tiny" else ["pool"])
    assert store.forwards == 0
    return {tap: values.tobytes() for tap, values in codes.values.items()}


def kills(scratch: Path, name: str, times: int = 30) -> None:
    """SIGKILL at random moments, then the rest; two processes at once."""
    multiprocessing.set_forkserver_preload(["tlkit.workflow", "tlkit.codes", "timm", "tlkit_plugins.tiny"])
    paths = photographs(scratch / "photographs", 900, (160, 120))
    process, pipe = started(name, paths, scratch / "whole")
    last(pipe)
    process.join()
    reference = content_of(scratch / "whole", name, paths)
    draw, repeated, survived = random.Random(0), [], 0
    for number in range(times):
        cache = scratch / f"killed{number}"
        (cache / "networks").parent.mkdir(parents=True)
        (cache / "networks").symlink_to(scratch / "whole" / "networks")
        process, pipe = started(name, paths, cache)
        done = last(pipe, draw.randrange(len(paths)))
        time.sleep(draw.uniform(0, 0.02))  # in the midst of a pass, or of writing a block
        os.kill(process.pid, signal.SIGKILL)
        done = max(done, last(pipe))
        process.join()
        process, pipe = started(name, paths, cache)
        rest = last(pipe)
        process.join()
        assert process.exitcode == 0
        survived += content_of(cache, name, paths) == reference
        repeated.append(done + rest - len(paths))
        print(f"  killed after {done} of {len(paths)} forward passes, then {rest}: {repeated[-1]} repeated", flush=True)
    print(f"KILLS: {survived} of {times} stores equal to the uninterrupted one, byte by byte;", end=" ")
    print(f"repeated at most {max(repeated)} forward passes (a block is 256)")
    both = [started(name, paths, scratch / "shared") for _ in range(2)]
    forwards = [last(pipe) for _, pipe in both]
    for process, _ in both:
        process.join()
    same = content_of(scratch / "shared", name, paths) == reference
    print(f"TWO AT ONCE: {forwards} forward passes, the store is {'right' if same else 'WRONG'}")


# ----------------------------------------------------------------------------------------------------------------- auto


def outer_folds(data: Any, seed: int) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Five folds, by group where there are groups; the split of the data where it has one of its own."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if data.groups is not None:
        by_group = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        return list(by_group.split(data.labels, data.labels, data.groups))
    return list(StratifiedKFold(5, shuffle=True, random_state=seed).split(data.labels, data.labels))


def auto(scratch: Path, name: str, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """strategy.tap=auto against the last tap, the choice made inside each training fold."""
    from dataclasses import replace

    from tlkit import registry
    from tlkit.codes import CodesStore, cache_at
    from tlkit.sources import load_data
    from tlkit.strategies import Resources

    network, folder = backbone(name), assets() / "data"
    store = CodesStore(cache_at(dir=str(scratch / "cache")))
    sets = {
        "hymenoptera": {"name": "folder", "root": str(folder / "hymenoptera")},
        "pollen": {"name": "manifest", "path": str(folder / "pollen" / "manifest.csv"), "group": "group"},
        "solar_cells": {"name": "folder", "root": str(folder / "solar_cells")},
    }
    for title, told in sets.items():
        data = load_data(told, 1)
        own = title == "hymenoptera"  # it comes with a split
        for seed in (1, 2, 3) if own else seeds:
            folds = [(data.rows("train"), data.rows("val"))] if own else outer_folds(data, seed)
            right: dict[str, list[Any]] = {"pool": [], "auto": []}
            taken = []
            for train, test in folds:
                split = np.full(len(data), "none", dtype="<U5")
                split[train], split[test] = "train", "test"
                part = replace(data, split=split)
                for tap, found in right.items():
                    probe = registry.build(
                        "strategy", {"name": "linear_probe", "tap": tap}, network, part, Resources(store, {}, seed)
                    )
                    held_out = data.select(test)
                    p = probe.predict_proba(held_out.images, store)
                    found.append(p.argmax(axis=1) == held_out.labels)
                taken.append(f"{'+'.join(probe.taps)} {probe.head.scale_}")
            accuracy = {tap: np.concatenate(found).mean() for tap, found in right.items()}
            values = ", ".join(f"tap={tap} {value:.4f}" for tap, value in accuracy.items())
            folds_told = "seed" if own else "five folds, seed"
            print(f"{title}, {folds_told} {seed}: {values}   ({'; '.join(taken)})", flush=True)


CASES: dict[str, tuple[Callable[[Path, str], None], Sequence[str]]] = {
    "speed": (speed, ["mobilenetv2_100", "resnet50"]),
    "taps": (taps, ["mobilenetv2_100"]),
    "again": (again, ["mobilenetv2_100"]),
    "memory": (memory, ["mobilenetv2_100"]),
    "kills": (kills, ["tiny"]),
    "auto": (auto, ["mobilenetv2_100"]),
}


def main() -> None:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*CASES, "all"])
    parser.add_argument("--backbone")
    told = parser.parse_args()
    for case in CASES if told.case == "all" else [told.case]:
        work, backbones = CASES[case]
        for name in [told.backbone] if told.backbone else backbones:
            with tempfile.TemporaryDirectory() as scratch:
                work(Path(scratch), name)


if __name__ == "__main__":
    main()
