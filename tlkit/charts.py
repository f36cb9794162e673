"""Pictures of many networks: errors over the years, and accuracy against operations and parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import cos, pi, sin
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from tlkit.backbones import Record

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"


@dataclass(frozen=True)
class Winner:
    """An entry of the ImageNet challenge: year, name, top-5 error on the test set in percent."""

    year: int
    name: str
    top5_error: float


# As the papers give them; where they disagree, what the organisers and the papers' abstracts say.
ILSVRC = (
    Winner(2011, "before 2012", 26.2),
    Winner(2012, "AlexNet", 15.3),
    Winner(2013, "ZFNet", 14.8),
    Winner(2014, "VGG", 7.3),
    Winner(2014, "GoogLeNet", 6.7),
    Winner(2015, "ResNet", 3.57),
    Winner(2016, "fusion (Shao et al.)", 2.99),
    Winner(2017, "SENet", 2.25),
)
HUMAN = 5.0  # about; Russakovsky et al. 2015 measured 5.1


def timeline() -> Figure:
    """Draw the top-5 errors of the ImageNet challenge over the years, and that of a trained human."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    best = {winner.year: winner.top5_error for winner in ILSVRC}
    axes.plot(list(best), list(best.values()), color=_BLUE, linewidth=1.2, alpha=0.5, zorder=1)
    axes.scatter([w.year for w in ILSVRC], [w.top5_error for w in ILSVRC], color=_BLUE, s=40, zorder=2)
    axes.axhline(HUMAN, color=_ORANGE, linestyle="--", linewidth=1.2)
    axes.set(xlabel="year", ylabel="top-5 error, %", xlim=(2010.4, 2018.0), ylim=(0, 30))
    axes.set_xticks(range(2011, 2018))
    axes.set_title("ImageNet challenge: top-5 error on the test set (published)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.text(2010.5, HUMAN + 0.3, f"a trained human: about {HUMAN:g}", color=_ORANGE, fontsize=9, va="bottom")
    points = np.array([(w.year, w.top5_error) for w in ILSVRC])
    x = np.linspace(2011, 2018, 300)
    lines = np.concatenate([np.column_stack([x, np.interp(x, [*best], [*best.values()])]), np.column_stack([x, 0 * x + HUMAN])])
    label(axes, points, [f"{w.name} {w.top5_error:g}" for w in ILSVRC], np.full(len(points), 4.0), avoid=lines)
    return figure


def bubbles(records: Sequence[tuple[str, Record]]) -> Figure:
    """Draw published accuracy against operations, parameters as area (Canziani et al. 2017, figure 2).

    Args:
        records: name and record; those without a published top-1 accuracy are counted below the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawn = [(name, record, record.reference.top1) for name, record in records if record.reference.top1 is not None]
    figure = Figure(figsize=(11.0, 7.5), layout="constrained")
    axes = figure.add_subplot()
    x = np.array([(record.reference.macs or record.macs) / 1e9 for _, record, _ in drawn])
    y = np.array([accuracy for _, _, accuracy in drawn], dtype=float)
    area = np.array([_area(record.reference.params or record.params) for _, record, _ in drawn])
    years = np.array([record.reference.year for _, record, _ in drawn])
    if drawn:
        dots = axes.scatter(x, y, s=area, c=years, cmap="viridis", alpha=0.55, edgecolors=_GREY, linewidths=0.6)
        bar = figure.colorbar(dots, ax=axes, label="year of the paper", fraction=0.03, pad=0.01)
        bar.set_ticks(range(years.min(), years.max() + 1))
        axes.set_xlim(x.min() / 1.8, x.max() * 2.2)
        axes.set_ylim(y.min() - 3, y.max() + 3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="multiply-adds of one image, thousand millions", ylabel="top-1 accuracy on ImageNet, %")
    axes.set_title("Accuracy, operations, parameters, as published (after Canziani et al. 2017)", fontsize=11)
    axes.grid(alpha=0.3)
    left = len(records) - len(drawn)
    without = f"; {left} networks without a published top-1 accuracy are left out" if left else ""
    note = f"{len(drawn)} networks; how each was measured, one crop or ten, is the paper's choice{without}"
    figure.supxlabel(note, fontsize=8, color=_GREY)
    _area_legend(axes)
    label(axes, np.column_stack([x, y]) if drawn else np.empty((0, 2)), [name for name, _, _ in drawn], np.sqrt(area) / 2)
    return figure


def _area(params: float) -> float:
    """Area of a bubble in square points."""
    return 8 * params / 1e6 + 12


def _area_legend(axes: Axes) -> None:
    sizes = (1e6, 10e6, 50e6, 150e6)
    handles = [axes.scatter([], [], s=_area(n), color="#BBBBBB", edgecolors=_GREY, label=f"{n / 1e6:g} M") for n in sizes]
    axes.legend(
        handles=handles, title="parameters", loc="lower right", labelspacing=2.2, borderpad=1.8, handletextpad=2.2, fontsize=8
    )


def label(
    axes: Axes,
    points: NDArray[np.float64],
    names: Sequence[str],
    radii: NDArray[np.float64],
    avoid: NDArray[np.float64] | None = None,
) -> None:
    """Write names beside points, none over another, a point's centre or the border; a line leads to distant ones.

    Args:
        axes: of a figure that is otherwise complete: what it shows must not move any more.
        points: (n, 2) in the coordinates of the data.
        names: (n,)
        radii: (n,) of the points, in points of 1/72 inch.
        avoid: (m, 2) where no name should stand, either.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")  # what was laid out stays
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    scale = figure.dpi / 72
    inside = axes.get_window_extent(renderer)
    centres = axes.transData.transform(points) if len(points) else points
    taken = [text.get_window_extent(renderer).extents for text in axes.texts]
    legend = axes.get_legend()
    taken += [legend.get_window_extent(renderer).extents] if legend is not None else []
    middle = 3 * scale
    taken += [np.array([x - middle, y - middle, x + middle, y + middle]) for x, y in centres]
    if avoid is not None:
        taken += [np.array([x - 1, y - 1, x + 1, y + 1]) for x, y in axes.transData.transform(avoid)]
    for row in np.argsort(-centres[:, 1], kind="stable") if len(points) else ():
        text = axes.annotate(
            names[row], points[row], xytext=(0, 0), textcoords="offset points", fontsize=8, ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}, parse_math=False,
        )  # fmt: skip
        size = text.get_window_extent(renderer)
        half = np.array([size.width / 2 + 2, size.height / 2 + 1])
        for offset in _around(radii[row] * scale, half):
            box = np.concatenate([centres[row] + offset - half, centres[row] + offset + half])
            fits = box[0] >= inside.x0 and box[1] >= inside.y0 and box[2] <= inside.x1 and box[3] <= inside.y1
            if fits and not any(_overlap(box, other) for other in taken):
                break
        text.set_position(tuple(offset / scale))
        if np.hypot(*(np.abs(offset) - half).clip(0)) < radii[row] * scale + 4 and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)
        taken.append(box)


def _around(radius: float, half: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield where a label may stand, seen from its point: right, above, below, left, and farther and farther away."""
    for ring in count():
        if ring > 60:
            return
        away = radius + 2 + 6 * ring
        for step in range(16):
            angle = pi / 8 * (step // 2 + step % 2) * (1 if step % 2 else -1)
            way = np.array([cos(angle), sin(angle)])
            yield way * away + half * np.clip(1.5 * way, -1, 1)


def _overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> bool:
    return bool(one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3])
