"""Pictures of several runs: plain arrays in, matplotlib figures out, in the style of `tlkit.plots`.

Runs come with the best first; of very many only the first are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlkit import plots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

_BLUE, _ORANGE, _GREY = plots._BLUE, plots._ORANGE, plots._GREY
_MOST_LISTED, _MOST_NAMED = 40, 20
_LONGEST_NAME = 60
_LINE = 0.24  # inches of height that a name takes
_LEADER: dict[str, Any] = {
    "arrowstyle": "-",
    "relpos": (0, 0.5),
    "alpha": 0.5,
    "linewidth": 0.7,
    "shrinkA": 1,
    "shrinkB": 0,
}
_TIMES = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0, 360000.0)
_MORE_TIMES = (0.02, 0.05, 0.2, 0.5, 2.0, 5.0, 20.0, 30.0, 120.0, 300.0, 1200.0, 1800.0, 7200.0, 18000.0, 72000.0)
_LARGEST = 1200.0  # area of the largest bubble, in square points


def leaderboard(names: Sequence[str], accuracy: ArrayLike, intervals: ArrayLike, tied: Sequence[bool]) -> Figure:
    """Draw accuracies (n,) with their 95 % intervals (n, 2), the first on top.

    Args:
        names: Of n runs, the best first.
        accuracy: Of each.
        intervals: Low and high end of each.
        tied: Which of them the first cannot be told from; drawn in its colour.
    """
    shown = slice(_MOST_LISTED)
    drawn, fonts = plots.drawable(names[shown], _LONGEST_NAME)
    x, (low, high) = np.asarray(accuracy, dtype=float)[shown], np.asarray(intervals, dtype=float)[shown].T
    best = np.asarray(tied, dtype=bool)[shown]
    figure, axes = plots._figure(5.0 + _width(drawn), 1.5 + 1.15 * _LINE * len(x))
    y = np.arange(len(x))
    for rows, colour, label in ((best, _BLUE, "the best, and what cannot be told from it"), (~best, _GREY, "others")):
        ends = np.array([x - low, high - x])[:, rows]
        if rows.any():
            axes.errorbar(x[rows], y[rows], xerr=ends, color=colour, marker="o", capsize=3, ls="none", label=label)
    axes.set_yticks(y, drawn, fontfamily=fonts, fontsize=9)
    for name in axes.get_yticklabels():
        name.set_parse_math(False)
    axes.set_ylim(len(x) - 0.4, -0.6)
    left, right = axes.get_xlim()
    axes.set_xticks([tick for tick in axes.get_xticks() if left <= tick <= min(right, 1.0001)])
    axes.set(xlabel="accuracy on its held-out images, with 95 % interval")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def accuracy_by_operations(names: Sequence[str], accuracy: ArrayLike, macs: ArrayLike, params: ArrayLike) -> Figure:
    """Draw accuracies (n,) against multiply-adds of one image (n,), the area of a bubble being the parameters (n,)."""
    from matplotlib.ticker import EngFormatter, FixedLocator

    count = np.asarray(params, dtype=float)
    told = EngFormatter(places=1, sep=" ")
    labels = [f"  {told(number)}" for number in count]
    figure, axes = _named_points(names, accuracy, macs, labels, _LARGEST * count / count.max())
    span = np.ptp(np.log10(np.asarray(macs, dtype=float)))
    steps = (1,) if span > 2.5 else (1, 3) if span > 1.2 else (1, 2, 5)
    axes.xaxis.set_major_locator(FixedLocator([step * 10.0**power for power in range(16) for step in steps]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set(xlabel="multiply-adds of the backbone for one image")
    axes.set_title("area and number: parameters of the backbone", fontsize=11)
    return figure


def accuracy_by_time(names: Sequence[str], accuracy: ArrayLike, seconds: ArrayLike) -> Figure:
    """Draw accuracies (n,) against what codes, fitting and training took (n,), in seconds."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    spent = np.maximum(np.asarray(seconds, dtype=float), 0.01)  # there is no logarithm of nothing
    labels = [f"  {clock(number)}" for number in spent]
    figure, axes = _named_points(names, accuracy, spent, labels, np.full(len(spent), 60.0))
    wide = np.ptp(np.log10(spent)) > 1.2
    axes.xaxis.set_major_locator(FixedLocator(_TIMES if wide else sorted((*_TIMES, *_MORE_TIMES))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value)))
    axes.set(xlabel="time for fitting and training, and for codes that were not there yet")
    return figure


