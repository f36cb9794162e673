"""A network in shards is trained like a whole one, by two real processes, and is whole again afterwards.

This file is also what the other process runs.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial as bound
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tlkit import ranks, registry, runs
from tlkit.backbones import Backbone
from tlkit.classifier import Classifier
from tlkit.codes import CodesStore, ShareDone
from tlkit.data import prepare
from tlkit.errors import Terminated, TlkitError, UsageError
from tlkit.strategies import Resources
from tlkit.strategies.fine_tuning import full, partial
from tlkit.training import CHECKPOINT, Policy, Settings
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import rates
from tlkit.training.settings import check_sharing
from tlkit.training.sharding import units

CALM: dict[str, Any] = {"head_init": "random", "augment": "none", "lr": 1e-3, "batch_size": 16, "optimizer": "sgd"}
STOP = (3, 11)  # the step after which each of two attempts is stopped; an epoch has 6
VALIDATED = (1, 7, 8, 9)
Strategy = Callable[..., Classifier]


def fit(folder: Path, sharing: str, strategy: Strategy = full, validated: int = 17, **more: Any) -> Classifier | None:  # noqa: ANN401
    """Train on this rank's share of 101 scans; the first rank has the result."""
    torch.manual_seed(0)
    data = prepare(registry.build("data", {"name": "digits"}), 1).select(np.arange(150))
    data = replace(data, split=np.repeat(["train", "val", "test"], (101, validated, 49 - validated)))
    trainer = {"max_epochs": 3, "accelerator": "cpu", "strategy": sharing, **more.pop("trainer", {})}
    resources = Resources(CodesStore(engine="torch", workers=1), trainer, folder=folder)
    try:
        return strategy(registry.build("backbone", {"name": "tiny"}), data, resources, **{**CALM, **more})
    except ShareDone:
        return None


@contextmanager
def watched(sizes: set[tuple[int, int]], stop: int = sys.maxsize) -> Iterator[None]:
    """Note how many parameters there are, and how many this rank holds; send this process SIGTERM after some steps."""
    steps = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:  # noqa: ANN401
        parameters: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        own = [parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in parameters]
        sizes.add((sum(map(torch.numel, parameters)), sum(map(torch.numel, own))))
        steps.append(1)
        if len(steps) == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    handle = register_optimizer_step_post_hook(look)
    try:
        yield
    finally:
        handle.remove()


def both(folder: Path, name: str, *args: Any, **more: Any) -> tuple[Classifier | None, Classifier | None]:  # noqa: ANN401
    """Train whole copies, and shards of half the size."""
    copies, shards = set[tuple[int, int]](), set[tuple[int, int]]()
    with watched(copies):
        whole = fit(folder / f"{name}-ddp", "ddp", *args, **more)
    with watched(shards):
        sharded = fit(folder / f"{name}-fsdp", "fsdp", *args, **more)
    (all_of_them, own), *others = shards
    assert not others
    assert copies == {(all_of_them, all_of_them)}
    assert own == pytest.approx(all_of_them / 2, rel=0.01)
    return whole, sharded


def cheap(folder: Path) -> list[tuple[Classifier | None, Classifier | None]]:
    """One case, with an odd number of images to validate, and a start that only the first rank has."""
    return [both(folder, "cheap", partial, 7, train_last=2, head_init="probe", trainer={"max_epochs": 2})]


def thorough(folder: Path) -> list[tuple[Classifier | None, Classifier | None]]:
    """Statistics that move, AdamW and its own groups, clipping, accumulation, bf16, mixing, and few images to judge."""
    cases: dict[str, dict[str, Any]] = {
        "moving": {"batch_norm": "moving", "schedule": "plateau"},
        "adamw": {"optimizer": "adamw", "layer_decay": 0.5, "head_init": "probe", "lr": 1e-5},
        "norm": {"trainer": {"gradient_clip_val": 0.1}},
        "value": {"trainer": {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}},
        "accumulated": {"trainer": {"accumulate_grad_batches": 2}, "mixup": 0.2},
        "bf16": {"trainer": {"precision": "bf16-mixed"}},
        "blind": {"trainer": {"limit_val_batches": 0}},
        "partial": {"strategy": partial, "train_last": 3, "batch_norm": "moving"},
        **{f"judged by {n}": {"validated": n, "trainer": {"max_epochs": 1}} for n in VALIDATED},
    }
    return [both(folder, name, **case) for name, case in cases.items()]


