"""The digest of a network's structure: the same in every process, and another for every change that counts."""

import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone, from_module, from_timm
from tlkit.codes.engines import structure_digest
from tlkit.codes.engines.digests import _described
from tlkit.data import Preprocess

NAMES = ("resnet10t", "test_vit", "swin_tiny_patch4_window7_224")


class Layer(nn.Module):
    """Settings of many kinds, none of them in the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.scale = 2.0
        self.function: Callable[..., Tensor] = torch.relu
        self.part = partial(torch.clamp, min=0)
        self.constant = torch.ones(3)
        self.register_buffer("mask", torch.zeros(2), persistent=False)
        self.options = {"sizes": [1, 2], "names": {"a", "b"}}

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.convolution(x)))  # type: ignore[no-any-return]


class Network(nn.Module):
    num_classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Layer())

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.mean((2, 3))


def build(network: type[nn.Module] = Network) -> Backbone:
    preprocess = Preprocess((3, 8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0)
    return from_module(network(), name="small", preprocess=preprocess, weights=None, spec={"name": "small"})


def set_to(path: str, value: object) -> Callable[[Any], None]:
    *above, name = path.split(".")

    def change(layer: Any) -> None:  # noqa: ANN401
        for step in above:
            layer = getattr(layer, step)
        setattr(layer, name, value)

    return change


CHANGES: dict[str, Callable[[Any], None]] = {
    "padding": set_to("convolution.padding", (0, 0)),
    "padding mode": set_to("convolution.padding_mode", "reflect"),
    "stride": set_to("convolution.stride", (2, 2)),
    "dilation": set_to("convolution.dilation", (2, 2)),
    "epsilon": set_to("norm.eps", 1e-3),
    "activation": set_to("act", nn.GELU()),
    "activation's setting": set_to("act", nn.LeakyReLU(0.3)),
    "number": set_to("scale", 3.0),
    "function": set_to("function", torch.tanh),
    "partial": set_to("part", partial(torch.clamp, min=1)),
    "tensor": set_to("constant", torch.zeros(3)),
    "buffer": set_to("mask", torch.ones(2)),
    "options": set_to("options", {"sizes": [1, 3], "names": {"a", "b"}}),
    "hook": lambda layer: layer.register_forward_hook(lambda *_: None),
    "another module": lambda layer: layer.add_module("more", nn.Identity()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_the_weights_do_not_show_gives_another_digest(change: str) -> None:
    backbone = build()
    before = structure_digest(backbone)
    assert structure_digest(build()) == before
    layer = backbone.module.get_submodule("blocks.0")
    CHANGES[change](layer)
    assert structure_digest(backbone) != before


def test_what_changes_nothing_gives_the_same_digest() -> None:
    backbone = build()
    before = structure_digest(backbone)
    backbone.module.train()
    for parameter in backbone.module.parameters():
        parameter.requires_grad_(False)
    backbone.module.eval()
    handle = backbone.module.register_forward_hook(lambda *_: None)
    handle.remove()
    assert structure_digest(backbone) == before


@pytest.mark.parametrize("name", ["tiny", "resnet10t", "test_vit", "test_convnext"])
def test_a_pass_changes_no_digest(name: str) -> None:
    backbone: Backbone = (
        registry.build("backbone", {"name": "tiny"}) if name == "tiny" else from_timm(name, weights=None)
    )
    before = structure_digest(backbone)
    with torch.inference_mode():
        backbone.module.eval()(torch.zeros(1, *backbone.preprocess.input_size))
    assert structure_digest(backbone) == before


def test_digests_are_the_same_in_every_process() -> None:
    code = f"""
from tlkit.backbones import from_timm
from tlkit.codes.engines import structure_digest
from tlkit.codes.engines.digests import _described
for name in {NAMES!r}:
    print(structure_digest(from_timm(name, weights=None)))
"""
    seeded = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=seeded)
    assert told.stdout.split() == [structure_digest(from_timm(name, weights=None)) for name in NAMES]
    assert len({*told.stdout.split()}) == len(NAMES)


def test_the_code_of_a_plugins_network_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    digests = set()
    for number, factor in enumerate(("x", "x", "x * 2")):
        folder = tmp_path / str(number)
        folder.mkdir()
        code = source.replace(
            "self.act(self.norm(self.convolution(x)))", f"self.act(self.norm(self.convolution({factor})))"
        )
        (folder / "own_network.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        sys.modules.pop("own_network", None)
        import own_network  # type: ignore[import-not-found]

        digests.add(structure_digest(build(own_network.Network)))
    sys.modules.pop("own_network", None)
    assert len(digests) == 2


def test_a_network_without_a_source_file_counts_by_its_code() -> None:
    digests = []
    for factor in ("x", "x", "x * 2"):
        names: dict[str, Any] = {"nn": nn, "Network": Network, "__name__": "nowhere"}
        exec(f"class Own(Network):\n    def forward_features(self, x):\n        return self.blocks({factor})", names)
        digests.append(structure_digest(build(names["Own"])))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float32(1), np.float32(2)),
        (np.arange(3), np.arange(3) + 1),
        (SimpleNamespace(scale=1), SimpleNamespace(scale=2)),
        (lambda x: x + 1, lambda x: x + 2),
    ],
    ids=["number", "array", "object", "function"],
)
def test_settings_of_any_kind_count(one: Any, other: Any) -> None:  # noqa: ANN401
    assert _described(one) != _described(other)
    assert _described(one) == _described(deepcopy(one))
