"""Run by test_memory.py, by one process or by two under torchrun, of which the second has memory for two images only.

Saves what the first has learned, and whether its optimizer and the second's did the same.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch

from tlkit import ranks, registry
from tlkit.backbones import from_module
from tlkit.data import Preprocess, prepare
from tlkit.training import Policy, Settings
from tlkit.training.augment import plain
from tlkit.training.loading import training_loader, validation_loader
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import rates
from tlkit.training.trainer import train


def main(path: Path) -> None:
    torch.manual_seed(0)
    preprocess = Preprocess((3, 32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
    module = timm.create_model("test_convnext", num_classes=2)
    backbone = from_module(module, name="test", preprocess=preprocess, weights=None, recipe=None, spec={})
    settings = Settings(batch_size=16, lr=1e-3, optimizer="sgd", augment="none")
    plan = Plan(Policy(), rates(backbone, settings, 16), settings, preprocess, torch.ones(10), 1)
    with ranks.joined():
        tuning = FineTuning(Network(backbone, 10), plan)
        tuning.portion.size = 2 if ranks.world()[0] == 1 else None
        digits = prepare(registry.build("data", {"name": "digits"}), 1)
        training = training_loader(digits.select(np.arange(64)), plain(preprocess), 16, 1, 1)
        validation = validation_loader(digits.select(np.arange(64, 91)), plain(preprocess), 16, 1, 1)
        train(tuning, training, validation, {"max_epochs": 2, "accelerator": "cpu"}, None)
        weights = tuning.network.state_dict()
        first, *others = ranks.everyones(weights)
        same = all(torch.equal(first[name], other[name]) for other in others for name in first)
    if ranks.launched() == 0:
        torch.save({"weights": weights, "same": same}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
