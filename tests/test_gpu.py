"""What a GPU does otherwise: engines, heads and training there against the same on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tlkit
from tlkit import registry
from tlkit.backbones import Backbone, read_taps
from tlkit.classifier import Classifier
from tlkit.codes.engines import Precision, make_engine
from tlkit.codes.engines.frozen import gap, noise
from tlkit.codes.engines.torch import COMPILE_FROM
from tlkit.errors import TlkitError
from tlkit.heads.linear import Loss, fit_paths

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenetv2_100"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bf16", 3e-2), ("float16", 1e-2)])
@pytest.mark.parametrize("images", [0, COMPILE_FROM])
def test_codes_are_those_of_the_cpu(name: str, precision: Precision, tolerance: float, images: int) -> None:
    weights = {} if name == "tiny" else {"weights": None}
    backbone: Backbone = registry.build("backbone", {"name": name, **weights})
    taps = [tap.name for tap in backbone.taps]
    pixels = noise(backbone.preprocess, 6)
    engine = make_engine(backbone, taps, precision=precision, batch_size=6, images=images)
    assert engine.version.split()[2:] == [precision, "cuda"]
    wanted = read_taps(backbone, backbone.preprocess.normalise(torch.from_numpy(pixels)), taps, "avg")
    found = engine(pixels)
    for tap, codes in wanted.items():
        assert gap([found[tap]], [codes.numpy()]) < tolerance, tap


def test_too_little_memory_halves_the_batch() -> None:
    backbone = registry.build("backbone", {"name": "resnet50", "weights": None})
    pixels = noise(backbone.preprocess, 256)
    wanted = make_engine(backbone, ["pool"], batch_size=16)(pixels)["pool"]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        engine, other = (make_engine(backbone, ["pool"], batch_size=size) for size in (256, 2))
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**30) / total)
        found = engine(pixels)["pool"]
        assert engine.batch_size < 256
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_allocated() / total)
        with pytest.raises(TlkitError, match="memory"):
            other(pixels[:2])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert gap([found], [wanted]) < 1e-4


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax"])
@pytest.mark.parametrize("stream", [False, True])
def test_heads_are_those_of_the_cpu(loss: Loss, stream: bool) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 7, 900)
    codes = draw.normal(size=(7, 120))[labels] + 2 * draw.normal(size=(900, 120))
    codes = np.maximum(codes, 0).astype(np.float32)
    everything = np.arange(900)
    found = []
    for device in ("cuda", "cpu"):
        (path,) = fit_paths(
            codes,
            labels,
            7,
            [1e-4, 1e-2, 1.0],
            loss=loss,
            standard=True,
            weights=np.ones(7),
            subsets=[everything],
            device=device,
            stream=stream,
        )
        assert all(record["converged"] for record in path.convergence)
        found.append([codes @ affine.coef.T + affine.intercept for affine in path.maps])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_network_is_fine_tuned(precision: str, tmp_path: Path) -> None:
    run = tlkit.fit(
        data="digits",
        backbone="tiny",
        strategy={"name": "full", "head_init": "random", "lr": 0.05, "augment": "none"},
        trainer={"max_epochs": 3, "precision": precision},
        run_dir=tmp_path / "run",
    )
    losses = [row["train_loss"] for row in run.metrics["training"]["epochs"]]
    assert losses == sorted(losses, reverse=True)
    assert run.metrics["accuracy"] > 0.8
    classifier = tlkit.load(run.path)
    assert isinstance(classifier, Classifier)
    assert not any(tensor.is_cuda for tensor in classifier.backbone.module.state_dict().values())