def pairwise(matrix: ArrayLike, names: Sequence[str], what: str) -> Figure:
    """Draw a number for each pair of runs (m, m), in colours from 0 on, both ways where some are negative.

    Args:
        matrix: Such as the share of images on which two runs disagree; what is on its diagonal is left out.
        names: Of the m runs.
        what: The number, for the scale.
    """
    values = np.array(matrix, dtype=float)
    np.fill_diagonal(values, np.nan)
    drawn, fonts = plots.drawable(names)
    side = max(2.5, 0.62 * len(drawn))
    figure, axes = plots._figure(side + _width(drawn) + 1.4, side + _width(drawn) + 0.3)
    top = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    low = -top if np.nanmin(values, initial=0.0) < 0 else 0.0
    image = axes.imshow(values, cmap="PuOr" if low else "Blues", vmin=low, vmax=top)
    figure.colorbar(image, ax=axes, label=what, fraction=0.04, pad=0.02)
    ticks = np.arange(len(drawn))
    for axis, turned in ((axes.xaxis, 90), (axes.yaxis, 0)):
        axis.set_ticks(ticks, drawn, rotation=turned, fontsize=9, fontfamily=fonts)
        for label in axis.get_ticklabels():
            label.set_parse_math(False)
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        colour = "white" if abs(values[row, column]) > 0.6 * top else "black"
        axes.text(column, row, f"{values[row, column]:.2g}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def clock(seconds: float) -> str:
    """Write a time.

    >>> clock(0.042), clock(7.25), clock(99), clock(5400), clock(40 * 3600)
    ('0.04 s', '7.2 s', '99 s', '1.5 h', '40 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "h" and seconds >= length):
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _named_points(
    names: Sequence[str], accuracy: ArrayLike, across: ArrayLike, told: Sequence[str], areas: Numbers
) -> tuple[Figure, Axes]:
    """Draw points over a logarithmic axis, their names in a column beside it, a thin line from each to its point."""
    from matplotlib.ticker import NullFormatter

    x, y = np.asarray(across, dtype=float), np.asarray(accuracy, dtype=float)
    drawn, fonts = plots.drawable(names[:_MOST_NAMED], _LONGEST_NAME)
    height = max(4.2, 1.5 + _LINE * len(drawn))
    figure, axes = plots._figure(6.5 + _width(drawn), height)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.scatter(x, y, s=areas, color=_BLUE, alpha=0.45, edgecolors=_BLUE, linewidths=1)
    axes.plot(x, y, color=_BLUE, marker=".", markersize=4, linestyle="none")
    axes.set_xlim(*_around(np.log10(x), 0.3, 0.1, power=True))
    low, high = _around(y, 0.02, 0.12)
    axes.set_ylim(low, high)
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= min(high, 1.0001)])
    places = spread((y[: len(drawn)] - low) / (high - low), _LINE / (height - 1.2))
    for row, place in enumerate(places):
        name = axes.annotate(
            drawn[row] + told[row],
            (x[row], y[row]),
            (1.03, place),
            textcoords="axes fraction",
            fontfamily=fonts,
            fontsize=9,
            va="center",
            arrowprops={**_LEADER, "color": _GREY},
        )
        name.set_parse_math(False)
    axes.set(ylabel="accuracy on the held-out images")
    axes.grid(alpha=0.3)
    return figure, axes


def _width(names: Sequence[str]) -> float:
    """Return about how many inches wide the names are."""
    return 0.082 * max(map(plots._columns, names))


def _around(values: Numbers, least: float, share: float, *, power: bool = False) -> tuple[float, float]:
    """Return limits with some room around the values."""
    room = max(least, share * float(np.ptp(values)))
    low, high = float(values.min()) - room, float(values.max()) + room
    return (10**low, 10**high) if power else (low, high)


def spread(places: ArrayLike, gap: float) -> Numbers:
    """Move places (n,) in 0 to 1 apart to at least `gap`, or 1 / (n - 1) if that is less, in their order.

    >>> spread([0.5, 0.5, 0.9], 0.1).round(2).tolist()
    [0.55, 0.45, 0.9]
    """
    wanted = np.asarray(places, dtype=float)
    gap = min(gap, 1 / max(1, len(wanted) - 1))
    order = np.argsort(-wanted, kind="stable")[::-1]  # of equal ones the first stays on top
    steps = gap * np.arange(len(wanted))
    pooled = _rising(wanted[order] - steps)
    moved = np.empty_like(wanted)
    moved[order] = np.clip(pooled, 0, 1 - gap * (len(wanted) - 1)) + steps
    return moved


def _rising(values: Numbers) -> Numbers:
    """Return the nearest numbers that never fall (isotonic regression)."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(values).x) if len(values) else values
