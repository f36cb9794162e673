"""Fine-tuning as strategies: what starts, what is kept, and what a run directory says of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tlkit
from tlkit import registry, validate
from tlkit.backbones import Backbone
from tlkit.classifier import Classifier
from tlkit.codes import CodesStore
from tlkit.data import ImageData, prepare
from tlkit.errors import TlkitError, UsageError
from tlkit.strategies import Resources
from tlkit.strategies.fine_tuning import full, partial, scratch
from tlkit.strategies.fitting import validation_split
from tlkit.training.network import Network

CPU = {"max_epochs": 2, "accelerator": "cpu"}
CALM: dict[str, Any] = {"augment": "none", "lr": 1e-5}  # goes on from the probe without losing what it has


def resources(**trainer: Any) -> Resources:  # noqa: ANN401
    return Resources(CodesStore(), {**CPU, **trainer})


def test_partial_changes_the_last_stages_of_a_copy(tiny: Backbone, data: ImageData, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    tuned = partial(tiny, data, resources(), train_last=2, head_init="random", lr=1e-3, augment="none")
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.module.state_dict().items())
    after = tuned.backbone.module.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"layer3", "layer4"}
    assert [row["training"] for row in tuned.training["stages"]] == ["frozen"] * 3 + ["trained"] * 3
    origin = tuned.backbone.weights
    assert origin is not None
    assert tiny.weights is not None
    assert origin.trained
    assert origin.source.startswith(f"fine-tuned from sha256 {tiny.weights.sha256}")
    images = [data.images[row] for row in range(20)]
    tuned.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(images), tuned.predict_proba(images))


def test_the_head_starts_from_the_calibrated_probe(tiny: Backbone, data: ImageData) -> None:
    from tlkit.strategies.fitting import _probe, _start_head
    from tlkit.training import Settings

    probe = _probe(tiny, data, resources(), Settings())
    network = Network(tiny, 10).eval()
    _start_head(network, probe, 1)
    images = [data.images[row] for row in range(20)]
    pixels = np.stack([tiny.preprocess.pixels(tlkit.data.decode(image)) for image in images])
    with torch.no_grad():
        logits = network(tiny.preprocess.normalise(torch.from_numpy(pixels)))
    np.testing.assert_allclose(logits.softmax(1).numpy(), probe.predict_proba(images), atol=2e-4)


def test_what_helps_is_kept(tiny: Backbone, data: ImageData) -> None:
    tuned = full(tiny, data, resources(max_epochs=4), head_init="random", lr=3e-4, augment="none")
    facts = tuned.training
    assert facts["kept"].startswith("epoch ")
    assert facts["start_accuracy"] is None
    assert facts["validation_accuracy"] == max(row["val_accuracy"] for row in facts["epochs"])
    judged = validation_split(data, 1)
    judged = judged.select(judged.rows("val"))
    right = tuned.predict_proba(judged.images).argmax(axis=1) == judged.labels
    assert right.mean() == pytest.approx(facts["validation_accuracy"])
    assert tuned.head.temperature_ != 1


def test_a_training_that_loses_what_the_probe_had_is_not_kept(
    tiny: Backbone, data: ImageData, caplog: pytest.LogCaptureFixture
) -> None:
    kept = full(tiny, data, resources(), lr=0.5)
    assert kept.backbone is tiny
    assert kept.training["kept"] == "the probe that training started from"
    assert kept.training["start_accuracy"] > kept.training["validation_accuracy"]
    assert "training did not help" in caplog.text
    images = [data.images[row] for row in data.rows("test")]
    assert (kept.predict_proba(images).argmax(axis=1) == data.labels[data.rows("test")]).mean() > 0.85


def test_scratch_starts_from_nothing_and_at_the_original_rate(tiny: Backbone, data: ImageData) -> None:
    made = scratch(tiny, data, resources(max_epochs=1))
    assert made.backbone.weights is not None
    assert made.backbone.weights.source == "trained from random weights"
    assert made.backbone.spec["weights"] is None
    assert [row["lr"] for row in made.training["stages"]] == pytest.approx([5e-3 * 32 / 128] * 6)


def test_what_is_reported_is_not_what_the_epoch_is_chosen_by(data: ImageData) -> None:
    n = len(data)
    three = replace(data, split=np.array(["train", "val", "test"])[np.arange(n) % 3])
    chosen = validation_split(three, 1)
    assert set(chosen.files) == {data.files[row] for row in range(n) if row % 3 < 2}
    assert [*chosen.rows("val")] == [row for row, file in enumerate(chosen.files) if file in set(three.files[1::3])]
    two = replace(data, split=np.array(["train", "val"])[np.arange(n) % 2])
    chosen = validation_split(two, 1)
    assert set(chosen.files) == {data.files[row] for row in range(0, n, 2)}
    assert 0.1 <= len(chosen.rows("val")) / len(chosen) <= 0.2
    groups = np.array([f"group {row // 10}" for row in range(n)])
    grouped = validation_split(replace(two, groups=groups), 1)
    assert grouped.groups is not None
    assert not {*grouped.groups[grouped.rows("val")]} & {*grouped.groups[grouped.rows("train")]}


@pytest.mark.parametrize("head_init", ["probe", "random"])
def test_unreadable_images_are_left_out(head_init: Any, tiny: Backbone, data: ImageData, tmp_path: Path) -> None:  # noqa: ANN401
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    row = int(data.rows("train")[0])
    images = [bad if number == row else data.images[number] for number in range(len(data))]
    broken = replace(data, images=images)
    fitted = partial(tiny, broken, resources(max_epochs=1), head_init=head_init, **CALM)
    assert fitted.training["train_images"] + fitted.training["validation_images"] == len(data.rows("train")) - 1
    with pytest.raises(TlkitError, match="1 unreadable"):
        partial(tiny, replace(broken, on_error="raise"), resources(), head_init=head_init)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_from": "layer9"}, r"tiny has no such stage\..*Stages: stem, layer1, layer2, layer3, layer4"),
        ({"train_from": "layer4", "train_last": 1}, "give one of them"),
        ({"train_last": 9}, "tiny has 5 stages; give 1 to 5"),
        ({"unfreeze_every": 0}, r"strategy\.unfreeze_every=0"),
        ({"lr": -1.0}, r"strategy\.lr=-1"),
        ({"sampler": "balanced", "class_weight": "balanced"}, "give one of them"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], message: str, tiny: Backbone, data: ImageData
) -> None:
    store = CodesStore()
    with pytest.raises(UsageError, match=message):
        partial(tiny, data, Resources(store), **settings)
    assert store.forwards == 0


def test_random_weights_are_refused(data: ImageData) -> None:
    bare = registry.build("backbone", {"name": "tiny", "weights": None})
    with pytest.raises(TlkitError, match=r"random weights.*strategy=scratch"):
        full(bare, data, resources())


def test_settings_are_documented_and_validated_by_name() -> None:
    assert "    layer_decay: each stage has" in (partial.__doc__ or "")
    assert "settings:" not in (scratch.__doc__ or "")
    settings = {"name": "full", "epocs": 3, "augment": "standrad", "lr": "fast", "train_last": 1}
    with pytest.raises(UsageError) as caught:
        validate.check_plugin("strategy", settings)
    text = str(caught.value)
    for part in ("strategy.epocs: no such", "strategy.train_last: no such", "strategy.augment: expected 'none' or"):
        assert part in text
    assert "strategy.lr: expected float or null, got 'fast'" in text
    validate.check_plugin("strategy", {"name": "partial", "train_last": 2, "lr": 1e-3, "schedule": "onecycle"})


def test_a_run_directory_tells_how_it_was_trained(tmp_path: Path) -> None:
    strategy: dict[str, Any] = {"name": "partial", "train_from": "layer4", "head_init": "random", "lr": 1e-3}
    run = tlkit.fit(tmp_path / "run", strategy=strategy, trainer={**CPU, "max_epochs": 1})
    names = {path.name for path in run.path.iterdir()}
    assert {"stages.csv", "training", "training.png", "metrics.json"} <= names
    assert "regularisation.png" not in names
    table = pd.read_csv(run.path / "stages.csv")
    assert table["training"].tolist() == ["frozen"] * 4 + ["trained"] * 2
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.8
    assert len(metrics["training"]["epochs"]) == 1
    again = tlkit.load(run.path)
    assert again.training["strategy"] == "partial"


def test_a_trial_says_that_it_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strategy = {"name": "full", "head_init": "random", "augment": "none"}
    run = tlkit.fit(tmp_path / "run", strategy=strategy, trainer={"fast_dev_run": True, "accelerator": "cpu"})
    assert "tiny, full: a trial (trainer.fast_dev_run) of 1 batch and no more" in capsys.readouterr().out
    assert json.loads((run.path / "metrics.json").read_text())["training"]["trial"] == "1 batch"
    assert (run.path / "training.png").exists()


@pytest.mark.full
def test_photographs(assets: Path) -> None:
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    data = prepare(registry.build("data", {"name": "folder", "root": str(assets / "data" / "hymenoptera")}), 1)
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    tuned = partial(backbone, data, resources(max_epochs=1), augment="flip")
    val = data.rows("val")
    probabilities = tuned.predict_proba([data.images[row] for row in val])
    assert (probabilities.argmax(axis=1) == data.labels[val]).mean() >= 0.94
