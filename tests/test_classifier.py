"""A classifier that was saved is the one that was fitted."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tlkit_plugins.tiny import FOLDER

from tlkit import registry
from tlkit.backbones import Backbone, Weights, state_digest
from tlkit.classifier import Classifier
from tlkit.codes import CodesStore
from tlkit.data import ImageData, prepare
from tlkit.errors import TlkitError
from tlkit.heads import TrainedHead
from tlkit.strategies import Resources
from tlkit.strategies.linear_probe import linear_probe


@pytest.fixture(scope="module")
def data() -> ImageData:
    return prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(300))


@pytest.fixture(scope="module")
def images(data: ImageData) -> list[Image.Image]:
    return [image for row in range(12) if isinstance(image := data.images[row], Image.Image)]


def _fit(data: ImageData, weights: str | None = "pretrained") -> Classifier:
    backbone = registry.build("backbone", {"name": "tiny", "weights": weights})
    return linear_probe(backbone, data, Resources(CodesStore()), C=1e-3, allow_random=True)


@pytest.fixture(scope="module")
def fitted(data: ImageData) -> Classifier:
    return _fit(data)


def test_probabilities(fitted: Classifier, images: list[Image.Image]) -> None:
    probabilities = fitted.predict_proba(images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (12, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("weights", ["pretrained", None])
def test_save_and_load_give_the_same_bits(
    weights: str | None, data: ImageData, images: list[Image.Image], tmp_path: Path
) -> None:
    fitted = _fit(data, weights)
    fitted.save(tmp_path)
    loaded = Classifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))
    assert (loaded.classes, loaded.taps, loaded.training) == (fitted.classes, fitted.taps, fitted.training)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors"}


@pytest.mark.parametrize("described", [True, False])
def test_trained_weights_belong_to_the_classifier(described: bool, images: list[Image.Image], tmp_path: Path) -> None:
    folder = _published(tmp_path / "published")
    weights = str(folder if described else folder / "model.safetensors")
    backbone: Backbone = registry.build("backbone", {"name": "timm", "model": "resnet10t", "weights": weights})
    assert backbone.preprocess.input_size == (3, 48, 48)
    module = deepcopy(backbone.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.01)
    origin = Weights("fine-tuned from sha256 abc", state_digest(module), 0, trained=True)
    head = TrainedHead.of(
        np.eye(2, 512, dtype=np.float32), np.zeros(2, np.float32), np.empty((0, 2), np.float32), np.empty(0, int)
    )
    tuned = replace(backbone, module=module, weights=origin)
    fitted = Classifier(("a", "b"), tuned, ("pool",), head, {}, CodesStore().recipe)
    expected = fitted.predict_proba(images)
    fitted.save(tmp_path / "first")
    shutil.rmtree(folder)
    Classifier.load(tmp_path / "first").save(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    loaded = Classifier.load(tmp_path / "second")
    assert loaded.backbone.weights == origin
    assert loaded.backbone.preprocess == backbone.preprocess
    np.testing.assert_array_equal(loaded.predict_proba(images), expected)
    path = tmp_path / "second" / "backbone" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(TlkitError, match="fitted on other weights"):
        Classifier.load(tmp_path / "second")


def _published(folder: Path) -> Path:
    """Write random weights in timm's layout; the description has settings that the architecture alone does not tell."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"stem_width": 16}
    folder.mkdir()
    module = timm.create_model("resnet10t", num_classes=3, **arguments)
    save_file(module.state_dict(), folder / "model.safetensors")
    shown = {"num_classes": 3, "input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]}
    record = {"architecture": "resnet10t", "num_classes": 3, "model_args": arguments, "pretrained_cfg": shown}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def test_one_row_a_file_also_for_unreadable_ones(fitted: Classifier, images: list[Image.Image], tmp_path: Path) -> None:
    good, bad, missing = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    images[0].save(good)
    bad.write_bytes(good.read_bytes()[:60])
    table = fitted.predict([good, bad, missing])
    assert table["file"].tolist() == [str(good), str(bad), str(missing)]
    assert table.columns.tolist() == ["file", "predicted", "probability", *(f"p({c})" for c in range(10)), "error"]
    assert table["error"].isna().tolist() == [True, False, False]
    assert table["predicted"].isna().tolist() == [False, True, True]
    first = table.to_dict("records")[0]
    assert first["probability"] == first[f"p({first['predicted']})"]
    with pytest.raises(TlkitError, match=r"cannot read .*b\.png .*c\.png"):
        fitted.predict_proba([good, bad, missing])
    assert fitted.predict([str(bad)])["error"].notna().all()


def test_undecodable_file_names_have_their_row(fitted: Classifier, images: list[Image.Image], tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.png"
    images[0].save(path)
    assert fitted.predict([path])["file"].tolist() == [str(tmp_path / "caf?.png")]


def test_text_is_a_path(fitted: Classifier, images: list[Image.Image], tmp_path: Path) -> None:
    images[0].save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        fitted.predict_proba([str(tmp_path / "a.png")]),
        fitted.predict_proba([tmp_path / "a.png"]),
    )


def test_other_weights_are_refused(fitted: Classifier, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    fitted.save(tmp_path / "model")
    source = FOLDER
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    save_file({**tensors, name: tensors[name] + 1}, other / "model.safetensors")
    with pytest.raises(TlkitError, match=r"fitted on other weights of tiny: sha256 .* weights=PATH"):
        Classifier.load(tmp_path / "model", weights=str(other))
    Classifier.load(tmp_path / "model", weights=str(source))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("classes"), "not a saved classifier: it lacks some of"),
        (lambda record: record.update(format=99), "format 99, but this tlkit reads 2"),
        (lambda record: record["backbone"].update(name="os.system"), "no backbone called 'os.system'"),
        (lambda record: record["backbone"].update(_target_="os.system"), "_target_: no such setting"),
        (lambda record: record.update(sha256=1), "sha256 must be text"),
        (lambda record: record["weights"].update(path="x"), "weights must say"),
        (lambda record: record["classes"].append("9"), "no class twice"),
        (lambda record: record["codes"].update(views="six_crop"), "does not say how its codes were made"),
        (lambda record: record["codes"].update(pooling=3), "does not say how its codes were made"),
        (lambda record: record["codes"].update(engine="torch"), "does not say how its codes were made"),
        (lambda record: record["classes"].append("x"), "the head is not one for"),
        (lambda record: record.update(taps=["layer1"]), "the head is not one for"),
        (lambda record: record.update(taps=["nowhere"]), "has no tap 'nowhere'"),
        (lambda record: record.update(taps=[["pool"]]), "must be names"),
        (lambda record: record["preprocess"].update(crop_pct=0.1), "fitted with the preprocess"),
    ],
)
def test_a_damaged_record_is_explained(
    fitted: Classifier, change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    path = tmp_path / "classifier.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(TlkitError, match=message):
        Classifier.load(tmp_path)


def test_no_classifier_there(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match="not a saved classifier"):
        Classifier.load(tmp_path)
