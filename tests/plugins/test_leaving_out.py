"""What did not run has gradients of zero, and so several processes, each leaving out other parts, train together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tlkit_plugins.networks.leaving_out import without
from torch import nn


def test_what_is_left_out_has_gradients_of_zero_and_changes_nothing() -> None:
    used, idle = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    x = used(torch.randn(2, 3))
    result = without(x, [idle])
    assert torch.equal(result, x)
    assert result is not x  # what follows may work in place
    result.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in idle.parameters())
    assert torch.equal(without(x, []), x)


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [
        "backbone=resnet_cifar_sd backbone.depth=20",
        "backbone=fractalnet backbone.width=4",
        "backbone=fractalnet backbone.width=4 trainer.strategy=fsdp",
    ],
)
def test_two_processes_train_together(words: str, tmp_path: Path) -> None:
    settings = "strategy=scratch data=digits strategy.augment=none trainer.devices=2 trainer.accelerator=cpu"
    steps = "trainer.max_epochs=1 trainer.limit_train_batches=8"
    command = [sys.executable, "-m", "tlkit", "fit", *settings.split(), *steps.split(), *words.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path / 'run'}"], env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