def resumed(folder: Path) -> list[tuple[Classifier | None, Classifier | None]]:
    """Train undisturbed, and stopped twice, once on one rank and once on the other."""
    pairs = []
    for optimizer in ("adamw", "sgd"):
        whole, done = fit(folder / f"{optimizer}-whole", "fsdp", optimizer=optimizer), 0
        for who, stop in enumerate(STOP):
            own = stop - done if ranks.world()[0] == who else sys.maxsize
            with pytest.raises(Terminated), watched(set(), own):
                fit(folder / f"{optimizer}-run", "fsdp", optimizer=optimizer)
            done = stop
        pairs.append((whole, fit(folder / f"{optimizer}-run", "fsdp", optimizer=optimizer)))
    return pairs


def killed(folder: Path) -> list[tuple[Classifier | None, Classifier | None]]:
    """Train undisturbed, and on from where a kill has left a training."""
    begun = begin(folder)[0][0]
    return [(fit(folder / "whole", "fsdp", trainer={"max_epochs": 6}), begun)]


def begin(folder: Path) -> list[tuple[Classifier | None, Classifier | None]]:
    """Train what will be killed."""
    return [(fit(folder / "run", "fsdp", trainer={"max_epochs": 6}), None)]


JOBS = {"cheap": cheap, "thorough": thorough, "resumed": resumed, "killed": killed, "begin": begin}


def compare(name: str, folder: Path, close: Callable[[torch.Tensor, torch.Tensor], bool]) -> None:
    """Do a job on two ranks, and compare what the pairs of it have learned."""
    with ranks.started(2, [sys.executable, __file__, name, str(folder)]):
        pairs = JOBS[name](folder)
    for one, other in pairs:
        assert one is not None
        assert other is not None
        mine, theirs = one.backbone.module, other.backbone.module
        assert [type(part) for part in mine.modules()] == [type(part) for part in theirs.modules()]
        assert list(mine.state_dict()) == list(theirs.state_dict())
        for name, tensor in theirs.state_dict().items():
            assert type(tensor) is torch.Tensor
            assert close(tensor, mine.state_dict()[name]), name
        assert close(torch.from_numpy(one.head.coef_), torch.from_numpy(other.head.coef_))
        for here, there in zip(one.training["epochs"], other.training["epochs"], strict=True):
            assert here == pytest.approx(there, rel=1e-5, nan_ok=True)


NEAR = bound(torch.allclose, rtol=1e-3, atol=1e-4)  # norms and sums of gradients are added up in another order


def test_shards_learn_what_whole_copies_do(tmp_path: Path) -> None:
    compare("cheap", tmp_path, NEAR)
    state, copy = (torch.load(tmp_path / f"cheap-{name}" / CHECKPOINT, weights_only=True) for name in ("fsdp", "ddp"))
    assert state.keys() == copy.keys()
    assert state["optimizer"]["param_groups"] == copy["optimizer"]["param_groups"]
    before = registry.build("backbone", {"name": "tiny"})
    for number, values in copy["optimizer"]["state"].items():
        assert NEAR(state["optimizer"]["state"][number]["momentum_buffer"], values["momentum_buffer"])
    frozen = [name for stage in before.stages[:-2] for name in stage.parameters]
    for name in frozen:
        assert torch.equal(state["network"][f"module.{name}"], before.module.get_parameter(name)), name


@pytest.mark.full
def test_whatever_is_trained_in_shards_is_what_whole_copies_learn(tmp_path: Path) -> None:
    compare("thorough", tmp_path, NEAR)


@pytest.mark.full
def test_shards_go_on_to_the_same_result(tmp_path: Path) -> None:
    compare("resumed", tmp_path, torch.equal)


