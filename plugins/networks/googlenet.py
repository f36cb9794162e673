"""GoogLeNet (Szegedy et al. 2014, "Going Deeper with Convolutions"): as its paper has it, and as torchvision has it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .interface import Network

# Table 1, of each module: maps in, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
MODULES: Mapping[str, tuple[int, int, int, int, int, int, int]] = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}


class Branches(nn.Module):
    """Branches that run side by side on one map; their channels are stacked (section 4, figure 2)."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (n, C, H, W) into (n, sum of the branches' channels, H', W')."""
        return torch.cat([branch(x) for branch in self.children()], 1)


def convolution(channels: int, maps: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size, or divides it by its stride, and a ReLU."""
    conv = nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


def inception(channels: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> Branches:
    """Return an inception module with dimension reductions (figure 2 b)."""
    return Branches(
        branch1=convolution(channels, one, 1),
        branch3=nn.Sequential(convolution(channels, reduce3, 1), convolution(reduce3, three, 3)),
        branch5=nn.Sequential(convolution(channels, reduce5, 1), convolution(reduce5, five, 5)),
        branch_pool=nn.Sequential(nn.MaxPool2d(3, 1, padding=1), convolution(channels, pool, 1)),
    )


class GoogLeNet(Network):
    """22 layers with weights, for 224 pixels: table 1 and figure 3, with local response normalisation and no BatchNorm.

    The paper does not say how weights begin; these are He's (2015), for ReLUs, so that signals keep their size in
    a network this deep.
    """

    auxiliary_weight = 0.3  # section 5

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 1024
        self.conv1 = convolution(3, 64, 7, 2)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = nn.LocalResponseNorm(5)
        self.conv2 = nn.Sequential(OrderedDict(reduce=convolution(64, 64, 1), conv=convolution(64, 192, 3)))
        self.norm2 = nn.LocalResponseNorm(5)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, widths in MODULES.items():
            self.add_module(name, inception(*widths))
            if name in ("inception3b", "inception4e"):
                self.add_module(f"pool{name[-2]}", nn.MaxPool2d(3, 2, ceil_mode=True))
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(1024, num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) into (n, 1024, 7, 7)."""
        for name, part in self.named_children():
            if name == "dropout":
                break
            x = part(x)
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Take the mean of each map, and drop 40 % of these in training."""
        return self.dropout(x.mean((2, 3)))  # type: ignore[no-any-return]

    def auxiliary_classifiers(self, num_classes: int) -> dict[str, nn.Module]:
        """Return the classifiers that help while training, by the module whose output they see (section 5)."""
        return {"inception4a": _auxiliary(512, num_classes), "inception4d": _auxiliary(528, num_classes)}


def _auxiliary(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(5, 3),
            conv=convolution(channels, 128, 1),
            flatten=nn.Flatten(),
            fc1=nn.Linear(128 * 4 * 4, 1024),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout(0.7),
            fc2=nn.Linear(1024, num_classes),
        )
    )


class TorchvisionGoogLeNet(Network):
    """torchvision's GoogLeNet, with BatchNorm and 3x3 in place of 5x5 convolutions, behind timm's interface.

    The names in its state dict are torchvision's. The auxiliary classifiers of torchvision's file are left out, as
    torchvision does: they were never trained.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import googlenet

        self.num_classes, self.num_features = 1000, 1024
        for name, part in googlenet(weights=None, aux_logits=False, init_weights=True).named_children():
            self.add_module(name, part)
        self.register_load_state_dict_pre_hook(_without_auxiliary)  # type: ignore[no-untyped-call]

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn (n, 3, 224, 224) into (n, 1024, 7, 7)."""
        for name, part in self.named_children():
            if name == "avgpool":
                break
            x = part(x)
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Take the mean of each map, and drop 20 % of these in training."""
        return self.get_submodule("dropout")(x.mean((2, 3)))  # type: ignore[no-any-return]


def _without_auxiliary(_: nn.Module, tensors: dict[str, Any], *_rest: object) -> None:
    for name in [name for name in tensors if name.startswith(("aux1.", "aux2."))]:
        del tensors[name]
