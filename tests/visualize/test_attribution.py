"""Class scores with gradients, Grad-CAM and guided backprop."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlkit import registry
from tlkit.backbones import Backbone, activations, from_timm, read_taps
from tlkit.classifier import Classifier
from tlkit.errors import UsageError
from tlkit.heads import HEADS, TrainedHead
from tlkit.visualize.attribution import class_scores, grad_cam, guided, map_taps


def batch_of(backbone: Backbone, n: int = 4) -> torch.Tensor:
    channels, height, width = backbone.preprocess.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return backbone.preprocess.normalise(torch.from_numpy(pixels))


def fitted(
    backbone: Backbone, taps: tuple[str, ...] = ("pool",), head: str = "svm", pooling: str = "avg", **settings: object
) -> Classifier:
    found = read_taps(backbone, batch_of(backbone, 24), taps, pooling)  # type: ignore[arg-type]
    codes = torch.cat(list(found.values()), dim=1).numpy()
    labels = np.arange(24) % 3
    parts = [part.shape[1] for part in found.values()] if len(taps) > 1 else None
    made = HEADS[head](**{"parts": parts, "cv": 2, **settings}).fit(codes, labels)
    recipe = {"precision": "float32", "pooling": pooling, "views": 1, "view_seed": 0}
    return Classifier(("a", "b", "c"), backbone, taps, made, {}, recipe)


@pytest.mark.parametrize("head", ["svm", "softmax", "ridge", "prototype"])
@pytest.mark.parametrize("scale", ["standard", "none", "l2", "power"])
def test_scores_are_those_of_the_head(tiny: Backbone, head: str, scale: str) -> None:
    classifier = fitted(tiny, ("layer2", "layer4", "pool"), head, scale=scale)
    batch = batch_of(tiny, 5)
    codes = torch.cat(list(read_taps(tiny, batch, classifier.taps).values()), dim=1).numpy()
    expected = classifier.head.decision_function(codes)
    with torch.no_grad():
        found = class_scores(classifier)(batch).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_scores_of_maps_pooled_in_another_way(tiny: Backbone) -> None:
    classifier = fitted(tiny, ("layer3",), pooling="avg+max", C=1.0)
    batch = batch_of(tiny, 5)
    codes = read_taps(tiny, batch, ["layer3"], "avg+max")["layer3"].numpy()
    with torch.no_grad():
        found = class_scores(classifier)(batch).numpy()
    np.testing.assert_allclose(found, classifier.head.decision_function(codes), atol=1e-4, rtol=1e-4)


def test_scores_of_a_trained_network(tiny: Backbone) -> None:
    weight = np.random.default_rng(1).normal(size=(3, tiny.tap("pool").channels)).astype(np.float32)
    head = TrainedHead.of(weight, np.ones(3, np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    classifier = Classifier(("a", "b", "c"), tiny, ("pool",), head)
    batch = batch_of(tiny)
    with torch.no_grad():
        found = class_scores(classifier)(batch).numpy()
    expected = head.decision_function(read_taps(tiny, batch, ["pool"])["pool"].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_root_of_nothing_passes_no_signal_back_and_no_nan(tiny: Backbone) -> None:
    classifier = fitted(tiny, scale="power")
    batch = torch.zeros_like(batch_of(tiny, 1)).requires_grad_()
    (signal,) = torch.autograd.grad(class_scores(classifier)(batch)[0, 0], batch)
    assert signal.isfinite().all()


def test_neighbours_that_vote_have_no_gradient(tiny: Backbone) -> None:
    with pytest.raises(UsageError, match=r"strategy\.head=svm"):
        class_scores(fitted(tiny, head="knn"))


@pytest.mark.parametrize("taps", [("pool",), ("layer2", "layer4", "pool")])
def test_grad_cam_by_hand_in_float64(tiny: Backbone, taps: tuple[str, ...]) -> None:
    """Selvaraju et al. 2017, equations 1 and 2."""
    classifier = fitted(tiny, taps, C=1.0, scale="standard")
    batch, labels = batch_of(tiny, 3), np.array([0, 1, 2])
    tap, found = grad_cam(tiny, class_scores(classifier), batch, labels, map_taps(classifier))
    assert tap.name == "layer4"
    head: Any = classifier.head
    exact = copy.deepcopy(tiny.module).double()
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        return output.clone()

    exact.get_submodule(tap.module).register_forward_hook(keep)
    codes = activations(exact, batch.double(), [tiny.tap(name) for name in taps])
    scores = torch.cat(list(codes.values()), 1).double() @ torch.tensor(head.coef_.T).double()
    (gradient,) = torch.autograd.grad(scores[torch.arange(3), torch.tensor(labels)].sum(), kept[0])
    weights = gradient.mean((2, 3), keepdim=True)
    small = F.relu((weights * kept[0]).sum(1, keepdim=True))
    expected = F.interpolate(small, batch.shape[2:], mode="bilinear")[:, 0].detach().numpy()
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_grad_cam_leaves_the_network_as_it_was(tiny: Backbone) -> None:
    classifier = fitted(tiny)
    before = {name: len(part._forward_hooks) for name, part in tiny.module.named_modules()}
    grad_cam(tiny, class_scores(classifier), batch_of(tiny), np.array([0, 1, 2, 0]), map_taps(classifier))
    assert before == {name: len(part._forward_hooks) for name, part in tiny.module.named_modules()}
    assert not tiny.module.training


@pytest.mark.parametrize(
    ("model", "settings", "tap"),
    [
        ("vit_tiny_patch16_224", {}, "blocks.10"),  # after the last block only the class token counts
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}, "blocks.11"),
        ("swin_tiny_patch4_window7_224", {}, "layers.3"),
        ("convnext_atto", {}, "stages.3"),
    ],
)
@pytest.mark.full
def test_grad_cam_of_other_layouts(model: str, settings: dict[str, Any], tap: str) -> None:
    torch.manual_seed(0)
    backbone = from_timm(model, weights=None, **settings)
    head = TrainedHead.of(
        np.random.default_rng(1).normal(size=(3, backbone.tap("pool").channels)).astype(np.float32),
        *(np.zeros(3, np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.int64)),
    )
    classifier = Classifier(("a", "b", "c"), backbone, ("pool",), head)
    batch = batch_of(backbone, 2)
    scores = class_scores(classifier)
    taken, found = grad_cam(backbone, scores, batch, np.array([0, 1]), map_taps(classifier))
    assert taken.name == tap
    assert found.shape == (2, *backbone.preprocess.input_size[1:])
    assert found.max() > 0
    assert guided(backbone, scores, batch, np.array([0, 1]))[1] == "plain saliency (GELU, no ReLU)"


def test_only_maps_that_act_on_the_scores(tiny: Backbone) -> None:
    classifier = fitted(tiny, ("layer2",))
    assert map_taps(classifier)[0].name == "layer2"
    with pytest.raises(UsageError, match=r"tap=layer4: no map that the scores depend on"):
        map_taps(classifier, "layer4")
    with pytest.raises(UsageError, match="has no tap 'layer9'"):
        map_taps(classifier, "layer9")


def test_guided_backprop_as_captum_has_it(tiny: Backbone) -> None:
    """In ResNets each ReLU is a module of its own, with an input that nobody else reads: there captum is right."""
    from captum.attr import GuidedBackprop

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = copy.deepcopy(tiny.module)
            for part in self.module.modules():
                if isinstance(part, nn.ReLU):
                    part.inplace = False

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            codes = activations(self.module, batch, [tiny.tap("pool")])["pool"]
            return codes @ torch.from_numpy(head.coef_.T) + torch.from_numpy(head.intercept_)

    classifier = fitted(tiny, scale="standard", C=1.0)
    head: Any = classifier.head
    batch, labels = batch_of(tiny, 3), np.array([0, 1, 2])
    found, name = guided(tiny, class_scores(classifier), batch, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says at each call that it sets hooks
        expected = GuidedBackprop(Scored()).attribute(batch.clone().requires_grad_(), torch.from_numpy(labels))
    assert name == "guided backprop"
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("efficientnet_b0", "plain saliency (SiLU, no ReLU)"),
        ("mobilenetv3_small_050", "guided backprop (14 ReLUs; Hardswish by its gradient)"),
        ("mobilenetv2_035", "guided backprop"),
    ],
)
@pytest.mark.full
def test_what_guided_backprop_is_called(model: str, name: str) -> None:
    torch.manual_seed(0)
    backbone = from_timm(model, weights=None)
    codes = np.random.default_rng(1).normal(size=(2, backbone.tap("pool").channels)).astype(np.float32)
    head = TrainedHead.of(codes, np.zeros(2, np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    classifier = Classifier(("a", "b"), backbone, ("pool",), head)
    found = guided(backbone, class_scores(classifier), batch_of(backbone, 1), np.array([0]))
    assert found[1] == name
    assert np.isfinite(found[0]).all()


def test_real_weights_find_the_object(assets: Path) -> None:
    """The score is the network's own logit, and the evidence for the class in the middle, where the object is."""
    from tlkit.data import decode

    weights = str(assets / "weights" / "mobilenetv2_100.keras_in1k")
    backbone: Backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": weights})
    path = sorted((assets / "data" / "imagenet_samples").glob("*.jpg"))[7]
    module: Any = backbone.module
    layer = module.get_classifier()
    weight, bias = (part.detach().numpy().copy() for part in (layer.weight, layer.bias))
    head = TrainedHead.of(weight, bias, np.zeros((0, len(bias)), np.float32), np.zeros(0, np.int64))
    classifier = Classifier(tuple(map(str, range(len(bias)))), backbone, ("pool",), head)
    batch = backbone.preprocess.normalise(torch.from_numpy(backbone.preprocess.pixels(decode(path)))[None])
    scores = class_scores(classifier)
    with torch.no_grad():
        assert torch.allclose(scores(batch), backbone.module(batch), atol=1e-3)
    label = np.array([int(path.name[:4])])
    _, cam = grad_cam(backbone, scores, batch, label, map_taps(classifier))
    assert cam[0, 56:168, 56:168].mean() > cam[0].mean() > 0
