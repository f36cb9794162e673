"""FractalNet (Larsson et al. 2017)."""

from collections.abc import Sequence

import torch
from tlkit_plugins.networks.interface import Network
from tlkit_plugins.networks.leaving_out import without
from torch import Tensor, nn
from torch.nn import functional

GLOBAL = 0.5  # share of the mini-batches whose drop-path is global (section 3)


class FractalNet(Network):  # type: ignore[misc]
    """Fractals one after the other, each followed by max-pooling 2x2, and a fully connected layer.

    In training half of the mini-batches take a single column through the whole network, drawn for each of them (global
    drop-path), and the others lose inputs of joins (local drop-path, see `Fractal`); otherwise all of it runs, or one
    column if it was chosen.

    Args:
        maps: Of each fractal.
        columns: C, of each fractal.
        column: The only one to run outside training, 0 for the shallowest; None for all of them.
        drop: Probability that a join loses an input in local drop-path.
        num_classes: Outputs.
    """

    def __init__(
        self, maps: Sequence[int], columns: int, column: int | None = None, drop: float = 0.15, num_classes: int = 10
    ) -> None:
        super().__init__()
        self.num_features, self.num_classes = maps[-1], num_classes
        self.column = column
        self.stages = nn.ModuleList(
            Fractal(inputs, own, columns, drop) for inputs, own in zip((3, *maps[:-1]), maps, strict=True)
        )
        self.fc = nn.Linear(maps[-1], num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_uniform_(part.weight)  # section 4.1

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last maps, pooled."""
        drawn = self._drawn() if self.training else None
        for stage in self.stages:
            x = functional.max_pool2d(stage(x, drawn if stage.training else self.column), 2)
        return x

    def _drawn(self) -> int | None:
        """Draw a column for a global drop-path, or None for a local one."""
        if float(torch.rand((), device="cpu")) >= GLOBAL:
            return None
        return int(torch.randint(len(self.stages[0].columns), (), device="cpu"))  # type: ignore[arg-type]


class Fractal(nn.Module):
    """f_C: columns of 1, 2, 4, ... convolutions that meet wherever some of them end together (section 2).

    f_1(x) = conv(x); f_{C+1}(x) joins f_C(f_C(x)) and conv(x). A join is the mean of what meets; where the rule has
    joins within joins, there is one of all their inputs, as in figure 1. Nothing passes by a convolution.

    Args:
        inputs: Maps that come in.
        maps: Maps of every convolution, which BatchNorm and ReLU follow.
        columns: C.
        drop: Probability that a join loses an input in training, with a local drop-path.
    """

    def __init__(self, inputs: int, maps: int, columns: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.columns = nn.ModuleList(
            nn.ModuleList(Convolution(maps if number else inputs, maps) for number in range(2**column))
            for column in range(columns)
        )

    def forward(self, x: Tensor, column: int | None = None) -> Tensor:
        """Return the output of one column alone, or of all, in training with a local drop-path."""
        columns = len(self.columns)
        if column is not None:
            result, ran = self.alone(x, column)
        else:
            result, ran = self.along(x, local_paths(columns, self.drop) if self.training else joins(columns))
        return without(result, (layer for layer in self._layers() if layer not in ran)) if self.training else result

    def _layers(self) -> list[nn.Module]:
        return [part for part in self.modules() if isinstance(part, Convolution)]

    def alone(self, x: Tensor, column: int) -> tuple[Tensor, set[nn.Module]]:
        """Return what a column makes of (n, inputs, H, W) without the others, and its layers."""
        layers: list[nn.Module] = list(self.columns[column].children())
        for layer in layers:
            x = layer(x, alone=True)
        return x, set(layers)

    def along(self, x: Tensor, paths: Sequence[Sequence[int]]) -> tuple[Tensor, set[nn.Module]]:
        """Return the output if each join has some of its inputs, and which layers ran; what leads nowhere does not.

        Args:
            x: (n, inputs, H, W).
            paths: Columns that are kept in each row, some of those of `joins`.
        """
        rows = len(paths)
        ran: set[nn.Module] = set()
        joined = {0: x}

        def output(row: int) -> Tensor:
            if row not in joined:
                inputs = [convolved(column, row) for column in paths[row - 1]]
                joined[row] = sum(inputs[1:], start=inputs[0]) / len(inputs)
            return joined[row]

        def convolved(column: int, row: int) -> Tensor:
            step = rows >> column
            layer = self.columns[column].get_submodule(str(row // step - 1))
            ran.add(layer)
            result: Tensor = layer(output(row - step))
            return result

        return output(rows), ran


class Convolution(nn.Module):
    """A 3x3 convolution, BatchNorm and ReLU.

    What comes in has another spread where a column runs alone than where it is the mean of several. So there are
    running statistics for both; the paper, too, speaks of separate networks with weights in common (section 3).

    Args:
        inputs: Maps that come in.
        maps: Maps that go out.
    """

    def __init__(self, inputs: int, maps: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, maps, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(maps)
        self.norm_alone = nn.BatchNorm2d(maps, affine=False)

    def forward(self, x: Tensor, alone: bool = False) -> Tensor:
        """Return (n, maps, H, W)."""
        x = self.conv(x)
        if not alone:
            return functional.relu(self.norm(x), inplace=True)
        scale, shift = self.norm.weight[:, None, None], self.norm.bias[:, None, None]
        return functional.relu(self.norm_alone(x) * scale + shift, inplace=True)


def joins(columns: int) -> list[list[int]]:
    """Return the columns that meet at the end of each row; there are as many rows as the deepest has convolutions.

    >>> joins(3)
    [[2], [1, 2], [2], [0, 1, 2]]
    """
    rows = 2 ** (columns - 1)
    return [[column for column in range(columns) if row % (rows >> column) == 0] for row in range(1, rows + 1)]


def local_paths(columns: int, drop: float) -> list[list[int]]:
    """Return what is left of `joins` if each loses inputs with a probability, but never all (section 3, "Local")."""
    return [_survivors(meeting, drop) for meeting in joins(columns)]


def _survivors(inputs: list[int], drop: float) -> list[int]:
    kept = [one for one, chance in zip(inputs, torch.rand(len(inputs), device="cpu"), strict=True) if chance >= drop]
    return kept or [inputs[int(torch.randint(len(inputs), (), device="cpu"))]]
