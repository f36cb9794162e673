"""strategy=auto: what it measures, what it runs, and what it leaves behind."""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tlkit
from tlkit import TransferClassifier, registry
from tlkit.backbones import Backbone
from tlkit.cli import main
from tlkit.codes import CodesStore, ShareDone, cache_at
from tlkit.data import ImageData, prepare
from tlkit.errors import TlkitError, UsageError
from tlkit.strategies import Resources
from tlkit.strategies.auto import auto, look, refuse_several, sizes
from tlkit.strategies.decision import Decision, Thresholds

CPU: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu"}
MANY: dict[str, Any] = {"few_per_class": 0, "few_images": 0}  # with these borders any data is large


@pytest.mark.parametrize(
    ("said", "borders", "strategy"),
    [
        ("similar", {}, "linear_probe"),
        ("similar", MANY, "partial"),
        ("similar", {**MANY, "many_per_class": 0}, "full"),
        ("different", MANY, "full"),
    ],
)
def test_the_choice_is_run(
    said: Any,  # noqa: ANN401
    borders: dict[str, Any],
    strategy: str,
    tiny: Backbone,
    data: ImageData,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    store = CodesStore()
    fitted = auto(tiny, replace(data, similarity=said), Resources(store, CPU if borders else {}), **borders)
    facts = fitted.training
    assert facts["strategy"] == f"auto -> {strategy}"
    assert facts["decision"]["choice"]["name"] == strategy
    assert facts["decision"]["measured"]["shift"] is None
    assert "tap_search" not in facts
    assert json.loads(json.dumps(facts["decision"]))["quadrant"] == f"{'large' if borders else 'small'} and {said}"
    assert f"chosen: strategy={strategy}" in caplog.text
    assert "runner-up, to force it: tlkit fit ... strategy=" in caplog.text
    probabilities = fitted.predict_proba([data.images[row] for row in data.rows("test")], store)
    assert (probabilities.argmax(axis=1) == data.labels[data.rows("test")]).mean() > 0.8


def test_few_images_unlike_the_pretraining_data_compare_taps(tiny: Backbone, data: ImageData) -> None:
    data = data.select(np.flatnonzero(data.labels < 2))
    data = replace(data, classes=data.classes[:2])
    store = CodesStore(cache_at(max_gb=0))
    fitted = auto(tiny, data, Resources(store))
    assert fitted.training["decision"]["quadrant"] == "small and different"
    assert [row["taps"] for row in fitted.training["tap_search"]][-1] != ("pool",)
    assert store.forwards == len(data)  # one pass for all taps


def test_a_rank_that_lends_a_hand_stops_after_the_one_pass(tiny: Backbone, data: ImageData) -> None:
    store = CodesStore().sharing()
    with pytest.raises(ShareDone):
        auto(tiny, data, Resources(store))


def test_random_weights_are_trained_from_scratch_and_that_is_said(
    data: ImageData, caplog: pytest.LogCaptureFixture
) -> None:
    bare = registry.build("backbone", {"name": "tiny", "weights": None})
    fitted = auto(bare, data, Resources(CodesStore(), CPU))
    assert fitted.training["strategy"] == "auto -> scratch"
    (warning,) = [record for record in caplog.records if record.getMessage().startswith("auto:")]
    assert warning.levelname == "WARNING"
    for part in ("random weights, so there is nothing to transfer", "strategy.allow_random=true"):
        assert part in warning.getMessage()


def test_only_training_images_that_can_be_read_are_counted(tiny: Backbone, data: ImageData, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    gone = [int(data.rows("train")[0]), int(data.rows("test")[0])]
    broken = replace(data, images=[bad if row in gone else data.images[row] for row in range(len(data))])
    codes = CodesStore().codes(tiny, broken.images, ["pool"])
    measured = look(tiny, broken, codes, 1)
    assert measured.images == sizes(tiny, data).images - 1 == len(data.rows("train")) - 1
    assert measured.shift == pytest.approx(look(tiny, broken, codes, 2).shift, rel=0.2)
    with pytest.raises(TlkitError, match="2 unreadable"):
        auto(tiny, replace(broken, on_error="raise"), Resources(CodesStore()))


def test_the_numbers_in_the_configuration_are_those_of_the_function() -> None:
    path = Path(inspect.getfile(tlkit)).parents[1] / "conf" / "strategy" / "auto.yaml"
    told = yaml.safe_load(path.read_text())
    defaults = {name: p.default for name, p in inspect.signature(auto).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert told == {"name": "auto", **defaults}
    assert asdict(Thresholds(**defaults)) == defaults


def test_it_is_the_default_and_leaves_its_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scans: Callable[[], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "data=folder", f"data.root={scans()}", "-m", "data.similarity=similar,null"]
    assert main([*words, "strategy.shifted=0.01"]) == 0
    assert capsys.readouterr().out.count("auto -> linear_probe") == 2
    decisions = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/sweep-*/*/decision.json"))]
    assert [decision["quadrant"] for decision in decisions] == ["small and similar", "small and different"]
    assert decisions[0]["measured"]["said"] == "similar"
    assert decisions[1]["thresholds"]["shifted"] == 0.01
    assert decisions[1]["command"] == "tlkit fit ... strategy=full"


@pytest.fixture
def scans(tmp_path: Path, data: ImageData) -> Callable[[], Path]:
    """Write 60 scans of three digits as class folders."""

    def write() -> Path:
        rows = [row for digit in range(3) for row in np.flatnonzero(data.labels == digit)[:20]]
        for row in rows:
            folder = tmp_path / "scans" / data.classes[data.labels[row]]
            folder.mkdir(parents=True, exist_ok=True)
            data.images[row].save(folder / f"{row}.png")
        return tmp_path / "scans"

    return write


def test_scikit_learn_can_have_it(data: ImageData) -> None:
    rows = np.flatnonzero(data.labels < 2)
    model = TransferClassifier(strategy="auto").fit([data.images[row] for row in rows.tolist()], data.labels[rows])
    assert model.classifier_.training["strategy"] == "auto -> linear_probe"


@pytest.mark.full
def test_photographs(assets: Path) -> None:
    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    photographs = prepare(registry.build("data", {"name": "folder", "root": str(assets / "data" / "hymenoptera")}), 1)
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    fitted = auto(backbone, photographs, Resources(CodesStore()))
    assert fitted.training["decision"]["quadrant"] == "small and similar"
    assert fitted.training["decision"]["measured"]["confidence"] == pytest.approx(0.74, abs=0.03)
    assert fitted.taps == ("pool",)


def test_several_processes_train_only_what_is_named(tmp_path: Path) -> None:
    store = CodesStore(cache_at(dir=str(tmp_path)))
    train = Decision("large", "different", {"name": "full"}, {"name": "partial"}, ())
    probe = replace(train, choice={"name": "linear_probe"})
    refuse_several(train, Resources(store, {"max_epochs": 3}))
    refuse_several(probe, Resources(store, {"devices": 2}))
    with pytest.raises(UsageError, match="strategy=full"):
        refuse_several(train, Resources(store, {"devices": 2}))
