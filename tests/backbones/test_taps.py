"""Taps against timm's own feature extractors, and over the families of timm."""

from typing import Any, get_args

import pytest
import timm
import torch
from torch import Tensor, nn

from tlkit.backbones import Backbone, from_timm, read_taps
from tlkit.backbones.taps import POOLINGS, Pooling, activations, codes_width, find_taps
from tlkit.errors import UsageError

# The smallest member of each, with the side of a small input that it accepts and what makes it accept it.
QUICK = {"test_vit": 160, "test_convnext": 96, "test_byobnet": 96, "resnet10t": 96, "mobilenetv2_100": 96}
FAMILIES = {
    **QUICK,
    "vgg11": 64,
    "vgg11_bn": 64,
    "densenet121": 64,
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
    "mobilenetv1_100": 64,
    "mobilenetv3_small_050": 64,
    "efficientnet_b0": 64,
    "mnasnet_small": 64,
    "swin_tiny_patch4_window7_224": 224,
    "swinv2_tiny_window8_256": 256,
    "deit_tiny_distilled_patch16_224": 224,
    "beit_base_patch16_224": 224,
    "cait_xxs24_224": 224,
    "xcit_nano_12_p8_224": 224,
    "regnetx_002": 64,
    "legacy_xception": 96,
    "nasnetalarge": 96,
    "pnasnet5large": 96,
    "resnext50_32x4d": 64,
    "legacy_seresnet18": 64,
    "wide_resnet50_2": 64,
    "resnetv2_18": 64,
    "dpn48b": 64,
    "dla46x_c": 64,
    "hrnet_w18_small": 64,
    "gmlp_ti16_224": 224,
    "mixer_s32_224": 224,
    "poolformerv2_s12": 64,
    "test_coatnet": 160,
    "coat_tiny": 224,
    "pit_ti_224": 224,
    "mvitv2_tiny": 224,
    "levit_128s": 224,
    "mambaout_femto": 96,
    "hiera_tiny_224": 224,
    "twins_svt_small": 224,
    "rdnet_tiny": 64,
}


@pytest.fixture(scope="module")
def mobilenet() -> Backbone:
    return from_timm("mobilenetv2_100", weights=None)


