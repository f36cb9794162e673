"""The backbone in the package: complete, small, and better than random."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import tlkit_plugins.tiny as plugin
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tlkit_plugins.tiny import tiny

from tlkit.backbones import read_taps
from tlkit.errors import TlkitError
from tlkit.testing import backbone_checks

FILE = plugin.FOLDER / "model.safetensors"


@pytest.mark.parametrize(("name", "check"), [pytest.param(n, c, id=n) for n, c in backbone_checks(tiny)])
def test_contract(name: str, check: Callable[[], None]) -> None:
    check()


def test_the_file_is_small_and_loads_completely() -> None:
    assert FILE.stat().st_size < 3_000_000
    stored = load_file(FILE)
    loaded = tiny().module.state_dict()
    assert stored.keys() == loaded.keys()
    for name, tensor in stored.items():
        assert torch.equal(loaded[name], tensor.to(loaded[name].dtype)), name
        assert torch.isfinite(loaded[name]).all(), name


def test_timm_reads_the_folder_by_itself() -> None:
    theirs = timm.create_model(f"local-dir:{plugin.FOLDER}", pretrained=True).eval()
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs(batch)
    backbone = tiny()
    assert backbone.taps[-1].channels == theirs.num_features
    assert torch.allclose(read_taps(backbone, batch, ["pool"])["pool"], expected, atol=1e-5)


def test_random_weights_differ_and_have_the_same_preprocess() -> None:
    random, pretrained = tiny(weights=None), tiny()
    assert random.weights is None
    assert pretrained.weights is not None
    assert pretrained.weights.license == "apache-2.0"
    assert random.preprocess == pretrained.preprocess
    assert random.preprocess.input_size == (3, 64, 64)
    pairs = zip(random.module.parameters(), pretrained.module.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_a_folder_and_a_file_give_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(FILE.read_bytes())
    backbones = [tiny(), tiny(weights=str(plugin.FOLDER)), tiny(weights=str(tmp_path / "mine.safetensors"))]
    assert len({backbone.weights.sha256 for backbone in backbones if backbone.weights}) == 1
    assert all(backbone.weights for backbone in backbones)


def test_a_run_does_not_remember_where_the_package_lies() -> None:
    backbone = tiny()
    assert backbone.spec == {"name": "tiny", "weights": "pretrained"}
    assert backbone.weights is not None
    assert backbone.weights.source == "tlkit_plugins.tiny"


def test_missing_weights_are_explained() -> None:
    with pytest.raises(TlkitError, match="no such file"):
        tiny(weights="nowhere/at/all")


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, np.ndarray]:
    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] / 16
    large = torch.nn.functional.interpolate(grey, size=(64, 64), mode="bicubic", align_corners=False).clamp(0, 1)
    return large.expand(-1, 3, -1, -1), data.target


def test_pretrained_codes_beat_random_ones_on_digits(digits: tuple[torch.Tensor, np.ndarray]) -> None:
    accuracy = {}
    for weights in ("pretrained", None):
        torch.manual_seed(0)
        backbone = tiny(weights=weights)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.preprocess.mean, backbone.preprocess.std))
        parts = [read_taps(backbone, (part - mean) / std, ["pool"])["pool"] for part in torch.split(digits[0], 128)]
        codes = torch.cat(parts).numpy()
        train, test = train_test_split(np.arange(len(codes)), test_size=0.2, stratify=digits[1], random_state=0)
        probe = make_pipeline(StandardScaler(), LinearSVC(C=1e-3, dual=False)).fit(codes[train], digits[1][train])
        accuracy[weights] = probe.score(codes[test], digits[1][test])
    assert accuracy["pretrained"] >= 0.97
    assert accuracy["pretrained"] >= accuracy[None] + 0.02
