"""Engines against plain torch on the same pixels, and the networks that they keep on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tlkit import registry
from tlkit.backbones import Backbone, from_timm, read_taps, state_digest
from tlkit.backbones.taps import POOLINGS, Pooling
from tlkit.codes.engines import Engine, EngineName, check_settings, engine_version, make_engine
from tlkit.codes.engines.frozen import gap, noise
from tlkit.errors import TlkitError, UsageError

LARGE = ["vgg16", "resnet18", "resnet50", "mobilenetv1_100", "mobilenetv2_100"]
LIMITED = Path(__file__).parents[1] / "limited_memory.py"


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of converted networks that these tests share."""
    return tmp_path_factory.mktemp("networks")


def reference(
    backbone: Backbone, pixels: NDArray[np.uint8], taps: list[str], pooling: Pooling
) -> list[NDArray[np.float32]]:
    """What torch computes with the module as it is, in float32."""
    batch = backbone.preprocess.normalise(torch.from_numpy(pixels))
    return [codes.numpy() for codes in read_taps(backbone, batch, taps, pooling).values()]


def check_agreement(backbone: Backbone, engine: EngineName, pooling: Pooling, cache: Path | None) -> None:
    taps = [tap.name for tap in backbone.taps]
    pixels = noise(backbone.preprocess, 6)
    made = make_engine(backbone, taps, engine=engine, pooling=pooling, cache=cache)
    assert made.name == ("openvino" if engine == "auto" else engine)
    codes = made(pixels)
    assert list(codes) == taps
    wanted = reference(backbone, pixels, taps, pooling)
    for tap, theirs in zip(taps, wanted, strict=True):
        assert codes[tap].dtype == np.float32
        assert codes[tap].shape == theirs.shape
        assert gap([codes[tap]], [theirs]) < 1e-4, tap


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_engines_agree_with_torch(tiny: Backbone, engine: EngineName, pooling: Pooling, networks: Path) -> None:
    check_agreement(tiny, engine, pooling, networks)


def test_the_default_engine_agrees_on_real_weights_and_photographs(assets: Path, networks: Path) -> None:
    from tlkit.data import decode

    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    taps = [tap.name for tap in backbone.taps]
    files = sorted((assets / "data" / "hymenoptera" / "val" / "ants").iterdir())[:6]
    pixels = np.stack([backbone.preprocess.pixels(decode(file)) for file in files])
    engine = make_engine(backbone, taps, cache=networks)
    assert engine.name == "openvino"
    codes = engine(pixels)
    for tap, theirs in zip(taps, reference(backbone, pixels, taps, "avg"), strict=True):
        errors = np.linalg.norm(codes[tap] - theirs, axis=1)
        assert (errors < 1e-4 * np.linalg.norm(theirs, axis=1)).all()


@pytest.mark.full
@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("name", LARGE)
def test_engines_agree_on_every_plugin(name: str, engine: EngineName) -> None:
    torch.manual_seed(0)
    backbone = registry.build("backbone", {"name": name, "weights": None})
    check_agreement(backbone, engine, "avg", None)


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", ["test_vit", "test_convnext", "densenet121", "resnetv2_18", "swin_tiny_patch4_window7_224"]
)
def test_engines_agree_on_families_of_timm(architecture: str) -> None:
    torch.manual_seed(0)
    check_agreement(from_timm(architecture, weights=None), "auto", "avg", None)


