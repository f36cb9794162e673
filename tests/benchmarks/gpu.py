"""On one GPU: training beside timm's own loop, codes beside a plain one. Both sides in one run; needs CUDA.

    python tests/benchmarks/gpu.py CASE [--images 4096]      CASE: train, codes, or all

Photographs are found through TLKIT_TEST_ASSETS, and cut and saved anew until there are enough. ResNet-50 has random
weights, which are as fast. Rates are medians of epochs after the first; memory is what torch allocated at most.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

SIZE = (500, 375)
BATCH = 256
EPOCHS = 4
WORKERS = min(16, os.cpu_count() or 1)


def cut(job: tuple[int, Path, Path]) -> None:
    """Save a random part of a photograph as a JPEG."""
    number, source, target = job
    photo = PIL.Image.open(source).convert("RGB")
    draw = np.random.default_rng(number)
    left, top, right, bottom = draw.uniform((0, 0, 0.9, 0.9), (0.1, 0.1, 1, 1)) * (*photo.size, *photo.size)
    photo.resize(SIZE, PIL.Image.Resampling.BICUBIC, (left, top, right, bottom)).save(target, quality=90)


def photographs(folder: Path, n: int) -> Any:  # noqa: ANN401
    """Write n JPEGs in ten classes, and list them."""
    from tlkit.sources import load_data

    found = os.environ.get("TLKIT_TEST_ASSETS")
    if not found:
        sys.exit("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    sources = sorted(Path(found).glob("data/hymenoptera/*/*/*.jpg"))
    jobs = [(row, sources[row % len(sources)], folder / f"class{row % 10}" / f"{row:06}.jpg") for row in range(n)]
    for name in range(10):
        (folder / f"class{name}").mkdir(parents=True)
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(cut, jobs, chunksize=32))
    return load_data({"name": "folder", "root": str(folder)}, 1)


def rate(times: list[float], images: int) -> str:
    """Images a second and the largest memory since it was last reset."""
    speed, peak = images / statistics.median(times[1:]), torch.cuda.max_memory_allocated() / 2**30
    return f"{speed:,.0f} images/s, {peak:.1f} GiB; seconds {[round(t, 2) for t in times]}"


def train(folder: Path, n: int) -> None:
    """Epochs of everything, bf16, channels_last: tlkit's `full` beside timm's loader, optimizer and autocast."""
    data = photographs(folder / "images", n)
    for name, side in (("timm", by_timm), ("tlkit", by_tlkit), ("timm again", by_timm), ("tlkit again", by_tlkit)):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        print(f"{name}: {rate(side(data), n // BATCH * BATCH)}", flush=True)
    torch.cuda.reset_peak_memory_stats()
    steps = n // BATCH
    print(f"as many steps on one batch that is there already: {rate(without_images(steps), steps * BATCH)}", flush=True)


def by_tlkit(data: Any) -> list[float]:  # noqa: ANN401
    """Seconds of tlkit's epochs, without validation."""
    from pytorch_lightning import Callback

    from tlkit.sources import build_backbone
    from tlkit.training import Policy, Settings
    from tlkit.training.augment import augmented, plain
    from tlkit.training.loading import training_loader, validation_loader
    from tlkit.training.module import FineTuning, Plan
    from tlkit.training.network import Network
    from tlkit.training.rates import rates
    from tlkit.training.trainer import train as fit

    times = list[float]()

    class Clock(Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            torch.cuda.synchronize()
            times.append(time.perf_counter() - self.start)

    network, settings = build_backbone({"name": "resnet50", "weights": None}, 0), Settings(batch_size=BATCH)
    plan = Plan(Policy(), rates(network, settings, BATCH), settings, network.preprocess, torch.ones(10), 1)
    common = (BATCH, 1, WORKERS)
    fit(
        FineTuning(Network(network, 10), plan),
        training_loader(data, augmented(network.preprocess, settings), *common),
        validation_loader(data.select(range(2)), plain(network.preprocess), *common),
        {"max_epochs": EPOCHS, "precision": "bf16-mixed", "limit_val_batches": 0, "callbacks": [Clock()]},
        None,
    )
    return times


def step(model: Any, optimizer: Any, images: Any, labels: Any) -> None:  # noqa: ANN401
    """Do what timm's train.py does with a batch under --amp --amp-dtype bfloat16 --channels-last."""
    with torch.autocast("cuda", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(images.to(memory_format=torch.channels_last)), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def timm_model() -> tuple[Any, Any]:
    """A network and its optimizer."""
    import timm
    from timm.optim._optim_factory import create_optimizer_v2

    model = timm.create_model("resnet50", num_classes=10).cuda().to(memory_format=torch.channels_last).train()
    return model, create_optimizer_v2(model, opt="momentum", lr=1e-3, momentum=0.9)


def by_timm(data: Any) -> list[float]:  # noqa: ANN401
    """Seconds of the epochs of timm's loader (its prefetcher, as many workers) and loop."""
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    make: Any = create_loader
    root = Path(data.images[0]).parent.parent
    loader = make(
        create_dataset("", root=str(root)),
        input_size=(3, 224, 224),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=True,
        scale=(0.35, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        num_workers=WORKERS,
        pin_memory=True,
        device=torch.device("cuda"),
    )
    (model, optimizer), times = timm_model(), list[float]()
    torch.backends.cudnn.benchmark = True  # as train.py does
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for images, labels in loader:
            step(model, optimizer, images, labels)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    torch.backends.cudnn.benchmark = False
    return times


def without_images(steps: int) -> list[float]:
    """Seconds of as many steps, nothing decoded or copied: the bound of the GPU alone."""
    (model, optimizer), times = timm_model(), list[float]()
    images, labels = torch.randn(BATCH, 3, 224, 224, device="cuda"), torch.arange(BATCH, device="cuda") % 10
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for _ in range(steps):
            step(model, optimizer, images, labels)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def codes(folder: Path, n: int) -> None:
    """Pooled codes of ResNet-50 into an empty store, and a plain loop of timm's model in a DataLoader."""
    from tlkit.codes import CodesStore, cache_at
    from tlkit.sources import build_backbone

    data = photographs(folder / "images", n)
    network = build_backbone({"name": "resnet50", "weights": None}, 0)
    for precision in ("float32", "bf16"):
        store = CodesStore(cache_at(dir=str(folder / precision)), engine="torch", precision=precision)
        start = time.perf_counter()
        store.codes(network, data.images, ["pool"])
        seconds = time.perf_counter() - start
        print(f"tlkit, {precision}: {n / seconds:,.0f} images/s, {store.forwards} forward passes", flush=True)
        print(f"plain loop, {precision}: {n / plain_loop(network, data, precision):,.0f} images/s", flush=True)


def plain_loop(network: Any, data: Any, precision: str) -> float:  # noqa: ANN401
    """Seconds of a DataLoader with timm's transform, batches of 128, pinned, as many workers as processors."""
    from timm.data.transforms_factory import create_transform
    from torch.utils.data import DataLoader, Dataset

    p, make = network.preprocess, create_transform
    transform: Any = make(p.input_size, interpolation=p.interpolation, mean=p.mean, std=p.std, crop_pct=p.crop_pct)

    class Photographs(Dataset[Any]):
        def __len__(self) -> int:
            return len(data.images)

        def __getitem__(self, row: int) -> Any:  # noqa: ANN401
            return transform(PIL.Image.open(data.images[row]).convert("RGB"))

    model = network.module.eval().cuda().to(memory_format=torch.channels_last)
    found, start = [], time.perf_counter()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        for batch in DataLoader(Photographs(), 128, num_workers=WORKERS, pin_memory=True):
            images = batch.cuda(non_blocking=True).to(memory_format=torch.channels_last)
            found.append(model.forward_head(model.forward_features(images), pre_logits=True).cpu())
    seconds = time.perf_counter() - start
    network.module.cpu()
    return seconds


CASES = {"train": train, "codes": codes}


def main() -> None:
    """Run the cases that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*CASES, "all"])
    parser.add_argument("--images", type=int, default=4096)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU: torch.cuda.is_available() is False here")
    print(torch.cuda.get_device_name(), torch.__version__, f"{WORKERS} workers")
    for name in CASES if options.case == "all" else [options.case]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TLKIT_CACHE"] = folder
            print(f"== {name}", flush=True)
            CASES[name](Path(folder), options.images)


if __name__ == "__main__":
    main()
