"""A training that several processes share goes on to the very same result, too.

This file is also what the other process runs.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tlkit import ranks, registry
from tlkit.classifier import Classifier
from tlkit.codes import CodesStore, ShareDone
from tlkit.data import prepare
from tlkit.errors import Terminated
from tlkit.strategies import Resources
from tlkit.strategies.fine_tuning import partial
from tlkit.training import CHECKPOINT

CALM: dict[str, Any] = {"head_init": "random", "augment": "none", "lr": 1e-3, "train_last": 2, "batch_size": 16}
MOVING = {"batch_norm": "moving", "optimizer": "sgd"}
CASES: tuple[dict[str, Any], ...] = (
    {**MOVING, "ema": 0.9},
    {**MOVING, "unfreeze_every": 1, "mixup": 0.2, "augment": "standard"},
)
EPOCHS, STOP = 3, (3, 11)  # the step after which each of two attempts is stopped; an epoch has 6


def fit(folder: Path, case: dict[str, Any]) -> Classifier | None:
    """Train on this rank's share of 120 scans; the first rank has the result."""
    torch.manual_seed(0)
    data = prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(150))
    trainer = {"max_epochs": EPOCHS, "accelerator": "cpu"}
    resources = Resources(CodesStore(engine="torch"), trainer, folder=folder)
    try:
        return partial(registry.build("backbone", {"name": "tiny"}), data, resources, **{**CALM, **case})
    except ShareDone:
        return None


@contextmanager
def told_to_end_after(steps: int) -> Iterator[None]:
    """Send this process SIGTERM after some steps."""
    done = []

    def count(*_: Any) -> None:  # noqa: ANN401
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    handle = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        handle.remove()


def whole_and_resumed(folder: Path) -> Iterator[tuple[Classifier | None, Classifier | None]]:
    """Train undisturbed, and stopped twice, once on one rank and once on the other: each case on two ranks."""
    for number, case in enumerate(CASES):
        whole = fit(folder / f"whole{number}", case)
        done = 0
        for who, stop in enumerate(STOP):
            with pytest.raises(Terminated), told_to_end_after(stop - done if ranks.world()[0] == who else sys.maxsize):
                fit(folder / f"run{number}", case)
            done = stop
        yield whole, fit(folder / f"run{number}", case)


def test_two_ranks_go_on_to_the_same_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ranks.started(2, [sys.executable, __file__, str(tmp_path)]):
        for number, (whole, resumed) in enumerate(whole_and_resumed(tmp_path)):
            assert whole is not None
            assert resumed is not None
            state = torch.load(tmp_path / f"run{number}" / CHECKPOINT, weights_only=True)
            assert state["steps"] == EPOCHS * 6
            for name, tensor in whole.backbone.module.state_dict().items():
                assert torch.equal(tensor, resumed.backbone.module.state_dict()[name]), name
            np.testing.assert_array_equal(whole.head.coef_, resumed.head.coef_)
            assert whole.training["epochs"] == resumed.training["epochs"]
    assert "the frozen stages run in every epoch: several processes share the training" in caplog.text


if __name__ == "__main__":
    ranks.end_with_the_first()
    with ranks.joined():
        for _ in whole_and_resumed(Path(sys.argv[1])):
            pass
