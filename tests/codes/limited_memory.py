"""Run by test_engines.py: an engine with too little memory for its batches, then for one image.

Prints the batch size that it came down to, the error of its codes, and what it says in the end.
"""

import resource
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tlkit.backbones import from_module
from tlkit.codes.engines import EngineName, make_engine
from tlkit.codes.engines.frozen import gap, noise
from tlkit.data import Preprocess
from tlkit.errors import TlkitError


class Wide(nn.Module):
    """Makes 64 MB of each image of 512 x 512 on its way."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 4, 1))
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


def limit(gigabytes: float) -> None:
    """Allow so much more address space than is in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def main(name: EngineName) -> None:
    torch.manual_seed(0)
    preprocess = Preprocess((3, 512, 512), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
    backbone = from_module(Wide().eval(), name="wide", preprocess=preprocess, weights=None, spec={"name": "wide"})
    pixels = noise(preprocess, 16)
    wanted = make_engine(backbone, ["pool"], engine=name, batch_size=1)(pixels)["pool"]
    first, second = (make_engine(backbone, ["pool"], engine=name, batch_size=16) for _ in range(2))
    limit(0.6)
    codes = first(pixels)["pool"]
    print(first.batch_size, gap([codes], [wanted]), sep="\n")
    limit(0.06)
    try:
        second(pixels)
    except TlkitError as err:
        print(err)


if __name__ == "__main__":
    main("openvino" if sys.argv[1] == "openvino" else "torch")
