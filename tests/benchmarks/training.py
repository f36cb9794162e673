"""Fine-tuning: what it reaches on photographs, and how fast it is beside a hand-written loop.

    python tests/benchmarks/training.py CASE      CASE: accuracy, speed, kept, or all

MobileNetV2 with ImageNet weights on ants and bees, both found through TLKIT_TEST_ASSETS; the cache is a temporary one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS = 5
BATCH = 32


def assets() -> Path:
    """The folder of real images and weights."""
    folder = os.environ.get("TLKIT_TEST_ASSETS")
    if not folder:
        sys.exit("TLKIT_TEST_ASSETS does not name a folder of test images and weights")
    return Path(folder).resolve()


def backbone() -> Any:  # noqa: ANN401
    """Build MobileNetV2 with its weights."""
    from tlkit.sources import build_backbone

    weights = str(assets() / "weights" / "mobilenetv2_100.keras_in1k")
    return build_backbone({"name": "mobilenetv2_100", "weights": weights}, 0)


def photographs(seed: int) -> Any:  # noqa: ANN401
    """List ants and bees."""
    from tlkit.sources import load_data

    return load_data({"name": "folder", "root": str(assets() / "data" / "hymenoptera")}, seed)


def accuracy() -> None:
    """Five epochs of each strategy, and what they started from."""
    from tlkit import registry
    from tlkit.codes import CodesStore
    from tlkit.strategies import Resources

    network, store = backbone(), CodesStore()
    strategies: list[dict[str, Any]] = [
        {"name": "linear_probe", "head": "softmax", "scale": "standard"},
        {"name": "partial", "train_last": 1},
        {"name": "full"},
        {"name": "full", "head_init": "random"},
    ]
    for strategy in strategies:
        for seed in (1, 2):
            data = photographs(seed)
            trainer = {} if strategy["name"] == "linear_probe" else {"max_epochs": EPOCHS}
            start = time.perf_counter()
            made = registry.build("strategy", strategy, network, data, Resources(store, trainer, seed))
            rows = data.rows("val")
            right = made.predict_proba([data.images[row] for row in rows], store).argmax(axis=1) == data.labels[rows]
            facts = made.training
            epochs = [round(row["val_accuracy"], 3) for row in facts.get("epochs", [])]
            print(
                f"{strategy} seed {seed}: val {np.mean(right):.3f}; kept {facts.get('kept', '-')}; validation "
                f"{facts.get('start_accuracy')} then {epochs}; {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def speed() -> None:
    """Seconds of an epoch, ours and by hand, alternating; the first of each is left out."""
    from tlkit.codes.engines import processors

    data = photographs(1)
    data = data.select(data.rows("train"))
    ours, theirs = our_epochs(data), epochs_by_hand(data, processors())
    mine, loop = statistics.median(ours[1:]), statistics.median(theirs[1:])
    print(f"an epoch of {len(data)} images: tlkit {mine:.1f} s, by hand {loop:.1f} s, ratio {loop / mine:.2f}")
    print(f"all: {[round(s, 1) for s in ours]} and {[round(s, 1) for s in theirs]}")


def our_epochs(data: Any) -> list[float]:  # noqa: ANN401
    """Train everything with tlkit; seconds between the ends of training epochs, validation left out."""
    import torch
    from pytorch_lightning import Callback

    from tlkit.training import Policy, Settings
    from tlkit.training.augment import augmented, plain
    from tlkit.training.loading import training_loader, validation_loader
    from tlkit.training.module import FineTuning, Plan
    from tlkit.training.network import Network
    from tlkit.training.rates import rates
    from tlkit.training.trainer import train

    network, settings, times = backbone(), Settings(batch_size=BATCH), list[float]()

    class Clock(Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            times.append(time.perf_counter() - self.start)

    plan = Plan(Policy(), rates(network, settings, BATCH), settings, network.preprocess, torch.ones(2), 1)
    module = FineTuning(Network(network, 2), plan)
    common = (BATCH, 1, 64)
    loaders = (
        training_loader(data, augmented(network.preprocess, settings), *common),
        validation_loader(data.select(range(2)), plain(network.preprocess), *common),
    )
    train(
        module, *loaders, {"max_epochs": 3, "accelerator": "cpu", "limit_val_batches": 0, "callbacks": [Clock()]}, None
    )
    return times


def epochs_by_hand(data: Any, workers: int) -> list[float]:  # noqa: ANN401
    """Do the same as a careful user of torch would: channels_last, float32, torchvision in a DataLoader."""
    import PIL.Image
    import torch
    from torch.utils.data import DataLoader
    from torchvision.transforms import InterpolationMode, v2

    steps = v2.Compose(
        [
            v2.RandomResizedCrop(224, scale=(0.35, 1.0), interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )

    class Photographs(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            with PIL.Image.open(data.images[row]) as image:
                return steps(image.convert("RGB")), int(data.labels[row])

    processes = workers if workers > 1 else 0
    keep = processes > 0
    loader = DataLoader(
        Photographs(), BATCH, shuffle=True, drop_last=True, num_workers=processes, persistent_workers=keep
    )
    model = backbone().module
    model.reset_classifier(2)
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images.to(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        times.append(time.perf_counter() - start)
    return times


def kept() -> None:
    """Seconds of an epoch of the last stage, on images and on kept activations; validation included."""
    from tlkit.codes import CodesStore

    data, store = photographs(1), CodesStore()
    _, images, wanted = partial_epochs(data, store, once=False)
    first, activations, found = partial_epochs(data, store, once=True)
    second, *_ = partial_epochs(data, store, once=True)
    for clock, whole, rest in zip(("wall", "processor"), images, activations, strict=True):
        ratio = statistics.median(whole) / statistics.median(rest)
        print(f"an epoch, {clock}: on images {whole} s, on kept activations {rest} s; ratio of medians {ratio:.1f}")
    print(f"the first, which fills the cache: {first} s; which finds it filled: {second} s (wall, processor)")
    print(f"training losses: {wanted} and {found}")


def partial_epochs(data: Any, store: Any, *, once: bool) -> tuple[list[float], list[list[float]], list[float]]:  # noqa: ANN401
    """Train the last stage: seconds (wall, processor) of the first epoch, with all preparations, and of the others."""
    from unittest.mock import patch

    from pytorch_lightning import Callback

    from tlkit.strategies import Resources, fitting
    from tlkit.strategies.fine_tuning import partial
    from tlkit.training import kept as module

    ends, begin = list[tuple[float, float]](), fitting._start_head

    class Clock(Callback):
        def on_validation_end(self, *_: object) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    def started(*arguments: Any) -> None:  # noqa: ANN401
        begin(*arguments)
        ends.append((time.perf_counter(), time.process_time()))

    trainer = {"max_epochs": EPOCHS, "accelerator": "cpu", "callbacks": [Clock()]}
    obstacle = module._obstacle if once else lambda *_: "the benchmark says so"
    with patch.object(fitting, "_start_head", started), patch.object(module, "_obstacle", obstacle):
        made = partial(backbone(), data, Resources(store, trainer, 1), train_last=1, augment="none")
    seconds = np.diff(ends, axis=0).round(2)
    losses = [round(row["train_loss"], 4) for row in made.training["epochs"]]
    return seconds[0].tolist(), seconds[1:].T.tolist(), losses


CASES = {"accuracy": accuracy, "speed": speed, "kept": kept}


def main() -> None:
    """Run the cases that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*CASES, "all"])
    chosen = parser.parse_args().case
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TLKIT_CACHE"] = cache
        for name in CASES if chosen == "all" else [chosen]:
            print(f"== {name}", flush=True)
            CASES[name]()


if __name__ == "__main__":
    main()
