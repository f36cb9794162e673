"""LeNet-5, AlexNet, ZFNet, VGG and NiN against the papers and the lecture notes, layer by layer.

Most of it is on torch's meta device, where shapes are known and numbers cost nothing.
"""

import re
from functools import cache
from math import prod
from pathlib import Path

import PIL.Image
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from tlkit_plugins.networks.layers import response_norm
from tlkit_plugins.networks.lenet import TABLE_1, EuclideanRBF, PartialConvolution, Squash, Subsampling
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone, count_params, read_taps
from tlkit.errors import TlkitError, UsageError

VGG = {"vgg11": 133, "vgg11_lrn": 133, "vgg13": 133, "vgg16_1x1": 134, "vgg16": 138, "vgg19": 144}
OURS = ["alexnet_1gpu", "alexnet_2gpu", "zfnet", "zfnet_512", "vgg11_lrn", "vgg16_1x1"]


def build(name: str, **settings: object) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": name, "weights": None, **settings})
    return backbone


@cache
def shapes_only(name: str) -> Backbone:
    with torch.device("meta"):
        return build(name)


@cache
def outputs(name: str) -> dict[str, tuple[int, ...]]:
    """Shape of what each layer of a network puts out for one image, in order, without the image's own dimension."""
    backbone, found = shapes_only(name), {}
    handles = []
    for path, layer in backbone.module.named_modules():
        if not len([*layer.children()]):

            def note(_: nn.Module, _inputs: object, output: Tensor, path: str = path) -> None:
                found[path] = tuple(output.shape[1:])

            handles.append(layer.register_forward_hook(note))
    with torch.no_grad():
        backbone.module(torch.zeros(1, *backbone.preprocess.input_size, device="meta"))
    for handle in handles:
        handle.remove()
    return found


def layer(name: str, path: str) -> nn.Module:
    return shapes_only(name).module.get_submodule(path)


def weights(name: str) -> list[int]:
    """Numbers in each convolution and fully connected layer, without biases."""
    layers = shapes_only(name).module.modules()
    return [part.weight.numel() for part in layers if isinstance(part, nn.Conv2d | nn.Linear)]


def connections(name: str, path: str) -> int:
    """Inputs of each unit and its bias, times units."""
    part, shape = layer(name, path), outputs(name)[path]
    if isinstance(part, Subsampling):
        return prod(shape) * (2 * 2 + 1)
    if isinstance(part, PartialConvolution):  # units of one map share all its numbers
        return prod(shape[1:]) * count_params(part)
    assert isinstance(part, nn.Conv2d | nn.Linear)
    return prod(shape) * (part.weight[0].numel() + 1)


@pytest.mark.parametrize(
    ("path", "shape", "params", "links"),
    [
        ("c1", (6, 28, 28), 156, 122_304),
        ("s2", (6, 14, 14), 12, 5_880),
        ("c3", (16, 10, 10), 1_516, 151_600),
        ("s4", (16, 5, 5), 32, 2_000),
        ("c5", (120, 1, 1), 48_120, 48_120),
        ("f6", (84,), 10_164, 10_164),
    ],
)
def test_lenet5_has_the_parameters_and_connections_of_the_paper(
    path: str, shape: tuple[int, ...], params: int, links: int
) -> None:
    assert outputs("lenet5")[f"{path}_squashed"] == shape
    assert count_params(layer("lenet5", path)) == params
    assert connections("lenet5", path) == links


def test_lenet5_in_all() -> None:
    backbone = shapes_only("lenet5")
    assert backbone.preprocess.input_size == (1, 32, 32)
    assert count_params(backbone.module) == 60_000
    layers = ["c1", "s2", "c3", "s4", "c5", "f6"]
    assert [tap.name for tap in backbone.taps] == [*layers, "pool"]
    assert [stage.name for stage in backbone.stages] == layers
    assert sum(connections("lenet5", path) for path in layers) == 340_068  # the text says 340,908


