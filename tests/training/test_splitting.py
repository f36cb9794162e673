"""A network that begins behind its frozen part computes what the whole does, or it is not begun there."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tlkit.backbones import Backbone, activations
from tlkit.training.network import Network
from tlkit.training.splitting import NoSplit, find_split

FAMILIES: list[tuple[str, int, dict[str, Any], str]] = [
    ("mobilenetv2_035", 32, {"drop_path_rate": 0.3, "drop_rate": 0.3}, "blocks.5"),
    ("resnet10t", 32, {"drop_path_rate": 0.3}, "layer3"),
    ("densenet121", 32, {"drop_rate": 0.3}, "features.denseblock4"),
    ("convnext_atto", 32, {"drop_path_rate": 0.3}, "head.global_pool"),
    ("test_vit", 32, {"drop_path_rate": 0.3, "pos_drop_rate": 0.3, "img_size": 32}, "blocks.4"),
]


Build = Callable[..., Backbone]


@pytest.mark.parametrize(("name", "side", "arguments", "boundary"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_families_begin_where_training_does(
    name: str, side: int, arguments: dict[str, Any], boundary: str, wrapped: Build
) -> None:
    torch.manual_seed(0)
    network = Network(wrapped(timm.create_model(name, num_classes=7, **arguments), side), 3)
    network.freeze(len(network.stages) - 1)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    split = find_split(network)
    assert split.tap.module == boundary
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    images = torch.randn(3, 3, side, side)
    network.eval()
    with torch.no_grad():
        whole = network(images)
        flat = activations(network.module, images, [split.tap], "flatten")[boundary]
        assert flat.shape == (3, split.width)
        ran = list[str]()
        for path, part in network.module.named_modules():
            part.register_forward_hook(lambda *_, path=path: ran.append(path))
        network.split = split
        begun = network(flat.reshape(-1, *split.shape))
    torch.testing.assert_close(begun, whole, rtol=1e-4, atol=1e-5)
    inner = [path for path in ran if path not in {path for path, _ in split.skipped}]
    skipped = tuple(f"{path}." for path, _ in split.skipped)
    assert inner
    assert not any(path.startswith(skipped) for path in inner)
    network.split = None
    with torch.no_grad():
        torch.testing.assert_close(network(images), whole)  # nothing is left of it


class Skips(nn.Module):
    """Three stages in a row; the last one also sees what the first one puts out, or what it gets."""

    def __init__(self, back_to: str) -> None:
        super().__init__()
        self.back_to, self.num_classes, self.num_features = back_to, 2, 4
        self.early, self.middle = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.late, self.beside = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4 if back_to == "early" else 3, 4, 1)
        self.classifier = nn.Linear(4, 2)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"early": "^early", "middle": "^middle", "late": "^late|^beside"}

    def forward_features(self, x: Tensor) -> Tensor:
        early = self.early(x).relu()
        late: Tensor = self.late(self.middle(early).relu()) + self.beside(early if self.back_to == "early" else x)
        return late

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        codes = x.mean((2, 3))
        return codes if pre_logits else self.classifier(codes)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        raise NotImplementedError


def test_a_skip_connection_moves_the_boundary_back(wrapped: Build) -> None:
    network = Network(wrapped(Skips("early"), 8), 3)
    network.freeze(2)
    assert find_split(network).tap.module == "early"


def test_a_network_that_needs_more_cannot_be_begun(wrapped: Build) -> None:
    network = Network(wrapped(Skips("images"), 8), 3)
    network.freeze(2)
    with pytest.raises(NoSplit, match=r"late.* need more than the output of one part"):
        find_split(network)
    assert network.split is None


def test_what_is_trained_before_the_boundary_too_cannot_be_begun_there(wrapped: Build) -> None:
    """Outputs would be right, gradients would not: a weight that the first and the last stage share."""
    module = Skips("early")
    module.middle = module.late
    network = Network(wrapped(module, 8), 3)
    network.freeze(1)
    assert find_split(network).tap.module == "early"
