"""Where memory runs out a batch is learned from in parts, which add up to the whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import timm
import torch
from torch import Tensor

from tlkit.backbones import Backbone
from tlkit.data import ImageData
from tlkit.errors import TlkitError
from tlkit.training import Policy, Settings
from tlkit.training.augment import augmented, plain
from tlkit.training.loading import training_loader, validation_loader
from tlkit.training.memory import Portion, parts, summed
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import rates
from tlkit.training.trainer import train

LIMITED = Path(__file__).parents[1] / "limited_memory.py"
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
Build = Callable[..., Backbone]


class Gradients(pl.Callback):
    """Keeps the gradients of every step of the optimizer."""

    def __init__(self) -> None:
        self.steps: list[list[Tensor]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:  # noqa: ANN401
        self.steps.append([p.grad.clone() for p in pl_module.parameters() if p.grad is not None])


def gradients(
    backbone: Backbone, data: ImageData, settings: Settings, size: int | None, **trainer: object
) -> tuple[list[list[Tensor]], FineTuning]:
    """Train for two batches of 15 images; return the gradients of each step."""
    torch.manual_seed(1)
    plan = Plan(Policy(1), rates(backbone, settings, 15), settings, backbone.preprocess, torch.arange(1.0, 11.0), 1)
    module, seen = FineTuning(Network(backbone, 10), plan), Gradients()
    module.portion.size = size
    learned, judged = data.select(range(30)), data.select(range(30, 40))
    loaders = (
        training_loader(learned, augmented(backbone.preprocess, settings), 15, 1, 1),
        validation_loader(judged, plain(backbone.preprocess), 15, 1, 1),
    )
    train(module, *loaders, {"max_epochs": 1, "accelerator": "cpu", "callbacks": [seen], **trainer}, None)
    return seen.steps, module


@pytest.mark.parametrize(
    ("settings", "trainer"),
    [
        ({"label_smoothing": 0.1}, {"gradient_clip_val": 0.1}),
        ({"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}, {"accumulate_grad_batches": 2}),
    ],
)
def test_the_gradients_of_the_parts_add_up_to_those_of_the_whole(
    settings: dict[str, Any], trainer: dict[str, Any], wrapped: Build, digits: ImageData
) -> None:
    torch.manual_seed(0)
    backbone = wrapped(timm.create_model("test_convnext", num_classes=2), 32)
    chosen = Settings(batch_size=15, lr=1e-3, optimizer="sgd", warmup=0.0, **settings)
    (whole, one), (in_parts, other) = (gradients(backbone, digits, chosen, n, **trainer) for n in (None, 4))
    assert len(whole) == len(in_parts) == 2 // int(trainer.get("accumulate_grad_batches", 1))
    torch.testing.assert_close(in_parts, whole, rtol=1e-3, atol=2e-6)
    assert one.history[0]["train_loss"] == pytest.approx(other.history[0]["train_loss"], rel=1e-5)
    assert (one.portion.size, other.portion.size) == (None, 4)
    torch.testing.assert_close(other.network.state_dict(), one.network.state_dict(), rtol=1e-4, atol=1e-5)


@GPU
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_half_precision_on_a_gpu_adds_up_too(precision: str, wrapped: Build, digits: ImageData) -> None:
    torch.manual_seed(0)
    backbone = wrapped(timm.create_model("test_convnext", num_classes=2), 32)
    chosen = Settings(batch_size=15, lr=1e-3, optimizer="sgd", warmup=0.0)
    trainer = {"accelerator": "gpu", "precision": precision, "accumulate_grad_batches": 2}
    (whole, _), (in_parts, _) = (gradients(backbone, digits, chosen, n, **trainer) for n in (None, 4))
    for one, other in zip(in_parts[0], whole[0], strict=True):
        assert torch.isfinite(one).all()
        assert float((one - other).norm()) <= 0.05 * float(other.norm()) + 1e-6


def test_parts_are_as_equal_as_can_be() -> None:
    for images in range(1, 40):
        for most in range(1, images + 1):
            sizes = [part.stop - part.start for part in parts(images, most)]
            assert sum(sizes) == images
            assert max(sizes) <= most
            assert max(sizes) - min(sizes) <= 1


def test_known_gradients_come_out_as_if_they_were_worked_out_then() -> None:
    a, b, unused = (torch.nn.Parameter(torch.tensor(value)) for value in (2.0, 3.0, 4.0))
    for scale in (None, torch.tensor(1024.0)):
        total = summed((x * a * b for x in (1.0, 2.0)), [a, b, unused], scale)
        assert a.grad is None
        (total * (1 if scale is None else scale) / 2).backward()  # type: ignore[no-untyped-call]
        assert float(total.detach()) == 18
        assert [float(p.grad) for p in (a, b) if p.grad is not None] == ([4.5, 3.0] if scale is None else [4608, 3072])
        assert unused.grad is None
        a.grad = b.grad = None


@pytest.mark.parametrize(
    "accelerator",
    [
        pytest.param("cpu", marks=pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits memory")),
        pytest.param("gpu", marks=GPU),
    ],
)
def test_a_training_that_runs_out_of_memory_goes_on_with_fewer_images_at_once(accelerator: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, LIMITED, "training", tmp_path, accelerator], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["training"] in (1, 2)
    assert found["validation"] in (None, 1, 2)
    assert found["gap"] < 1e-5
    assert told.stderr.count("out of memory: going on with training steps of 2 images at once") == 2  # once a training
    assert "there is not enough memory for training steps of 1 images" in found["error"]


@pytest.mark.full
def test_processes_need_not_have_the_same_memory(tmp_path: Path) -> None:
    script, torchrun = Path(__file__).with_name("unequal_ranks.py"), ["-m", "torch.distributed.run", "--nproc-per-node"]
    launchers: dict[str, list[str]] = {"one": [], "two": [*torchrun, "2"]}
    for path, launcher in launchers.items():
        command = [sys.executable, *launcher, str(script), str(tmp_path / path)]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert told.returncode == 0, told.stderr
    one, two = (torch.load(tmp_path / path, weights_only=True) for path in ("one", "two"))
    assert two["same"]
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-5)


def test_what_else_fails_is_not_taken_for_a_lack_of_memory() -> None:
    def broken(most: int) -> None:
        raise RuntimeError("illegal instruction")

    portion = Portion("steps")
    with pytest.raises(RuntimeError, match="illegal instruction"):
        portion(8, 1, broken)
    assert portion.size is None


def test_one_image_alone_has_no_statistics(tiny: Backbone) -> None:
    network = Network(tiny, 3).train()
    assert network.least == 2
    network.freeze(len(tiny.stages))
    assert network.least == 1
    assert Network(tiny, 3, keep_statistics=True).train().least == 1
    with pytest.raises(TlkitError, match="not enough memory for steps of 2 images"):
        Portion("steps")(8, 2, lambda most: bytearray(2**62))