def test_a_map_of_c3_sees_the_maps_of_s2_that_table_1_says() -> None:
    rows = [  # of the paper: which maps of C3 take each map of S2
        [0, 4, 5, 6, 9, 10, 11, 12, 14, 15],
        [0, 1, 5, 6, 7, 10, 11, 12, 13, 15],
        [0, 1, 2, 6, 7, 8, 11, 13, 14, 15],
        [1, 2, 3, 6, 7, 8, 9, 12, 14, 15],
        [2, 3, 4, 7, 8, 9, 10, 12, 13, 15],
        [3, 4, 5, 8, 9, 10, 11, 13, 14, 15],
    ]
    c3 = PartialConvolution(TABLE_1, 6)
    for number, row in enumerate(rows):
        image = torch.zeros(1, 6, 5, 5)
        without = c3(image)
        image[0, number] = 1
        assert (c3(image) != without).flatten().nonzero().flatten().tolist() == row
    assert sorted(len(maps) for maps in TABLE_1) == [3] * 6 + [4] * 9 + [6]


def test_lenet5_subsamples_and_squashes_as_the_paper_does() -> None:
    layer, image = Subsampling(2), torch.randn(1, 2, 4, 6)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    sums = image[:, :, 0::2, 0::2] + image[:, :, 0::2, 1::2] + image[:, :, 1::2, 0::2] + image[:, :, 1::2, 1::2]
    torch.testing.assert_close(layer(image), sums * layer.weight.view(2, 1, 1) + layer.bias.view(2, 1, 1))
    assert Squash()(torch.tensor([-1.0, 0.0, 1.0, 99.0])).tolist() == pytest.approx([-1, 0, 1, 1.7159], abs=1e-4)


def test_the_outputs_of_lenet5_are_minus_the_distances_from_pictures_of_the_digits() -> None:
    units = EuclideanRBF()
    glyphs = units.get_buffer("glyphs")
    assert glyphs.shape == (10, 7 * 12)
    assert glyphs.abs().eq(1).all()
    assert torch.equal(units(glyphs).argmax(1), torch.arange(10))
    assert units(glyphs).diagonal().eq(0).all()
    codes = torch.randn(3, 84)
    torch.testing.assert_close(units(codes), -torch.cdist(codes, glyphs).square(), rtol=1e-4, atol=1e-3)
    apart = (glyphs[:, None] != glyphs).sum(2) + 84 * torch.eye(10)
    assert apart.min() >= 4  # pixels, of the most alike two
    network = build("lenet5").module
    network.reset_classifier(7)  # type: ignore[operator]
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert isinstance(network.get_classifier(), nn.Linear)  # type: ignore[operator]


def test_lenet5_sees_black_and_white_as_the_paper_does() -> None:
    preprocess = shapes_only("lenet5").preprocess
    for grey, wanted in ((0, -0.1), (255, 1.175)):
        pixels = torch.from_numpy(preprocess.pixels(PIL.Image.new("L", (28, 28), grey)))
        torch.testing.assert_close(preprocess.normalise(pixels[None]), torch.full((1, 1, 32, 32), wanted))


def test_lenet5_comes_back_from_a_file(tmp_path: Path) -> None:
    first = build("lenet5")
    save_file(first.module.state_dict(), tmp_path / "model.safetensors")
    again = build("lenet5", weights=str(tmp_path / "model.safetensors"))
    image = torch.rand(1, 1, 32, 32)
    assert again.weights is not None
    assert again.weights.num_classes == 10
    assert torch.equal(again.module.eval()(image), first.module.eval()(image))


def test_nothing_is_published_for_networks_of_ours() -> None:
    for name in ["lenet5", "nin_cifar"]:
        with pytest.raises(TlkitError, match=rf"no weights are published for {name}"):
            build(name, weights="pretrained")


@pytest.mark.parametrize("name", ["alexnet_1gpu", "alexnet_2gpu"])
def test_alexnet_has_the_shapes_of_the_notes(name: str) -> None:
    shapes = outputs(name)
    assert shapes_only(name).preprocess.input_size == (3, 227, 227)
    wanted = {
        "conv1": (96, 55, 55),
        "norm1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "norm2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
        "classifier": (1000,),
    }
    assert {path: shapes[path] for path in wanted} == wanted
    assert [path for path in shapes if path.startswith(("norm", "pool", "drop"))] == [
        *("norm1", "pool1", "norm2", "pool2", "pool5", "drop6", "drop7")
    ]


