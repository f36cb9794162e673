"""NASNet-A (Zoph et al. 2017, "Learning Transferable Architectures for Scalable Image Recognition"), of any size.

The cells are timm's, whose own network has as many of them as the largest one.
"""

from __future__ import annotations

from functools import partial

from timm.layers.conv_bn_act import ConvNormAct
from timm.models.nasnet import CellStem0, CellStem1, FirstCell, NormalCell, ReductionCell0, ReductionCell1
from torch import Tensor, nn

from .interface import Network


class NASNet(Network):
    """NASNet-A (N @ P) of section 4: three times N normal cells, with a reduction cell between (figure 2, right).

    Args:
        cells: N.
        num_features: P, maps of the last cell.
        stem: Maps of the first convolution.
        num_classes: Outputs of the classifier.
    """

    classifier_path = "last_linear"

    def __init__(self, cells: int, num_features: int, stem: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, num_features
        f = num_features // 24  # filters of the first normal cells, each of which stacks six results
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        self.conv0 = ConvNormAct(3, stem, 3, stride=2, padding=0, norm_layer=norm, apply_act=False)
        self.cell_stem_0 = CellStem0(stem, f // 4, pad_type="same")
        self.cell_stem_1 = CellStem1(stem, f // 2, pad_type="same")
        reductions = {1: ReductionCell0, 2: ReductionCell1}
        before, now = f, 2 * f  # maps of the last two cells
        for block in range(3):
            width = f * 2**block
            if block:
                reduce = reductions[block](before, width, now, width, pad_type="same")
                self.add_module(f"reduction_cell_{block - 1}", reduce)
                now = 4 * width
            # The first cell halves the older of its two inputs, which the reduction has left behind.
            first = FirstCell(before, width // 2, now, width, pad_type="same")
            self.add_module(f"cell_{block * cells}", first)
            before, now = now, 6 * width
            for number in range(1, cells):
                cell = NormalCell(before, width, now, width, pad_type="same")
                self.add_module(f"cell_{block * cells + number}", cell)
                before = now
        self.act = nn.ReLU(inplace=True)
        self.last_linear = nn.Linear(num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn (n, 3, H, W) into (n, num_features, H / 32, W / 32)."""
        stem = self.conv0(x)
        before = self.cell_stem_0(stem)
        now = self.cell_stem_1(stem, before)
        for name, cell in self.named_children():
            if name.startswith("reduction"):
                now = cell(now, before)
            elif name.startswith("cell") and not name.startswith("cell_stem"):
                before, now = now, cell(now, before)
        return self.act(now)  # type: ignore[no-any-return]
