"""torch.compile changes how fast a training is, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tlkit.backbones import Backbone
from tlkit.classifier import Classifier
from tlkit.training.compiling import compiled
from tlkit.training.network import Network

FIT = """
import sys, tlkit
strategy = {"name": "partial", "train_last": 2, "head_init": "random", "lr": 1e-3, "augment": "flip"}
strategy["optimizer"] = "sgd"
trainer = {"accelerator": "cpu", "max_epochs": 2, "limit_train_batches": 4, "compile": sys.argv[2] == "compiled"}
run = tlkit.fit(sys.argv[1], strategy=strategy, trainer=trainer, codes={"engine": "torch"})
"""


def fit(run: Path, how: str, **environment: str) -> str:
    """Fit in a process of its own, whose compiler finds nothing that it has compiled before; return what it logged."""
    own = {"TORCHINDUCTOR_CACHE_DIR": str(run.parent / "inductor"), **environment}
    program = "import logging; logging.basicConfig(level=logging.INFO)\n" + FIT
    command = [sys.executable, "-c", program, str(run), how]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.full
def test_training_goes_on_without_a_compiler(tmp_path: Path) -> None:
    program = """
import logging, torch
logging.basicConfig()
from tlkit import registry
from tlkit.training.compiling import compiled
from tlkit.training.network import Network
network = Network(registry.build("backbone", {"name": "tiny"}), 10).train()
with compiled(network, compile=True):
    for _ in range(2):
        network(torch.zeros(4, 3, 64, 64)).sum().backward()
assert network.fast is None
"""
    environment = {**os.environ, "CXX": str(tmp_path / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("training goes on without, for torch.compile failed: ") == 1
    assert "No working C++ compiler found" in done.stderr


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_training_has_the_result_of_another(tmp_path: Path) -> None:
    plain, fast = tmp_path / "plain", tmp_path / "fast"
    fit(plain, "eager")
    log = fit(fast, "compiled")
    assert "trainer.compile=true: the first step takes a minute" in log
    assert "failed" not in log
    here, there = (Classifier.load(run / "model") for run in (fast, plain))
    ours, theirs = (classifier.backbone.module.state_dict() for classifier in (here, there))
    assert ours.keys() == theirs.keys()
    moved = {name for name in ours if name.startswith(("layer3", "layer4"))}
    for name, tensor in ours.items():
        if name in moved:
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=1e-3)
        else:
            assert torch.equal(tensor, theirs[name])
    for one, other in zip(here.training["epochs"], there.training["epochs"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_what_is_not_asked_for_is_not_done(tiny: Backbone) -> None:
    network = Network(tiny, 10)
    with compiled(network):
        assert network.fast is None