def small(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def check_family(architecture: str, side: int) -> None:
    """Taps exist, are ordered, have the width timm gives, and the last is what the classifier gets."""
    network: Any = timm.create_model(architecture).eval()
    taps = find_taps(network, (3, side, side))
    assert len(taps) > 1
    assert taps[-1].name == "pool"
    reductions = [tap.reduction for tap in taps[:-1]]
    assert reductions == sorted(reductions, key=lambda reduction: reduction or 0)
    batch = small(side)
    with torch.inference_mode():
        codes = activations(network, batch, taps)
        head = network.forward_head(network.forward_features(batch), pre_logits=True)
    # HRNet describes layers that it makes of a stage's several outputs; a tap takes the finest of them.
    described = {} if "hrnet" in architecture else {info["module"]: info["num_chs"] for info in network.feature_info}
    for tap in taps:
        assert codes[tap.name].shape == (2, tap.channels)
        assert codes[tap.name].isfinite().all()
        assert tap.channels == described.get(tap.name, tap.channels)
    assert torch.equal(codes["pool"], head.flatten(1))


@pytest.mark.parametrize("architecture", QUICK)
def test_taps_of_a_family(architecture: str) -> None:
    check_family(architecture, QUICK[architecture])


@pytest.mark.full
@pytest.mark.parametrize("architecture", sorted(set(FAMILIES) - set(QUICK)))
def test_taps_of_all_families(architecture: str) -> None:
    check_family(architecture, FAMILIES[architecture])


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenetv2_100", "test_vit", "test_byobnet"])
def test_pool_is_the_input_of_the_classifier(architecture: str) -> None:
    backbone = from_timm(architecture, weights=None)
    seen: list[Tensor] = []
    classifier: nn.Module = backbone.module.get_classifier()  # type: ignore[operator]
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = small(backbone.preprocess.input_size[1], n=1)
    with torch.inference_mode():
        backbone.module(batch)
    assert torch.equal(read_taps(backbone, batch, ["pool"])["pool"], seen[0])


def test_names_of_mobilenetv2(mobilenet: Backbone) -> None:
    assert [tap.name for tap in mobilenet.taps] == [*(f"blocks.{i}" for i in range(7)), "pool"]
    assert [tap.channels for tap in mobilenet.taps] == [16, 24, 32, 64, 96, 160, 320, 1280]
    assert [tap.reduction for tap in mobilenet.taps] == [2, 4, 8, 16, 16, 32, 32, None]


@pytest.mark.parametrize(
    ("architecture", "space"), [("resnet10t", (2, 3)), ("mobilenetv2_100", (2, 3)), ("test_mambaout", (1, 2))]
)
def test_maps_are_averaged_as_timm_extracts_them(architecture: str, space: tuple[int, int]) -> None:
    network = timm.create_model(architecture).eval()
    taps = find_taps(network, (3, 160, 160))
    maps: Any = timm.create_model(architecture, features_only=True).eval()
    renamed = {name.replace("stages.", "stages_") if "stages_0" in dict(maps.named_children()) else name: tensor
               for name, tensor in network.state_dict().items()}  # fmt: skip
    maps.load_state_dict(renamed, strict=False)
    batch = small(160)
    with torch.inference_mode():
        expected = dict(zip(maps.feature_info.module_name(), maps(batch), strict=True))
        codes = activations(network, batch, taps)
    shared = expected.keys() & codes.keys()
    assert len(shared) >= 4
    for name in shared:
        torch.testing.assert_close(codes[name], expected[name].mean(space))


@pytest.mark.parametrize(
    ("architecture", "layout"), [("resnet10t", "NCHW"), ("test_mambaout", "NHWC"), ("test_vit", "NLC")]
)
def test_poolings_of_a_map_are_what_their_names_say(architecture: str, layout: str) -> None:
    network: Any = timm.create_model(architecture, global_pool="avg" if layout == "NLC" else None).eval()
    tap = find_taps(network, (3, 160, 160))[1]
    assert tap.layout == layout
    batch = small(160)
    outputs: list[Tensor] = []
    handle = network.get_submodule(tap.module).register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    with torch.inference_mode():
        codes = {pooling: activations(network, batch, [tap], pooling)[tap.name] for pooling in get_args(Pooling)}
        network(batch)
    handle.remove()
    last = outputs[-1][:, slice(*tap.tokens)] if layout == "NLC" else outputs[-1]
    positions = last.flatten(2) if layout == "NCHW" else last.flatten(1, -2).transpose(1, 2)  # (n, C, positions)
    torch.testing.assert_close(codes["avg"], positions.mean(2))
    assert torch.equal(codes["max"], positions.max(2).values)
    assert torch.equal(codes["avg+max"], torch.cat([codes["avg"], codes["max"]], 1))
    assert torch.equal(codes["flatten"], positions.flatten(1))
    for pooling, values in codes.items():
        assert values.is_contiguous()
        assert codes_width(tap, pooling) in (None, values.shape[1])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_the_network_pools_itself_stays(pooling: Pooling, mobilenet: Backbone) -> None:
    pool = read_taps(mobilenet, small(64), ["pool", "blocks.6"], pooling)["pool"]
    assert torch.equal(pool, read_taps(mobilenet, small(64), ["pool"])["pool"])
    assert codes_width(mobilenet.tap("pool"), pooling) == 1280


@pytest.mark.parametrize(("pool", "token"), [("token", True), ("avg", False)])
def test_tokens_are_pooled_by_the_models_own_rule(pool: str, token: bool) -> None:
    network: Any = timm.create_model("test_vit", global_pool=pool).eval()
    taps = find_taps(network, (3, 160, 160))
    batch = small(160)
    with torch.inference_mode():
        blocks = network.forward_intermediates(
            batch, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
        codes = activations(network, batch, taps)
    for number, (patches, prefix) in enumerate(blocks):
        torch.testing.assert_close(codes[f"blocks.{number}"], prefix[:, 0] if token else patches.mean(1))


def test_class_tokens_that_come_late_are_not_taken_for_patches() -> None:
    taps = find_taps(timm.create_model("convit_tiny").eval(), (3, 224, 224))
    assert [tap.tokens for tap in taps[:-1]] == [(0, None)] * 10 + [(0, 1)] * 2


def test_the_pass_stops_after_the_deepest_tap(mobilenet: Backbone) -> None:
    ran: list[int] = []
    handles = [
        mobilenet.module.get_submodule(f"blocks.{i}").register_forward_hook(lambda *_, i=i: ran.append(i))
        for i in range(7)
    ]
    codes = read_taps(mobilenet, small(64), ["blocks.3", "blocks.1"])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 2, 3]
    assert list(codes) == ["blocks.3", "blocks.1"]
    everything = read_taps(mobilenet, small(64), [tap.name for tap in mobilenet.taps])
    assert torch.equal(codes["blocks.3"], everything["blocks.3"])


def test_a_pass_leaves_no_trace(mobilenet: Backbone) -> None:
    module = mobilenet.module
    module.train()
    module.get_submodule("blocks.0").eval()
    modes = {name: part.training for name, part in module.named_modules()}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(RuntimeError, match="channels"):
        read_taps(mobilenet, torch.zeros(1, 5, 64, 64), ["blocks.2"])
    codes = read_taps(mobilenet, small(64), ["blocks.2", "pool"])
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert not any(part._forward_hooks for part in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(not tensor.requires_grad and tensor.dtype == torch.float32 for tensor in codes.values())
    module.eval()


def test_activations_carry_gradients(mobilenet: Backbone) -> None:
    codes = activations(mobilenet.module, small(64), [mobilenet.tap("blocks.0")])
    codes["blocks.0"].sum().backward()  # type: ignore[no-untyped-call]
    assert mobilenet.module.get_parameter("conv_stem.weight").grad is not None
    mobilenet.module.zero_grad()


def test_an_unknown_tap_is_explained(mobilenet: Backbone) -> None:
    with pytest.raises(UsageError, match=r"no tap 'block.4'. Did you mean 'blocks.4'"):
        read_taps(mobilenet, small(64), ["block.4"])


class Doubling(nn.Module):
    """Meets the interface, has a constant that is neither parameter nor buffer, and changes its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)])
        self.constant = torch.ones(4, 1, 1)

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks[1](self.blocks[0](x)) + self.constant  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.mean((2, 3))


def test_in_place_layers_and_constants_do_no_harm() -> None:
    network = Doubling().eval()
    taps = find_taps(network, (3, 8, 8))
    assert [(tap.name, tap.channels) for tap in taps] == [("blocks.0", 4), ("blocks.1", 4), ("pool", 4)]
    batch = small(8)
    with torch.inference_mode():
        codes = activations(network, batch, taps)
        torch.testing.assert_close(codes["blocks.0"], network.blocks[0](batch).mean((2, 3)))