def test_the_weights_of_alexnet() -> None:
    assert weights("alexnet_1gpu")[0] == 34_848
    assert sum(weights("alexnet_1gpu")) == 62_367_776
    # What the notes call a fully connected first layer: 55 x 55 x 96 units with 11 x 11 x 3 weights and a bias each.
    assert connections("alexnet_1gpu", "conv1") == 105_705_600
    assert count_params(shapes_only("alexnet_2gpu").module) == 60_965_224  # 60.97 million
    halved = [path for path in outputs("alexnet_2gpu") if getattr(layer("alexnet_2gpu", path), "groups", 1) == 2]
    assert halved == ["conv2", "conv4", "conv5"]
    assert count_params(shapes_only("alexnet").module) == 61_100_840


def test_all_that_the_layers_of_alexnet_put_out_is_2_08_million_numbers() -> None:
    """The notes say 2.24 million; these are their rows: the image, and every layer with ReLU, norms and dropout."""
    numbers = 227 * 227 * 3 + sum(prod(shape) for shape in outputs("alexnet_1gpu").values())
    assert round(numbers / 1e6, 2) == 2.08


@pytest.mark.parametrize(
    ("name", "widths", "params"),
    [("zfnet", (384, 384, 256), 62_357_608), ("zfnet_512", (512, 1024, 512), 107_627_624)],
)
def test_zfnet_has_the_shapes_of_figure_3(name: str, widths: tuple[int, int, int], params: int) -> None:
    shapes, (third, fourth, fifth) = outputs(name), widths
    first = layer(name, "conv1")
    assert isinstance(first, nn.Conv2d)
    assert (first.kernel_size, first.stride) == ((7, 7), (2, 2))
    wanted = {
        "conv1": (96, 110, 110),
        "pool1": (96, 55, 55),
        "norm1": (96, 55, 55),
        "conv2": (256, 26, 26),
        "pool2": (256, 13, 13),
        "norm2": (256, 13, 13),
        "conv3": (third, 13, 13),
        "conv4": (fourth, 13, 13),
        "conv5": (fifth, 13, 13),
        "pool5": (fifth, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
    }
    assert {path: shapes[path] for path in wanted} == wanted
    assert count_params(shapes_only(name).module) == params


@pytest.mark.parametrize(("name", "millions"), VGG.items())
def test_the_parameters_of_vgg(name: str, millions: int) -> None:
    assert round(count_params(shapes_only(name).module) / 1e6) == millions
    reference = shapes_only(name).reference
    assert reference is not None
    assert reference.params == millions * 1e6


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg11", 8), ("vgg11_lrn", 8), ("vgg13", 10), ("vgg16_1x1", 13), ("vgg16", 13), ("vgg19", 16)]
)
def test_the_convolutions_of_vgg(name: str, layers: int) -> None:
    found = [part for part in shapes_only(name).module.modules() if isinstance(part, nn.Conv2d)][:layers]
    kernels = [part.kernel_size[0] for part in found]
    assert kernels == ([3, 3, 3, 3, *[3, 3, 1] * 3] if name == "vgg16_1x1" else [3] * layers)
    assert len(weights(name)) == layers + 3
    norms = [path for path in outputs(name) if isinstance(layer(name, path), nn.LocalResponseNorm)]
    assert norms == (["norm1"] if name == "vgg11_lrn" else [])


def test_vgg16_puts_out_what_the_notes_say() -> None:
    shapes = outputs("vgg16")
    numbers = {path: prod(shape) for path, shape in shapes.items() if not isinstance(layer("vgg16", path), nn.ReLU)}
    maps = [count for path, count in numbers.items() if path.startswith("features")]
    assert [round(count / 1e3) for count in maps] == [
        *(3211, 3211, 803, 1606, 1606, 401, 803, 803, 803, 201, 401, 401, 401, 100, 100, 100, 100, 25)
    ]
    fully = [numbers[path] for path in ("pre_logits.fc1", "pre_logits.fc2", "head.fc")]
    total = 224 * 224 * 3 + sum(maps) + sum(fully)
    assert round(total / 1e6, 1) == 15.2  # the notes say 24 million, and 93 to 96 MB
    assert round(4 * total / 1e6) == 61


