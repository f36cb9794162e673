"""Run by the tests of engines and of training: with too little memory for a batch, then for one image.

Prints as JSON what it came down to, how far the result is from that with memory enough, and what is said in the end.
"""

import json
import logging
import resource
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from tlkit.backbones import from_module
from tlkit.codes.engines import EngineName, make_engine
from tlkit.codes.engines.frozen import gap, noise
from tlkit.data import ImageData, Preprocess
from tlkit.errors import TlkitError
from tlkit.training import Policy, Settings
from tlkit.training.augment import plain
from tlkit.training.loading import training_loader, validation_loader
from tlkit.training.module import FineTuning, Plan
from tlkit.training.network import Network
from tlkit.training.rates import rates
from tlkit.training.trainer import train

SIDE, IMAGES = 512, 4
PREPROCESS = Preprocess((3, SIDE, SIDE), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)


class Wide(nn.Module):
    """Makes 64 MB of each image of 512 x 512 on its way; to learn, it keeps them."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Tanh(), nn.Conv2d(64, 4, 1))
        self.classifier = nn.Linear(4, 2)

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean((2, 3))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def limit(gigabytes: float, accelerator: str) -> None:
    """Allow so much more memory of a GPU, or so much more address space, than is in use now."""
    if accelerator == "gpu":
        torch.cuda.empty_cache()
        most = torch.cuda.memory_reserved() + gigabytes * 2**30
        torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def engine(name: EngineName) -> None:
    torch.manual_seed(0)
    backbone = from_module(Wide().eval(), name="wide", preprocess=PREPROCESS, weights=None, spec={"name": "wide"})
    pixels = noise(PREPROCESS, 16)
    wanted = make_engine(backbone, ["pool"], engine=name, batch_size=1)(pixels)["pool"]
    first, second = (make_engine(backbone, ["pool"], engine=name, batch_size=16) for _ in range(2))
    limit(0.6, "cpu")
    codes = first(pixels)["pool"]
    found = {"batch": first.batch_size, "gap": gap([codes], [wanted])}
    limit(0.06, "cpu")
    try:
        second(pixels)
    except TlkitError as err:
        print(json.dumps({**found, "error": str(err)}))


def trained(folder: Path, accelerator: str) -> FineTuning:
    """Train for an epoch of one step."""
    torch.manual_seed(0)
    backbone = from_module(Wide(), name="wide", preprocess=PREPROCESS, weights=None, recipe=None, spec={})
    settings = Settings(batch_size=IMAGES, label_smoothing=0.1, lr=0.1, warmup=0.0, optimizer="sgd")
    network = Network(backbone, 2)
    plan = Plan(Policy(), rates(backbone, settings, IMAGES), settings, PREPROCESS, torch.tensor([0.5, 2.0]), 1)
    module = FineTuning(network, plan)
    chance = np.random.default_rng(0)
    noise = [PIL.Image.fromarray(chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(IMAGES)]
    files = tuple(map(str, range(IMAGES)))
    data = ImageData("noise", noise, files, np.arange(IMAGES) % 2, ("a", "b"))
    learned, judged = (make(data, plain(PREPROCESS), IMAGES, 1, 1) for make in (training_loader, validation_loader))
    train(module, learned, judged, {"max_epochs": 1, "accelerator": accelerator}, folder)
    return module


def training(folder: Path, accelerator: str) -> None:
    torch.set_num_threads(1)  # each thread would reserve address space of its own
    wanted = trained(folder / "whole", accelerator).network.state_dict()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    limit(0.6, accelerator)
    module = trained(folder / "halved", accelerator)
    gap = max(float((tensor - wanted[name]).abs().max()) for name, tensor in module.network.state_dict().items())
    found = {"training": module.portion.size, "validation": module._judging.size, "gap": gap}
    limit(0.15, accelerator)
    try:
        trained(folder / "none", accelerator)
    except TlkitError as err:
        print(json.dumps({**found, "error": str(err)}))


if __name__ == "__main__":
    if sys.argv[1] == "engine":
        engine("openvino" if sys.argv[2] == "openvino" else "torch")
    else:
        training(Path(sys.argv[2]), sys.argv[3])
