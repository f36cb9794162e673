"""What a network sees is a function of seed, epoch and image alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tlkit.backbones import Backbone
from tlkit.data import ImageData, decode
from tlkit.training import Settings
from tlkit.training.augment import augmented, plain
from tlkit.training.chance import seeded
from tlkit.training.loading import Shuffled, training_loader, validation_loader

KINDS: list[dict[str, Any]] = [
    *({"augment": kind} for kind in ("none", "flip", "crop", "standard", "randaugment", "trivialaugment")),
    {"color_jitter": 0.4, "random_erasing": 1.0},
]


@pytest.mark.parametrize("chosen", KINDS, ids=str)
def test_augmentations_repeat_and_keep_the_size(chosen: dict[str, Any], tiny: Backbone, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    load = augmented(tiny.preprocess, Settings(**chosen))
    results = []
    for part in (1, 1, *range(2, 12)):
        with seeded(7, part):
            results.append(load(decode(tmp_path / "a.png")))
    assert {(tuple(pixels.shape), pixels.dtype) for pixels in results} == {((64, 64, 3), torch.uint8)}
    assert torch.equal(results[0], results[1])
    same = [torch.equal(results[0], other) for other in results[2:]]
    assert all(same) if chosen == {"augment": "none"} else not all(same)
    expected = torch.from_numpy(tiny.preprocess.pixels(decode(tmp_path / "a.png")))
    assert torch.equal(plain(tiny.preprocess)(decode(tmp_path / "a.png")), expected)
    if chosen.get("augment") == "none":
        assert torch.equal(results[0], expected)
    if chosen.get("augment") == "flip":
        assert all(torch.equal(r, expected) or torch.equal(r, expected.flip(1)) for r in results)


def test_crops_are_not_mirrored(tiny: Backbone) -> None:
    ramp = Image.fromarray(np.tile(np.arange(90, dtype=np.uint8), (70, 1)))
    load = augmented(tiny.preprocess, Settings(augment="crop"))
    for _ in range(20):
        pixels = load(ramp.convert("RGB")).int()
        assert (pixels[:, -1] > pixels[:, 0]).all()


def test_a_grey_network_gets_grey_pixels(tiny: Backbone) -> None:
    from dataclasses import replace

    grey = replace(tiny.preprocess, input_size=(1, 64, 64), mean=(0.5,), std=(0.5,))
    load = augmented(grey, Settings(augment="randaugment", random_erasing=1.0))
    assert load(Image.new("RGB", (100, 80), "red")).shape == (64, 64, 1)


def test_chance_outside_is_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    with seeded(1, 2):
        torch.rand(5), np.random.rand(5)
    assert (torch.rand(1).item(), np.random.rand()) == expected


def test_every_epoch_has_an_order_of_its_own() -> None:
    order = Shuffled(20, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        epochs.append(list(order))
    assert epochs[0] == epochs[2] != epochs[1]
    assert sorted(row for _, row in epochs[1]) == list(range(20))
    assert {epoch for epoch, _ in epochs[1]} == {1}


def test_balanced_batches_have_equally_many_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 9])
    order = Shuffled(99, seed=1, balance=labels)
    epochs = []
    for epoch in (4, 5, 4):
        order.set_epoch(epoch)
        epochs.append(list(order))
    assert epochs[0] == epochs[2] != epochs[1]
    for drawn in epochs:
        rows = [row for _, row in drawn]
        assert np.bincount(labels[rows]).tolist() == [33, 33, 33]
        times = np.bincount(rows, minlength=99)
        assert [{*times[labels == label]} for label in range(3)] == [{0, 1}, {1, 2}, {3, 4}]
        assert len({*drawn}) == 99  # an image that comes again is drawn anew
    first_third = np.array([labels[row] for _, row in epochs[0][:33]])
    assert np.bincount(first_third).min() > 5
    shares = [list(Shuffled(99, 1, rank, 3, labels)) for rank in range(3)]
    whole = list(Shuffled(99, 1, balance=labels))
    assert [item for items in zip(*shares, strict=True) for item in items] == whole
    order.go_on(4, 20)
    assert list(order) == epochs[0][20:]


def test_processes_load_the_same_as_one(tiny: Backbone, digits: ImageData) -> None:
    load = augmented(tiny.preprocess, Settings())
    batches = {}
    for workers in (1, 2):
        loader = training_loader(digits, load, 32, 5, workers)
        sampler: Any = loader.sampler
        sampler.set_epoch(3)
        torch.manual_seed(workers)  # to no effect
        batches[workers] = list(loader)
    assert len(batches[1]) == 4  # whole batches only
    for (pixels, labels), (others, other_labels) in zip(batches[1], batches[2], strict=True):
        assert torch.equal(pixels, others)
        assert torch.equal(labels, other_labels)


def test_validation_sees_every_image_in_order_as_predictions_do(tiny: Backbone, digits: ImageData) -> None:
    batches = list(validation_loader(digits, plain(tiny.preprocess), 32, 5, 1))
    pixels, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.tolist() == digits.labels.tolist()
    assert torch.equal(pixels[140], torch.from_numpy(tiny.preprocess.pixels(decode(digits.images[140]))))


def test_a_few_images_are_one_batch(tiny: Backbone, digits: ImageData) -> None:
    few = digits.select(range(7))
    ((pixels, _),) = training_loader(few, plain(tiny.preprocess), 32, 5, 1)
    assert len(pixels) == 7
