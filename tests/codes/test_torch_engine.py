"""What the torch engine does to a network: folding, compiling, and full precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tlkit import registry
from tlkit.backbones import Backbone, from_timm
from tlkit.codes.engines import make_engine
from tlkit.codes.engines.folding import fold_batch_norms
from tlkit.codes.engines.frozen import Frozen, gap, noise
from tlkit.codes.engines.torch import compiled, exact

MakeSmall = Callable[..., Backbone]


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(
    ("architecture", "left"), [("resnet10t", 0), ("test_efficientnet", 0), ("mobilenetv2_100", 0), ("resnetv2_18", 9)]
)
def test_batch_norms_are_folded_into_the_convolutions_before_them(architecture: str, left: int) -> None:
    torch.manual_seed(0)
    backbone = from_timm(architecture, weights=None)
    for part in backbone.module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
    frozen = Frozen(backbone.module.eval(), backbone.preprocess, backbone.taps, "avg")
    pixels = noise(backbone.preprocess, 2)
    before = frozen.codes(pixels)
    assert norms(frozen) > left
    fold_batch_norms(frozen, torch.from_numpy(pixels))
    assert norms(frozen) == left
    assert gap(frozen.codes(pixels), before) < 1e-5


class UsedTwice(nn.Module):
    """Its convolution's output is used beside its BatchNorm as well, so that folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_var = torch.full((4,), 9.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return x + self.norm(x)  # type: ignore[no-any-return]


def test_folding_that_would_change_the_codes_is_not_done(small_backbone: MakeSmall) -> None:
    backbone = small_backbone(UsedTwice())
    frozen = Frozen(backbone.module, backbone.preprocess, [backbone.tap("pool")], "avg")
    pixels = noise(backbone.preprocess, 3)
    codes = make_engine(backbone, ["pool"], engine="torch")(pixels)["pool"]
    assert gap([codes], frozen.codes(pixels)) < 1e-6
    fold_batch_norms(frozen, torch.from_numpy(pixels))
    assert gap(frozen.codes(pixels), [codes]) > 0.1, "the example shows nothing"


@pytest.mark.full
def test_a_compiled_network_agrees_for_any_number_of_images() -> None:
    tiny: Backbone = registry.build("backbone", {"name": "tiny"})
    frozen = Frozen(tiny.module.eval(), tiny.preprocess, tiny.taps, "avg+max")
    fast = compiled(frozen, 4, "cpu", "float32")
    assert fast is not frozen
    for n in (1, 3, 4):
        pixels = noise(tiny.preprocess, n)
        with exact("cpu", "float32"):
            codes = [rows.numpy() for rows in fast(torch.from_numpy(pixels))]
        assert gap(codes, frozen.codes(pixels)) < 1e-5


def test_float32_is_exact_whatever_the_caller_has_set() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with exact("cpu", "float32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
