"""Pictures of many networks: errors over the years, and accuracy against operations and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    lines = np.concatenate(
        [np.column_stack([x, np.interp(x, [*best], [*best.values()])]), np.column_stack([x, 0 * x + HUMAN])]
    )
    label(axes, points, [f"{w.name} {w.top5_error:g}" for w in ILSVRC], np.full(len(points), 4.0), avoid=lines)
    return figure


def bubbles(records: Sequence[tuple[str, Record]]) -> Figure:
    """Draw published accuracy against operations, parameters as area (Canziani et al. 2017, figure 2).

    Args:
        records: name and record; those without a published top-1 accuracy are counted below the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = [(name, record) for name, record in records if record.reference.top1 is not None]
    together: dict[tuple[float, ...], list[str]] = {}  # forms of one network have one claim
    for name, record in known:
        claim = record.reference
        figures = (claim.macs or record.macs) / 1e9, claim.top1 or 0.0, claim.params or record.params, claim.year
        near = next((key for key in together if key[:2] == figures[:2] and key[3] == figures[3]), figures)
        together.setdefault(near, []).append(name)
    x, y, params, years = np.array(list(together), dtype=float).reshape(-1, 4).T
    area = _area(params)
    figure = Figure(figsize=(12.5, 9.0), layout="constrained")
    axes = figure.add_subplot()
    if known:
        dots = axes.scatter(x, y, s=area, c=years, cmap="viridis", alpha=0.55, edgecolors=_GREY, linewidths=0.6)
        bar = figure.colorbar(dots, ax=axes, label="year of the paper", fraction=0.03, pad=0.01)
        bar.set_ticks(range(int(years.min()), int(years.max()) + 1))
        axes.set_xlim(x.min() / 1.8, x.max() * 2.2)
        axes.set_ylim(y.min() - 3, y.max() + 3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="multiply-adds of one image, thousand millions", ylabel="top-1 accuracy on ImageNet, %")
    axes.set_title("Accuracy, operations, parameters, as published (after Canziani et al. 2017)", fontsize=11)
    axes.grid(alpha=0.3)
    left = len(records) - len(known)
    without = f"; {left} networks without a published top-1 accuracy are left out" if left else ""
    note = f"{len(known)} networks; how each was measured, one crop or ten, is the paper's choice{without}"
    figure.supxlabel(note, fontsize=8, color=_GREY)
    _area_legend(axes)
    label(axes, np.column_stack([x, y]), [", ".join(names) for names in together.values()], np.sqrt(area) / 2)
    return figure


def _area(params: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of bubbles in square points, as matplotlib takes it: that of the square around them."""
    return 8 * params / 1e6 + 12


def _area_legend(axes: Axes) -> None:
    sizes = np.array([1e6, 10e6, 50e6, 150e6])
    handles = [
        axes.scatter([], [], s=area, color="#BBBBBB", edgecolors=_GREY, label=f"{params / 1e6:g} M")
        for area, params in zip(_area(sizes), sizes, strict=True)
    ]
    axes.legend(
        handles=handles,
        title="parameters",
        loc="lower right",
        labelspacing=2.6,
        borderpad=2.2,
        handletextpad=2.2,
        fontsize=8,
    )


def label(
    axes: Axes,
    points: NDArray[np.float64],
    names: Sequence[str],
    radii: NDArray[np.float64],
    avoid: NDArray[np.float64] | None = None,
) -> None:
    """Write names beside points: none over another or the border, and where there is room none over a point or a line.

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
    frame = np.array(axes.get_window_extent(renderer).extents)
    centres, reach = axes.transData.transform(points), radii * scale
    legend = axes.get_legend()
    artists = (*axes.texts, *([legend] if legend else []))
    written = [np.array(artist.get_window_extent(renderer).extents) for artist in artists]
    bubbles = np.column_stack([centres - 0.75 * reach[:, None], centres + 0.75 * reach[:, None]])
    lines = [np.empty((0, 4)) if avoid is None else _dots(axes.transData.transform(avoid))]
    for row in np.argsort(-centres[:, 1], kind="stable"):
        text = axes.annotate(
            names[row], points[row], xytext=(0, 0), textcoords="offset points", fontsize=8, ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        text.set_parse_math(False)
        size = text.get_window_extent(renderer)
        half = np.array([size.width / 2 + 2, size.height / 2 + 1])
        offset, line = _place(
            centres[row], reach[row], half, frame, np.array(written).reshape(-1, 4), bubbles, np.concatenate(lines)
        )
        text.set_position(tuple(offset / scale))
        if not len(line) and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)
        written.append(np.concatenate([centres[row] + offset - half, centres[row] + offset + half]))
        lines.append(line)


def _place(
    centre: NDArray[np.float64],
    reach: float,
    half: NDArray[np.float64],
    frame: NDArray[np.float64],
    written: NDArray[np.float64],
    bubbles: NDArray[np.float64],
    lines: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Choose where a label stands, seen from its point, and return the boxes that its line covers, if it needs one.

    Nearer is better; a bubble or a line that is covered counts as much as some distance, a line through a name as more.
    """
    angles = np.array([0, 1, -1, 7, -7, 2, -2, 6, -6, 3, -3, 5, -5, 4, -4, 8]) * np.pi / 8
    ways = np.column_stack([np.cos(angles), np.sin(angles)])
    best, cost, line = np.zeros(2), np.inf, np.empty((0, 4))
    for away in reach + 2 + 6 * np.arange(60):
        if away - reach > cost:
            break
        for turn, way in enumerate(ways):
            offset = way * away + half * np.clip(1.5 * way, -1, 1)
            box = np.concatenate([centre + offset - half, centre + offset + half])
            if (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any() or _overlaps(box, written).any():
                continue
            far = np.hypot(*(np.abs(offset) - half).clip(0)) - reach
            found = _line(centre, offset, half) if far > 6 else np.empty((0, 4))
            through = sum(_overlaps(name, found).any() for name in written)
            covered = 22 * _overlaps(box, bubbles).sum() + min(3 * _overlaps(box, lines).sum(), 15)
            total = away - reach + 0.3 * turn + covered + 40 * through
            if total < cost:
                best, cost, line = offset, total, found
    return best, line


def _line(centre: NDArray[np.float64], offset: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cover the line from a point to its label with small boxes, (n, 4)."""
    end = 1 - min(half / np.maximum(np.abs(offset), 1e-9))
    return _dots(centre + np.linspace(0, max(end, 0.0), 30)[:, None] * offset)


def _dots(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([places - 1, places + 1])


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which of some boxes (n, 4) a box (4,) overlaps."""
    apart = (box[:2] >= others[:, 2:]) | (others[:, :2] >= box[2:])
    return ~np.asarray(apart.any(axis=1))