@pytest.mark.full
def test_shards_go_on_after_a_kill(tmp_path: Path) -> None:
    process, checkpoint = subprocess.Popen([sys.executable, __file__, "begin", tmp_path]), tmp_path / "run" / CHECKPOINT
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not torch.load(checkpoint, weights_only=True)["done"]
    compare("killed", tmp_path, torch.equal)


@pytest.mark.full
@pytest.mark.parametrize("launcher", [(), ("-m", "torch.distributed.run", "--nproc-per-node", "2")])
def test_a_run_in_shards_is_a_run(launcher: tuple[str, ...], tmp_path: Path) -> None:
    words = ["fit", "data=digits", "strategy=partial", "trainer.strategy=fsdp", f"hydra.run.dir={tmp_path / 'run'}"]
    words += ["trainer.accelerator=cpu", "trainer.max_epochs=1", *([] if launcher else ["trainer.devices=2"])]
    environment = {**os.environ, "TLKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "tlkit", *words]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("results:") == 1
    assert json.loads((tmp_path / "run" / runs.METRICS).read_text())["training"]["stages"][0]["training"] == "frozen"
    again = Classifier.load(tmp_path / "run" / runs.MODEL)
    before = registry.build("backbone", {"name": "tiny"}).module.state_dict()
    assert {name: tensor.shape for name, tensor in again.backbone.module.state_dict().items()} == {
        name: tensor.shape for name, tensor in before.items() if not name.startswith("fc.")
    }


def test_a_lack_of_memory_names_the_batch_size(tiny: Backbone) -> None:
    settings = Settings(batch_size=24)
    plan = Plan(Policy(), rates(tiny, settings, 24), settings, tiny.preprocess, torch.ones(3), 1)
    module = FineTuning(Network(tiny, 3), plan)
    module.sharded = True
    told = r"memory ran out .*fsdp.* a smaller strategy\.batch_size than 24"
    with pytest.raises(TlkitError, match=told), module._all_at_once():
        bytearray(2**62)


@pytest.mark.parametrize(
    ("trainer", "strategy", "message"),
    [
        ({"devices": 1}, {}, r"one process \(trainer\.devices=1\) holds the network whole anyway.*trainer\.devices=2"),
        ({}, {"ema": 0.9, "unfreeze_every": 1}, r"with strategy\.ema=0\.9 and strategy\.unfreeze_every=1\. Leave"),
        ({"compile": True}, {}, r"does not go with trainer\.compile=true"),
        ({"sync_batchnorm": True}, {}, r"does not go with trainer\.sync_batchnorm=true"),
        ({"precision": "16-mixed"}, {}, r"does not go with trainer\.precision=16-mixed.*bf16-mixed"),
    ],
)
def test_what_shards_cannot_do_is_refused(trainer: dict[str, Any], strategy: dict[str, Any], message: str) -> None:
    check_sharing({"strategy": "fsdp", "devices": 2, "precision": "bf16-mixed"}, {"ema": 0.0, "unfreeze_every": None})
    with pytest.raises(UsageError, match=message):
        check_sharing({"strategy": "fsdp", "devices": 2, **trainer}, strategy)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "vgg11", "test_convnext", "test_efficientnet"])
def test_a_stage_is_gathered_for_itself(name: str, wrapped: Callable[..., Any]) -> None:
    size = {"test_vit": 160}.get(name, 32)
    network = Network(wrapped(timm.create_model(name, num_classes=2), size), 3)
    found = units(network)
    stages = [{id(network.module.get_parameter(name)) for name in stage.parameters} for stage in network.stages]
    for unit in found:
        held = {id(parameter) for part in unit for parameter in part.parameters()}
        assert sum(held <= stage for stage in stages) == 1
    gathered = sum(parameter.numel() for unit in found for part in unit for parameter in part.parameters())
    assert gathered > 0.95 * sum(network.module.get_parameter(n).numel() for s in network.stages for n in s.parameters)
    assert not any(parameter.grad is not None for parameter in network.parameters())


if __name__ == "__main__":
    job, folder = JOBS[sys.argv[1]], Path(sys.argv[2])
    if "RANK" not in os.environ:
        with ranks.started(2, [sys.executable, *sys.argv]):
            job(folder)
    else:
        ranks.end_with_the_first()
        with ranks.joined():
            job(folder)
