"""Each check passes on a sound backbone and fails, with a sentence, on one that breaks its promise."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlkit.backbones import Backbone, Weights, from_module
from tlkit.data import Preprocess
from tlkit.testing import backbone_checks

AUXILIARY = "auxiliary classifiers fit where they look"
PREPROCESS = Preprocess((3, 16, 16), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1.0)


class Net(nn.Module):
    num_classes = 5

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, self.num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        codes = x.mean((2, 3))
        return codes if pre_logits else self.fc(codes)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - a broken one returns something else
        return self.forward_head(self.forward_features(x))


class Tuple(Net):
    def forward(self, x: Tensor) -> Any:  # noqa: ANN401
        return super().forward(x), x


class TupleInTraining(Net):
    def forward(self, x: Tensor) -> Any:  # noqa: ANN401
        return (super().forward(x), x) if self.training else super().forward(x)


class Helped(Net):
    auxiliary_weight = 0.3

    def auxiliary_classifiers(self, num_classes: int) -> dict[str, nn.Module]:
        return {"blocks": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))}


class HelpedToFive(Helped):
    def auxiliary_classifiers(self, num_classes: int) -> dict[str, nn.Module]:
        return super().auxiliary_classifiers(5)


class HelpedByWhatLearnsNothing(Helped):
    def auxiliary_classifiers(self, num_classes: int) -> dict[str, nn.Module]:
        return {"blocks.2": super().auxiliary_classifiers(num_classes)["blocks"]}


class Random(Net):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x + torch.rand_like(x))


class Batchwise(Net):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x - x.mean(0, keepdim=True))


class Counting(Net):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward_features(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return super().forward_features(x)


class Exploding(Net):
    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x) / 0


def sound(net: type[Net] = Net) -> Backbone:
    return from_module(net(), name="net", preprocess=PREPROCESS, weights=None, spec={"name": "own", "weights": None})


def reversed_taps() -> Backbone:
    backbone = sound()
    *inner, pool = backbone.taps
    return replace(backbone, taps=(*inner[::-1], pool))


def no_pool() -> Backbone:
    return replace(sound(), taps=sound().taps[:-1])


def doubled_stage() -> Backbone:
    return replace(sound(), stages=sound().stages * 2)


def lost_stage() -> Backbone:
    return replace(sound(), stages=sound().stages[1:])


def wrong_digest() -> Backbone:
    return replace(sound(), weights=Weights(source="x", sha256="0", num_classes=5))


def ever_wider(widths: list[int] = [0]) -> Backbone:  # noqa: B006 - remembers, which is what is wrong with it
    widths.append(widths[-1] + 1)
    backbone = sound()
    backbone.module.register_buffer("extra", torch.zeros(len(widths)))
    return backbone


def no_spec() -> Backbone:
    return replace(sound(), spec={})


@pytest.mark.parametrize("name", sorted(dict(backbone_checks(sound))))
def test_a_sound_backbone_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "__module__", "tlkit.errors")  # a test module does import torch
    dict(backbone_checks(sound))[name]()


def test_auxiliary_classifiers_that_fit_pass() -> None:
    dict(backbone_checks(lambda: sound(Helped)))[AUXILIARY]()


@pytest.mark.parametrize(
    ("build", "name", "words"),
    [
        (ever_wider, "builds twice alike", "the tensors of two builds have other names or shapes"),
        (no_spec, "builds twice alike", "lacks 'name' or 'weights'"),
        (lambda: sound(Tuple), "forward gives a row of classes for each image", "returns tuple, not one tensor"),
        (lambda: sound(Exploding), "forward gives a row of classes for each image", "infinities or NaN"),
        (lambda: sound(TupleInTraining), "training gives one tensor too", "returns tuple in training"),
        (lambda: sound(HelpedToFive), AUXILIARY, r"of blocks gives \(3, 5\) for 3 classes"),
        (lambda: sound(HelpedByWhatLearnsNothing), AUXILIARY, "blocks.2, .* learns nothing"),
        (reversed_taps, "taps are named ordered and as described", "not in the order of the pass"),
        (no_pool, "taps are named ordered and as described", "not 'pool'"),
        (lambda: sound(Exploding), "taps are named ordered and as described", "infinities or NaN"),
        (doubled_stage, "stages cover the trunk and nothing twice", "in two stages"),
        (lost_stage, "stages cover the trunk and nothing twice", "in no stage"),
        (lambda: sound(Random), "rows do not depend on the batch", "other codes the second time"),
        (lambda: sound(Batchwise), "rows do not depend on the batch", "with the images beside it"),
        (lambda: sound(Counting), "a pass leaves the state as it was", "changes parameters or buffers"),
        (wrong_digest, "a pass leaves the state as it was", "not the state_digest"),
    ],
)
def test_a_broken_promise_is_told(build: Callable[[], Backbone], name: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        dict(backbone_checks(build))[name]()


def test_a_plugin_that_imports_torch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_plugin.py").write_text("import torch\nBUILD = None\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sound, "__module__", "heavy_plugin")
    with pytest.raises(AssertionError, match=r"importing heavy_plugin imports \['torch'\]"):
        dict(backbone_checks(sound))["importing the plugin is light"]()
