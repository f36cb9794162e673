"""A picture of a network: its maps shrink and its channels grow from left to right, one box a layer or module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log2, prod
from typing import TYPE_CHECKING

from tlkit.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tlkit.backbones.summary import Layer, Summary

_MOST = 28  # boxes side by side
# Okabe and Ito (2008), lightened.
_COLOURS = {
    "image": "#DDDDDD",
    "convolution": "#7FB8DA",
    "pooling": "#EAAE7F",
    "fully connected": "#B5B5B5",
    "several layers": "#80CEB9",
    "attention": "#E3B8D1",
    "other": "#F0E68C",
}
_EDGE = "#333333"
_SIZE = 8.5  # points of a label
_LETTER = 0.62 * _SIZE / 72  # inches that a letter of it takes, at most
_TALLEST, _DEPTH = 2.2, 0.32  # inches of the highest box; inches to the back for one inch of height
_LONGEST = 34  # letters of a label


@dataclass(frozen=True)
class Block:
    """Layers that are drawn as one box; `output` is that of the last."""

    name: str
    kind: str
    what: str
    output: tuple[int, ...]


def network(measured: Summary) -> Figure:
    """Draw a network: the height of a box goes with the root of the side of the map, its width with the channels."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    drawn = blocks(measured.layers)
    side = max(_side(block.output) for block in drawn)
    sizes = [_box(block.output, side) for block in drawn]
    steps = [max(width + _DEPTH * height + 0.12, 0.5) for width, height in sizes]
    letters = max(len(line) for block in drawn for line in _lines(block))
    margin, below = 0.35, 0.15 + _LETTER * letters
    above = 0.75  # title and legend
    wide = max(sum(steps) + 2 * margin, 7.5)
    high = below + _TALLEST * (1 + _DEPTH) + above + 0.4
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(-below - 0.35, high - below - 0.35))
    axes.axis("off")
    x = (wide - sum(steps)) / 2
    for block, (width, height), step in zip(drawn, sizes, steps, strict=True):
        _draw(axes, x, width, height, _COLOURS[block.kind])
        axes.text(
            x + (width + _DEPTH * height) / 2, -0.1, "\n".join(_lines(block)), rotation=90, ha="center", va="top",
            fontsize=_SIZE, linespacing=1.25, multialignment="right", parse_math=False,
        )  # fmt: skip
        x += step
    top = high - below - 0.35
    title = f"{measured.backbone}: {short(measured.params)} parameters, {short(measured.macs)} multiply-adds"
    axes.text(wide / 2, top - 0.12, title, ha="center", va="top", fontsize=12, parse_math=False)
    used = dict.fromkeys(block.kind for block in drawn)
    patches = [Patch(facecolor=_COLOURS[kind], edgecolor=_EDGE, label=kind) for kind in used]
    figure.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.36 / high), ncols=7, fontsize=9, frameon=False
    )
    note = "height of a box: root of the side of its map; width: logarithm of its channels"
    axes.text(wide / 2, -below - 0.25, note, ha="center", va="bottom", fontsize=8, color="#666666")
    return figure


def blocks(layers: Sequence[Layer]) -> list[Block]:
    """Group layers by module, as deep as boxes can stand in one row, each fed by the one before it.

    A chain of a few layers is drawn layer by layer, a deep network, or one with branches, module by module or stage
    by stage.
    """
    deepest = max(layer.name.count(".") + 1 for layer in layers)
    keys: list[list[str]] = [[_prefix(layer.name, depth) for layer in layers] for depth in range(deepest, 0, -1)]
    keys.append([layer.stages[0] if layer.stages else "" for layer in layers])
    ways = [(names, _runs(names)) for names in keys]
    fitting = [way for way in ways if len(way[1]) <= _MOST] or ways[-1:]
    names, runs = next((way for way in fitting if _is_chain(layers, way[1])), fitting[0])
    return _joined([_block([layers[row] for row in run], names[run[0]]) for run in runs])


def _runs(names: Sequence[str]) -> list[list[int]]:
    """Group neighbouring rows of the same name."""
    return [[row for row, _ in group] for _, group in groupby(enumerate(names), key=lambda pair: pair[1])]


def _is_chain(layers: Sequence[Layer], runs: Sequence[Sequence[int]]) -> bool:
    """Tell whether every group takes from the one before it what that puts out last, and nothing else."""
    fed = [{source for row in run for source in layers[row].inputs} for run in runs[1:]]
    return all(sources & set(before) == {before[-1]} for before, sources in zip(runs, fed, strict=False))


def _joined(found: list[Block]) -> list[Block]:
    """Join neighbours with equal maps, then any, until there are few enough."""
    while len(found) > _MOST:
        rows = range(1, len(found))
        equal = [row for row in rows if found[row].output == found[row - 1].output] or list(rows)
        row = min(equal)
        first, last = found[row - 1].name.partition(" to ")[0], found[row].name.rpartition(" to ")[2]
        found[row - 1 : row + 1] = [Block(f"{first} to {last}", "several layers", "", found[row].output)]
    return found


def _prefix(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def _block(group: Sequence[Layer], name: str) -> Block:
    kinds = {_colour(layer) for layer in group}
    last = group[-1]
    if len(group) == 1:
        window = f" {'x'.join(map(str, last.kernel))}" if last.kernel else ""
        stride = f"/{last.stride[0]}" if last.stride and last.stride[0] > 1 else ""
        return Block(name, kinds.pop(), f"{last.kind.partition(' + ')[0]}{window}{stride}", last.output)
    kind = "attention" if "attention" in kinds else kinds.pop() if len(kinds) == 1 else "several layers"
    return Block(name, kind, f"{len(group)} layers", last.output)


def _colour(layer: Layer) -> str:
    kind = layer.kind.partition(" + ")[0]
    if kind == "input":
        return "image"
    if "pool" in kind:
        return "pooling"
    if "conv" in kind:
        return "convolution" if prod(layer.output) > max(layer.output) else "fully connected"
    return {"fc": "fully connected", "attention": "attention", "matmul": "attention"}.get(kind, "other")


def _side(output: tuple[int, ...]) -> float:
    """The side of a map, or of the square that tokens would make."""
    positions = prod(output[:-1])
    return float(positions**0.5)


def _box(output: tuple[int, ...], largest: float) -> tuple[float, float]:
    """Width and height in inches."""
    return 0.05 * log2(output[-1] + 1), max(_TALLEST * (_side(output) / largest) ** 0.5, 0.1)


def _lines(block: Block) -> list[str]:
    name = block.name if len(block.name) <= _LONGEST else f"…{block.name[1 - _LONGEST :]}"
    return (
        [name, f"{block.what}, {'x'.join(map(str, block.output))}".removeprefix(", ")]
        if name
        else [f"{block.what}, {'x'.join(map(str, block.output))}"]
    )


def _draw(axes: Axes, x: float, width: float, height: float, colour: str) -> None:
    """Draw a box that stands on the line y = 0; its face is what the next layer sees."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Polygon

    back = _DEPTH * height
    front = [(x, 0), (x + width, 0), (x + width, height), (x, height)]
    top = [(x, height), (x + width, height), (x + width + back, height + back), (x + back, height + back)]
    right = [(x + width, 0), (x + width + back, back), (x + width + back, height + back), (x + width, height)]
    for corners, shade in ((front, 1.0), (top, 1.1), (right, 0.85)):
        face = tuple(min(part * shade, 1.0) for part in to_rgb(colour))
        axes.add_patch(Polygon(corners, closed=True, facecolor=face, edgecolor=_EDGE, linewidth=0.7))
