"""The loop: schedules, the average, the best epoch, and what goes through to Lightning."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from tlkit.backbones import Backbone
from tlkit.data import ImageData
from tlkit.errors import UsageError
from tlkit.progress import Advance
from tlkit.training import Policy, Settings
from tlkit.training.augment import augmented, plain
from tlkit.training.loading import training_loader, validation_loader
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import rates
from tlkit.training.schedules import scheduled
from tlkit.training.trainer import check_trainer, train


def run(
    backbone: Backbone,
    data: ImageData,
    policy: Policy,
    settings: Settings,
    trainer: Mapping[str, Any],
    folder: Path | None = None,
    advance: Advance = lambda images, note=None: None,
) -> FineTuning:
    torch.manual_seed(1)
    network = Network(backbone, 10)
    plan = Plan(policy, rates(backbone, settings, 32), settings, backbone.preprocess, torch.ones(10), 1, advance)
    module = FineTuning(network, plan)
    learned, judged = data.select(range(100)), data.select(range(100, 150))
    training = training_loader(learned, augmented(backbone.preprocess, settings), settings.batch_size, 1, 1)
    train(module, training, validation_loader(judged, plain(backbone.preprocess), 32, 1, 1), trainer, folder)
    return module


def moved(module: FineTuning, before: Mapping[str, Tensor]) -> set[str]:
    after = module.network.module.state_dict()
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("settings", [Settings(), Settings(ema=0.9, mixup=0.2, cutmix=1.0, label_smoothing=0.1)])
def test_the_frozen_part_stays_and_the_best_epoch_is_kept(
    settings: Settings, tiny: Backbone, digits: ImageData, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    module = run(tiny, digits, Policy(4), settings, {"max_epochs": 3, "accelerator": "cpu"}, tmp_path)
    changed = moved(module, before)
    assert all(name.startswith("layer4.") for name in changed)
    assert {*tiny.stages[4].parameters} <= changed
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.module.state_dict().items())
    assert module.best is not None
    best = max(module.history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert (module.best[0].epoch, module.best[0].loss) == (best["epoch"], best["val_loss"])
    assert [row["epoch"] for row in module.history] == [1, 2, 3]
    assert not any(part.training for part in module.network.modules())
    pixels, _ = next(iter(validation_loader(digits.select(range(100, 150)), plain(tiny.preprocess), 50, 1, 1)))
    with torch.no_grad():
        logits = module.network(tiny.preprocess.normalise(pixels))
    torch.testing.assert_close(logits, module.best[0].logits, rtol=1e-3, atol=1e-4)
    table = pd.read_csv(tmp_path / "training" / "metrics.csv")
    assert table["val_accuracy"].dropna().tolist() == pytest.approx([row["val_accuracy"] for row in module.history])


def test_a_training_is_repeated_bit_by_bit(tiny: Backbone, digits: ImageData) -> None:
    settings = Settings(augment="randaugment", mixup=0.2, schedule="onecycle", optimizer="sgd")
    first, second = (run(tiny, digits, Policy(3), settings, {"max_epochs": 2, "accelerator": "cpu"}) for _ in range(2))
    assert first.history == second.history
    assert not moved(first, second.network.module.state_dict())


def test_gradual_unfreezing_has_all_groups_from_the_start(tiny: Backbone, digits: ImageData) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    trainer = {"max_epochs": 2, "accelerator": "cpu"}
    module = run(tiny, digits, Policy(0, every=1), Settings(), trainer)
    assert module.network.first == 4  # epoch 1: the head, epoch 2: the last stage with it
    changed = {name.split(".")[0] for name in moved(module, before)}
    assert changed <= {"layer4"}
    optimizer: Any = module.trainer.optimizers[0]
    assert {group["name"] for group in optimizer.param_groups} == {*(s.name for s in tiny.stages), "new head"}


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "step", "onecycle"])
def test_every_schedule_starts_from_the_promised_rates(schedule: Any) -> None:  # noqa: ANN401
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.5}], momentum=0.9)
    made = scheduled(optimizer, Settings(schedule=schedule, warmup=0.25), 8)["lr_scheduler"]
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made["scheduler"].step(*([1.0] if schedule == "plateau" else []))
    assert max(seen) == pytest.approx(0.5, rel=0.05)
    assert seen[-1] < 0.06
    assert optimizer.param_groups[0].get("initial_lr", 0.5) <= 0.5


def test_early_stopping_and_the_trainers_own_settings(tiny: Backbone, digits: ImageData) -> None:
    settings = Settings(lr=1e-9, early_stopping=1)
    trainer = {"max_epochs": 9, "accelerator": "cpu", "gradient_clip_val": 1e-6, "precision": "bf16-mixed"}
    module = run(tiny, digits, Policy(5), settings, trainer)
    assert len(module.history) < 9
    assert module.trainer.gradient_clip_val == 1e-6
    quick = run(tiny, digits, Policy(5), Settings(), {"fast_dev_run": True, "accelerator": "cpu"})
    assert len(quick.history) == 1
    blind = run(tiny, digits, Policy(5), Settings(), {"max_epochs": 1, "limit_val_batches": 0, "accelerator": "cpu"})
    assert blind.best is None


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"devices": 2}, r"trainer\.devices=2: there are not as many processes"),
        ({"precision": "bf16-true"}, r"trainer\.precision=bf16-true: .*bf16-mixed"),
        (
            {"strategy": "deepspeed"},
            r"trainer\.strategy=deepspeed: processes share .* ddp, .* or with fsdp",
        ),
        (
            {"strategy": "fsdp"},
            r"trainer\.strategy=fsdp: one process .*trainer\.devices=2 or more",
        ),
        ({"max_epochs": -1}, r"trainer\.max_epochs=-1"),
    ],
)
def test_what_fine_tuning_cannot_do_is_refused(trainer: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_trainer(trainer)


def test_ddp_by_name_is_what_it_is_anyway(tiny: Backbone, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of a job in which this process is alone
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    check_trainer({"strategy": "ddp"})
    module = run(tiny, digits, Policy(5), Settings(), {"strategy": "ddp", "max_epochs": 1, "accelerator": "cpu"})
    assert module.trainer.world_size == 1
    assert len(module.history) == 1


def test_accumulated_batches_are_one_step_of_the_average(tiny: Backbone, digits: ImageData) -> None:
    trainer = {"max_epochs": 2, "accelerator": "cpu", "accumulate_grad_batches": 3}
    module = run(tiny, digits, Policy(4), Settings(ema=0.9), trainer)
    assert module.average is not None
    assert int(module.average.n_averaged) == module.trainer.global_step == 2


def test_ctrl_c_is_ctrl_c(tiny: Backbone, digits: ImageData) -> None:
    def interrupt(images: int, note: str | None = None, /) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, digits, Policy(4), Settings(), {"accelerator": "cpu"}, advance=interrupt)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, r"strategy\.lr=0\.0: give a number above 0"),
        ({"ema": 1.0}, r"strategy\.ema"),
        ({"warmup": 2.0}, "w"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**changes).check()
