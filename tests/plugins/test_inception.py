"""Inception v2 against the table of its paper; what v2 to v4 offer; totals of the families from Inception to NASNet."""

import pytest
import torch
from tlkit_plugins.networks.inception_v2 import MODULES
from torch import nn

from tlkit import registry
from tlkit.backbones import Backbone, Record, record_of
from tlkit.testing import backbone_checks

# Ioffe and Szegedy 2015, figure 5: side and maps of what each row puts out.
BN_INCEPTION = {
    "conv1": (112, 64),
    "pool1": (56, 64),
    "conv2": (56, 192),
    "pool2": (28, 192),
    "inception3a": (28, 256),
    "inception3b": (28, 320),
    "inception3c": (14, 576),
    "inception4a": (14, 576),
    "inception4b": (14, 576),
    "inception4c": (14, 576),
    "inception4d": (14, 576),
    "inception4e": (7, 1024),
    "inception5a": (7, 1024),
    "inception5b": (7, 1024),
}
V3 = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]  # modules, by the names of its authors


def shapes_only(name: str) -> Backbone:
    with torch.device("meta"):
        backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
    return backbone


def test_inception_v2_has_the_shapes_of_its_table() -> None:
    x = torch.zeros(1, 3, 224, 224, device="meta")
    found = {}
    for name, part in shapes_only("inception_v2").module.eval().named_children():
        if name == "fc":
            break
        x = part(x)
        found[name] = (x.shape[2], x.shape[1])
    assert found == BN_INCEPTION


def test_inception_v2_has_the_modules_of_its_table() -> None:
    module = shapes_only("inception_v2").module
    first = module.get_submodule("conv1.depthwise")
    assert isinstance(first, nn.Conv2d)
    assert (first.groups, first.out_channels, first.kernel_size, first.stride) == (3, 24, (7, 7), (2, 2))
    pools = {}
    for name, (_, *widths, projection) in MODULES.items():
        convolutions = [part for part in module.get_submodule(name).modules() if isinstance(part, nn.Conv2d)]
        one, reduce3, three, reduce5, double = widths
        wanted = [width for width in (one, reduce3, three, reduce5, double, double, projection) if width]
        assert [conv.out_channels for conv in convolutions] == wanted
        strides = {conv.stride for conv in convolutions if conv.kernel_size == (3, 3)}
        assert ((2, 2) in strides) == (not one)
        (pool,) = {type(p).__name__[:3] for p in module.get_submodule(name).modules() if "Pool" in type(p).__name__}
        pools[name] = pool
    assert {name for name, kind in pools.items() if kind == "Max"} == {"inception3c", "inception4e", "inception5b"}
    # The table prints 128 for these two projections, whose totals it prints as 576.
    assert (MODULES["inception4c"][-1], MODULES["inception4d"][-1]) == (96, 96)


@pytest.mark.parametrize(
    ("name", "taps", "codes"),
    [
        ("inception_v2", ["conv1", "conv2", *MODULES], 1024),
        (
            "inception_v3",
            [
                "conv1",
                "conv2",
                *(f"mixed{n}" for n in V3),
            ],
            2048,
        ),
        (
            "inception_v4",
            [
                "stem",
                *(f"inception_a{n}" for n in range(1, 5)),
                "reduction_a",
                *(f"inception_b{n}" for n in range(1, 8)),
                "reduction_b",
                *(f"inception_c{n}" for n in range(1, 4)),
            ],
            1536,
        ),
        (
            "inception_resnet_v2",
            ["stem", "inception_resnet_a", "reduction_a", "inception_resnet_b", "reduction_b", "inception_resnet_c"],
            1536,
        ),
        ("squeezenet1_0", ["conv1", *(f"fire{n}" for n in range(2, 10))], 512),
        ("squeezenet1_1", ["conv1", *(f"fire{n}" for n in range(2, 10))], 512),
        ("xception", ["conv2", *(f"block{n}" for n in range(1, 13)), "conv3", "conv4"], 2048),
    ],
)
def test_taps_have_the_names_of_the_papers(name: str, taps: list[str], codes: int) -> None:
    backbone = shapes_only(name)
    assert [tap.name for tap in backbone.taps] == [*taps, "pool"]
    assert backbone.tap("pool").channels == codes


@pytest.mark.parametrize(
    ("name", "maps"),
    [  # N @ P of figure 2: P / 24 maps in the first cells, six results stacked, twice as many after each reduction
        ("nasnet_mobile", [11 * 4, 22 * 4, *[264] * 4, 352, *[528] * 4, 704, *[1056] * 4]),
        ("nasnetalarge", [42 * 4, 84 * 4, *[1008] * 6, 1344, *[2016] * 6, 2688, *[4032] * 6]),
    ],
)
def test_nasnet_has_the_cells_of_its_name(name: str, maps: list[int]) -> None:
    taps = shapes_only(name).taps[:-1]
    assert [tap.channels for tap in taps] == maps
    assert [taps[0].name, taps[1].name, taps[-1].name] == ["cell_stem_0", "cell_stem_1", f"cell_{len(maps) - 5}"]


def total(name: str) -> Record:
    record = record_of(registry.get("backbone", name))
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("name", "params", "of", "digits"),
    [  # as printed, in which unit, with how many digits behind the point; test_records.py counts what records say
        ("squeezenet1_0", 1.25, 1e6, 2),
        ("mobilenetv1_100", 4.2, 1e6, 1),
        ("mobilenetv2_100", 3.5, 1e6, 1),
        ("xception", 22.9, 1e6, 1),
        ("nasnet_mobile", 5.3, 1e6, 1),
        ("densenet121", 8.0, 1e6, 1),
        ("resnext50_32x4d", 25.0, 1e6, 1),
    ],
)
def test_parameters_are_as_printed(name: str, params: float, of: float, digits: int) -> None:
    assert round(total(name).params / of, digits) == params


@pytest.mark.parametrize(
    ("name", "operations", "of", "digits"),
    [
        ("mobilenetv1_100", 569, 1e6, 0),
        ("nasnet_mobile", 564, 1e6, 0),
        ("nasnetalarge", 23.8, 1e9, 1),
        ("resnext50_32x4d", 4.2, 1e9, 1),
    ],
)
def test_operations_are_as_printed(name: str, operations: float, of: float, digits: int) -> None:
    assert round(total(name).macs / of, digits) == operations


def test_totals_that_are_printed_otherwise() -> None:
    assert total("nasnetalarge").params == 88_753_150  # printed as 88.9 M
    assert total("mobilenetv2_100").macs == 300_774_272  # 301 M, printed as 300 M
    assert total("googlenet").params == 6_624_904  # torchvision's, with 3x3 convolutions; the table adds to 6.8 M
    assert total("googlenet_5x5").params == 6_998_552  # its maps make 7.0 M
    assert total("inception_v3").params < 25e6  # "less than 25 million"
    assert total("inception_v3").macs == 5_713_216_096  # "5 billion"


@pytest.mark.full
@pytest.mark.parametrize("name", ["googlenet_5x5", "inception_v2", "nasnet_mobile", "squeezenet1_1", "inception_v3"])
def test_the_contract(name: str) -> None:
    def build() -> Backbone:
        backbone: Backbone = registry.build("backbone", {"name": name, "weights": None})
        return backbone

    for _, check in backbone_checks(build):
        check()