def test_hidden_layers_drop_half_of_their_units() -> None:
    for name in [*OURS, "alexnet"]:
        drops = [part for part in shapes_only(name).module.modules() if isinstance(part, nn.Dropout)]
        assert [part.p for part in drops] == [0.5, 0.5], name
    for name in ["vgg16", "vgg16_bn"]:
        assert [getattr(layer(name, path), "p", None) for path in ("pre_logits.drop", "head.drop")] == [0.5, 0.5]


def test_the_response_norm_is_the_papers() -> None:
    maps = 30 * torch.rand(2, 8, 3, 3)
    wanted = torch.empty_like(maps)
    for i in range(8):
        sums = maps[:, max(0, i - 2) : i + 3].square().sum(1)
        wanted[:, i] = maps[:, i] / (2 + 1e-4 * sums) ** 0.75
    torch.testing.assert_close(response_norm()(maps), wanted)


@pytest.mark.parametrize(("name", "last", "classes"), [("nin", 4, 1000), ("nin_cifar", 3, 10)])
def test_nin_has_mlpconv_layers_and_nothing_fully_connected(name: str, last: int, classes: int) -> None:
    module, shapes = shapes_only(name).module, outputs(name)
    assert not any(isinstance(part, nn.Linear) for part in module.modules())
    for number in range(1, last + 1):
        layers = [*layer(name, f"mlpconv{number}").children()]
        kernels = [part.kernel_size[0] for part in layers if isinstance(part, nn.Conv2d)]
        assert kernels[0] > 1
        assert kernels[1:] == ([1] if number == last else [1, 1])  # the last one's second is the classifier
        assert [type(part) for part in layers[1::2]] == [nn.ReLU] * len(kernels)
    classifier = layer(name, "classifier")
    assert isinstance(classifier, nn.Conv2d)
    assert classifier.kernel_size == (1, 1)
    sides = {"nin": 6, "nin_cifar": 8}[name]
    assert shapes["classifier"] == (classes, sides, sides)


def test_the_outputs_of_nin_are_means_of_rectified_maps() -> None:
    network = build("nin_cifar").module.eval()
    image = torch.randn(2, 3, 32, 32)
    layers = [*dict(network.named_children()).values()]
    with torch.no_grad():
        expected = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())(image)
        torch.testing.assert_close(network(image), expected)
        network.reset_classifier(4)  # type: ignore[operator]
        assert network(image).shape == (2, 4)


@pytest.mark.parametrize("name", OURS)
def test_own_networks_take_other_sizes(name: str) -> None:
    with torch.device("meta"):
        backbone = build(name, input_size=96)
    assert backbone.preprocess.input_size == (3, 96, 96)
    assert backbone.spec["input_size"] == 96
    assert backbone.module(torch.zeros(1, 3, 96, 96, device="meta")).shape == (1, 1000)
    with pytest.raises(UsageError, match=rf"input_size=20: too small for {name}") as told, torch.device("meta"):
        build(name, input_size=20)
    least = int(re.findall(r"Give (\d+)", str(told.value))[0])
    assert f"at least {least}." in (registry.get("backbone", name).__doc__ or "")
    with torch.device("meta"):
        build(name, input_size=least)


@pytest.mark.parametrize(("name", "size"), [("zfnet", 64), ("alexnet_2gpu", 67), ("vgg16_1x1", 32)])
def test_signals_neither_vanish_nor_explode_at_the_start(name: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = build(name, input_size=size)
    codes = read_taps(backbone, torch.randn(4, 3, size, size), ["fc7"])["fc7"]
    assert 0.05 < codes.std() < 5


def test_alexnet_is_torchvisions() -> None:
    theirs = torchvision.models.alexnet().eval()
    with torch.device("meta"):
        ours = build("alexnet").module
    ours.load_state_dict(theirs.state_dict(), assign=True)
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert (ours(image) - theirs(image)).abs().max() <= 1e-5


@pytest.mark.full
@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19"])
def test_vgg_is_torchvisions(name: str) -> None:
    """Names differ in the classifier only; timm has its layers as convolutions."""
    theirs = torchvision.models.get_model(name).eval()
    with torch.device("meta"):
        ours = build(name).module.eval()
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({key: tensor.reshape(own.shape) for (key, own), tensor in pairs}, assign=True)
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert (ours(image) - theirs(image)).abs().max() <= 1e-5
