"""Networks layer by layer: against lecture notes and papers, torch's counts, and what gradients reach."""

from math import prod
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tlkit_plugins.networks.interface import Network
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone, count_macs, count_params, from_module
from tlkit.backbones.summary import Layer, Summary, summarize
from tlkit.data import Preprocess
from tlkit.errors import TlkitError

CHEAP = ["tiny", "vgg16", "resnet50", "mobilenetv1_100", "mobilenetv2_100"]
DOCUMENTED = sorted(registry.entry_points("backbone").keys() - {"timm"})
FOREIGN = ["test_vit", "test_convnext", "test_efficientnet", "swin_tiny_patch4_window7_224", "nfnet_l0"]


class Plain(Network):  # type: ignore[misc]
    """Any layers, the mean of the last map, and a classifier."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.num_features = width
        self.reset_classifier(10)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features


def backbone_of(body: nn.Module, width: int, size: tuple[int, int, int]) -> Backbone:
    preprocess = Preprocess(size, "bilinear", (0.5,) * size[0], (0.5,) * size[0], 1.0)
    return from_module(Plain(body, width), name="plain", preprocess=preprocess, weights=None, spec={"name": "plain"})


def shapes_only(name: str) -> Backbone:
    with torch.device("meta"):
        built: Backbone = registry.build("backbone", {**registry.choice_settings("backbone", name), "weights": None})
    return built


def summary_of(name: str) -> Summary:
    return summarize(shapes_only(name))


def weighing(measured: Summary) -> list[Layer]:
    return [layer for layer in measured.layers if layer.weights]


@pytest.mark.parametrize(
    ("layer", "before", "after"),
    [
        (nn.Conv2d(1, 1, 3), 6, 4),
        (nn.Conv2d(1, 1, 3, padding=1), 4, 4),
        (nn.Conv2d(1, 1, 3, stride=2), 7, 3),
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), 5, 3),
        (nn.MaxPool2d(2, 2), 4, 2),
        (nn.MaxPool2d(3, 2), 7, 3),
    ],
)
def test_sizes_of_the_notes(layer: nn.Module, before: int, after: int) -> None:
    row = summarize(backbone_of(nn.Sequential(nn.Conv2d(3, 1, 1), layer), 1, (3, before, before))).layers[2]
    assert row.output == (after, after, 1)
    assert row.kernel is not None
    assert row.stride is not None
    assert row.padding is not None
    assert (before + 2 * row.padding[0] - row.kernel[0]) // row.stride[0] + 1 == after


@pytest.mark.parametrize(("count", "side"), [(2, 5), (3, 7)])
def test_stacks_of_3x3_see_what_one_larger_kernel_sees_with_fewer_weights(count: int, side: int) -> None:
    c = 8
    stack = nn.Sequential(*[nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(count)])
    *_, last, _, _ = summarize(backbone_of(stack, c, (c, 16, 16))).layers
    assert (last.field, last.jump) == ((side, side), (1, 1))
    assert sum(x.weights for x in summarize(backbone_of(stack, c, (c, 16, 16))).layers[1:-1]) == count * 9 * c**2


def test_vgg16_is_the_table_of_the_notes() -> None:
    measured = summary_of("vgg16")
    weights = [
        1728,
        36864,
        73728,
        147456,
        294912,
        589824,
        589824,
        1179648,
        *[2359296] * 5,
        102760448,
        16777216,
        4096000,
    ]
    assert [layer.weights for layer in weighing(measured)] == weights
    assert sum(weights) == 138_344_128
    values = [layer.activations for layer in measured.layers]
    assert values[:3] == [150_528, 3_211_264, 3_211_264]
    pools = [layer for layer in measured.layers if layer.kind == "max pool"]
    assert [layer.activations for layer in pools] == [802_816, 401_408, 200_704, 100_352, 25_088]
    assert round(measured.activations / 1e6, 1) == 15.2  # the notes say 24 M; their own rows add to this
    assert round(4 * measured.activations / 1e6) == 61
    assert [layer.taps for layer in pools] == [("pool1",), ("pool2",), ("pool3",), ("pool4",), ("pool5",)]
    assert [layer.stages[0] for layer in measured.layers[-2:]] == ["pre_logits", "classifier"]


def test_vgg16_sees_what_is_known_of_it() -> None:
    fields = [(layer.field, layer.jump) for layer in summary_of("vgg16").layers if layer.kind == "max pool"]
    sides = [(6, 2), (16, 4), (44, 8), (100, 16), (212, 32)]
    assert fields == [((side, side), (jump, jump)) for side, jump in sides]
    assert [layer.field for layer in summary_of("vgg16").layers[-3:]] == ["image"] * 3


@pytest.mark.parametrize(("name", "sides"), [("resnet18", [43, 99, 211, 435]), ("resnet50", [35, 91, 267, 427])])
def test_fields_of_resnets(name: str, sides: list[int]) -> None:
    """11 after the stem; a basic block adds 4 jumps (3 halves of it where it strides), a bottleneck 2 (1)."""
    taps = [layer.field for layer in summary_of(name).layers if layer.taps and layer.taps[0].startswith("layer")]
    assert taps == [(side, side) for side in sides]


@pytest.mark.parametrize(
    "name", [*CHEAP, *(pytest.param(n, marks=pytest.mark.full) for n in DOCUMENTED if n not in CHEAP)]
)
def test_documented_networks_add_up(name: str) -> None:
    backbone = shapes_only(name)
    check_sums(backbone)


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_of_all_kinds_add_up(name: str) -> None:
    check_sums(shapes_only(f"timm/{name}"))


def check_sums(backbone: Backbone) -> None:
    measured = summarize(backbone)
    assert measured.params == count_params(backbone.module)
    assert measured.macs == count_macs(backbone.module, measured.input_size)
    assert all(layer.activations == prod(layer.output) > 0 for layer in measured.layers)
    assert {tap for layer in measured.layers for tap in layer.taps} == {tap.name for tap in backbone.taps}
    assert {name for layer in measured.layers for name in layer.stages} >= {stage.name for stage in backbone.stages}
    assert all(source < row for row, layer in enumerate(measured.layers) for source in layer.inputs)


def test_attention_has_no_field_and_says_so() -> None:
    layers = summary_of("timm/vit_tiny_patch16_224").layers
    patches = next(row for row, layer in enumerate(layers) if layer.kind == "conv")
    assert (layers[patches].field, layers[patches].jump) == ((16, 16), (16, 16))
    first = next(row for row, layer in enumerate(layers) if layer.kind == "attention")
    assert {layer.field for layer in layers[patches:first]} == {(16, 16)}
    assert {layer.field for layer in layers[first:]} == {None}


def test_squeeze_and_excitation_sees_the_whole_image() -> None:
    layers = summary_of("timm/seresnet18").layers
    gate = next(row for row, layer in enumerate(layers) if layer.kind == "multiply")
    assert (layers[gate].field, layers[gate].jump) == ("image", (4, 4))
    assert layers[gate - 4].field == (27, 27)
    assert {layer.field for layer in layers[gate:]} == {"image"}


def test_functions_are_layers_too() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8, 3, 5, 5))
            self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
            self.idle = nn.Parameter(torch.ones(7))

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.relu(nn.functional.conv2d(x, self.weight, padding=2)) * self.scale
            x = nn.functional.local_response_norm(x, 5)
            return torch.cat([nn.functional.max_pool2d(x, 3, 2), nn.functional.avg_pool2d(x, (3, 3), stride=2)], 1)

    measured = summarize(backbone_of(Functional(), 16, (3, 9, 9)))
    told = [(layer.kind, layer.output, layer.field, layer.weights, layer.other) for layer in measured.layers[1:-2]]
    assert told == [
        ("conv + relu + multiply + lrn", (9, 9, 8), (5, 5), 600, 8),
        ("max pool", (4, 4, 8), (7, 7), 0, 0),
        ("avg pool", (4, 4, 8), (7, 7), 0, 0),
        ("concat", (4, 4, 16), (7, 7), 0, 0),
    ]
    assert measured.layers[4].inputs == (2, 3)
    assert measured.unused == 7
    assert measured.params == 600 + 8 + 7 + 170


def test_what_arithmetic_does_not_know_has_no_field() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.interpolate(x.flatten(2).mT.mT.reshape(x.shape), scale_factor=2)
            return nn.functional.max_pool2d(x, 2)

    body = nn.Sequential(nn.Conv2d(3, 4, 3), Odd())
    layers = summarize(backbone_of(body, 4, (3, 10, 12))).layers[1:]
    told = [(layer.kind, layer.output, layer.field) for layer in layers]
    assert told[:3] == [
        ("conv", (8, 10, 4), (3, 3)),
        ("interpolate", (4, 16, 20), None),
        ("max pool", (8, 10, 4), None),
    ]
    assert [layer.inputs for layer in layers[:3]] == [(0,), (1,), (2,)]


def test_pads_before_a_convolution_are_its_padding() -> None:
    body = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2))
    (row,) = [layer for layer in summarize(backbone_of(body, 4, (3, 8, 8))).layers if layer.kind == "conv"]
    assert (row.padding, row.output, row.field) == ((0, 1, 0, 1), (4, 4, 4), (3, 3))


@st.composite
def stacks(draw: st.DrawFn) -> list[nn.Module]:
    """Convolutions and poolings that fit an image of 33x33 and leave 3x3 at least."""
    side, layers = 33, [nn.Conv2d(1, 1, 1)]
    for _ in range(draw(st.integers(1, 5))):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        padding, pool = draw(st.sampled_from([0, kernel // 2])), draw(st.booleans())
        dilation = 1 if pool else draw(st.integers(1, 2))
        after = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if after >= 3:
            conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
            layers.append(nn.AvgPool2d(kernel, stride, padding) if pool else conv)  # type: ignore[arg-type]
            side = after
    return [*layers]


@given(stacks())
@settings(deadline=None, max_examples=25)
def test_gradients_reach_what_the_field_says(layers: list[nn.Module]) -> None:
    body = nn.Sequential(*layers)
    row = summarize(backbone_of(body, 1, (1, 33, 33))).layers[-3]  # then come the mean and the classifier
    first, last = support(body, body, torch.rand(1, 1, 33, 33), row.output[0] // 2)
    before, _ = support(body, body, torch.rand(1, 1, 33, 33), row.output[0] // 2 - 1)
    assert isinstance(row.field, tuple)
    assert row.jump is not None
    assert last - first + 1 <= row.field[0]
    if not any(getattr(layer, "padding", 0) not in (0, (0, 0)) for layer in layers):
        assert (last - first + 1, first - before) == (row.field[0], row.jump[0])


def support(network: nn.Module, module: nn.Module, image: Tensor, place: int) -> tuple[int, int]:
    """First and last row of the image that a place in a module's map depends on; all numbers become positive."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, len(parameter) / parameter.numel())
    for name, buffer in network.named_buffers():
        nn.init.constant_(buffer, float(name.endswith("var"))) if buffer.is_floating_point() else None
    outputs: list[Tensor] = []
    hook = module.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    image.requires_grad_()
    network(image)
    hook.remove()
    outputs[0][0, :, place, place].sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    rows = image.grad[0].abs().sum((0, 2)).nonzero().flatten().tolist()
    return rows[0], rows[-1]


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("resnet18", ["maxpool", "layer1", "layer2"]),
        ("inception_v3", ["Pool2", "Mixed_5b", "Mixed_5d"]),
        ("vgg11", ["features.10", "features.20"]),
        ("mobilenetv2_100", ["blocks.1", "blocks.2"]),
    ],
)
def test_gradients_reach_what_networks_are_said_to_see(name: str, paths: list[str]) -> None:
    with torch.device("meta"):
        network: Any = timm.create_model(name, num_classes=0).eval()
    layers = summary_of(f"timm/{name}").layers
    network.to_empty(device="cpu")
    for parent in list(network.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.MaxPool2d):  # which passes gradients to the largest only
                setattr(parent, child, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
            if isinstance(module, nn.ReLU | nn.ReLU6):  # which may pass none
                setattr(parent, child, nn.Identity())
    modules = dict(network.named_modules())
    for path in paths:
        row = [layer for layer in layers if f"{layer.name}.".startswith(f"{path}.")][-1]
        image = torch.rand(1, *network.pretrained_cfg["input_size"])
        first, last = support(network, modules[path], image, row.output[0] // 2)
        assert row.field == (last - first + 1,) * 2, path


def test_memory_is_what_the_arithmetic_says() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1))
    measured = summarize(backbone_of(body, 8, (3, 16, 16)))
    image, first, second = 3 * 256, 4 * 256, 8 * 64
    assert measured.peak == 4 * max(image + 2 * first, image + first + second)  # the image stays, it is the caller's
    # Convolutions keep their inputs, the activation its output, which is one of these, the classifier the codes.
    assert measured.kept == 4 * (image + first + 8)
    params = count_params(body) + 90
    assert measured.forward_bytes(10) == 4 * params + 10 * measured.peak
    assert measured.training_bytes(10) == 4 * params * 3 + 10 * measured.kept


def test_other_sizes_and_sizes_that_cannot_be() -> None:
    small = summarize(shapes_only("resnet18"), (3, 64, 96))
    assert small.layers[-3].output == (2, 3, 512)
    with pytest.raises(
        TlkitError, match=r"vit_tiny_patch16_224 cannot be run on images of 100x100: .*Its own size is 224x224"
    ):
        summarize(shapes_only("timm/vit_tiny_patch16_224"), (3, 100, 100))