def test_rows_are_the_same_bits_whatever_the_batch_the_streams_and_the_other_taps(
    tiny: Backbone, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(tiny.preprocess, 11)
    everything = make_engine(tiny, [tap.name for tap in tiny.taps], cache=networks)(pixels)
    for batch_size in (1, 3, 16):
        codes = make_engine(tiny, ["pool", "layer2"], batch_size=batch_size, cache=networks)(pixels)
        assert list(codes) == ["pool", "layer2"]
        for tap, rows in codes.items():
            np.testing.assert_array_equal(rows, everything[tap])
    monkeypatch.setattr("tlkit.codes.engines.openvino.processors", lambda: 24)
    many = make_engine(tiny, ["pool"], cache=networks)
    assert many.batch_size == 12
    np.testing.assert_array_equal(many(pixels)["pool"], everything["pool"])


def test_one_image_costs_what_one_image_gives(tiny: Backbone, networks: Path) -> None:
    pixels = noise(tiny.preprocess, 5)
    names: tuple[EngineName, ...] = ("openvino", "torch")
    for name in names:
        engine = make_engine(tiny, ["pool"], engine=name, cache=networks)
        together = engine(pixels)["pool"]
        assert together.shape == (5, tiny.tap("pool").channels)
        assert gap([engine(pixels[4:])["pool"]], [together[4:]]) < 1e-6


def test_nothing_is_printed_sent_or_left_in_the_module(tiny: Backbone, capfd: pytest.CaptureFixture[str]) -> None:
    before = state_digest(tiny.module)
    tiny.module.train()
    make_engine(tiny, ["pool"])(noise(tiny.preprocess, 1))
    make_engine(tiny, ["pool"], engine="torch")(noise(tiny.preprocess, 1))
    assert all(part.training for part in tiny.module.modules())
    tiny.module.eval()
    assert state_digest(tiny.module) == before
    assert not any(part._forward_hooks for part in tiny.module.modules())
    assert capfd.readouterr() == ("", "")


def test_the_version_needs_no_openvino_and_converting_reports_to_nobody(tmp_path: Path) -> None:
    code = """
import sys
from tlkit import registry
from tlkit.codes.engines import engine_version, make_engine
print(engine_version(), "openvino" in sys.modules)
sys.addaudithook(lambda event, _: print(event) if event.startswith(("socket.", "urllib.")) else None)
assert make_engine(registry.build("backbone", {"name": "tiny"}), ["pool"]).name == "openvino"
"""
    home = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=home)
    assert told.stdout.split() == [*engine_version().split(), "False"]
    assert not (tmp_path / "intel").exists()  # where openvino_telemetry remembers whom it reports


def test_versions_tell_library_precision_and_device() -> None:
    assert (
        engine_version(engine="torch", precision="bf16", device="cpu")
        == f"torch {torch.__version__.partition('+')[0]} bf16 cpu"
    )
    names = {
        engine_version(engine=engine, precision=p) for engine in ("openvino", "torch") for p in ("float32", "bf16")
    }
    assert len(names) == 4


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_bf16_is_close_and_says_so(tiny: Backbone, engine: EngineName, networks: Path) -> None:
    pixels = noise(tiny.preprocess, 4)
    exact = make_engine(tiny, ["layer1", "pool"], engine=engine, cache=networks)
    rough = make_engine(tiny, ["layer1", "pool"], engine=engine, precision="bf16", cache=networks)
    assert rough.version != exact.version
    for ours, theirs in zip(rough(pixels).values(), exact(pixels).values(), strict=True):
        assert 1e-4 < gap([ours], [theirs]) < 0.05
        assert ours.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "openvin"}, r"codes\.engine=openvin: .* Did you mean 'openvino'"),
        ({"precision": "fp16"}, r"codes\.precision=fp16: not one of float32, bf16, float16"),
        ({"pooling": "mean"}, r"codes\.pooling=mean"),
        ({"batch_size": 0}, r"codes\.batch_size=0"),
        ({"device": "warp"}, r"codes\.device=warp: not available"),
        ({"device": "cuda:99"}, r"codes\.device=cuda:99: not available"),
        ({"engine": "openvino", "device": "meta"}, r"codes\.device=meta: codes\.engine=openvino runs on the CPU"),
        ({"precision": "float16", "device": "cpu"}, r"has float32 and bf16.* codes\.engine=torch"),
    ],
)
def test_settings_that_make_no_sense_are_explained(settings: dict[str, Any], message: str, tiny: Backbone) -> None:
    with pytest.raises(UsageError, match=message):
        check_settings(**settings)
    with pytest.raises(UsageError, match=message):
        make_engine(tiny, ["pool"], **settings)


def test_an_unknown_tap_is_explained(tiny: Backbone) -> None:
    with pytest.raises(UsageError, match="Did you mean 'pool'"):
        make_engine(tiny, ["poool"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS")
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_out_of_memory_halves_the_batch_and_goes_on_or_is_explained(engine: str) -> None:
    told = subprocess.run([sys.executable, LIMITED, "engine", engine], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["batch"] in {1, 2, 4, 8}
    assert found["gap"] < 1e-5
    assert found["error"].startswith("there is not enough memory to run the network on a single image (")


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(_pixels: NDArray[np.uint8], _most: int) -> list[NDArray[np.float32]]:
        raise RuntimeError("illegal instruction")

    engine = Engine("broken", "1", ["pool"], 8, broken)
    with pytest.raises(RuntimeError, match="illegal instruction"):
        engine(np.zeros((8, 2, 2, 3), dtype=np.uint8))
    assert engine.batch_size == 8


def test_a_single_image_without_memory_is_the_users_problem() -> None:
    def full(_pixels: NDArray[np.uint8], _most: int) -> list[NDArray[np.float32]]:
        raise MemoryError

    with pytest.raises(TlkitError, match="not enough memory"):
        Engine("full", "1", ["pool"], 8, full)(np.zeros((8, 2, 2, 3), dtype=np.uint8))
