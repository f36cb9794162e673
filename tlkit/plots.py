"""Pictures of results: plain arrays in, matplotlib figures out, no pyplot and so no global state.

Colours are safe for the colour-blind: one sequential map, and the blue and orange of Okabe and Ito (2008).
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from tlkit import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_LINES = (_BLUE, "#009E73", "#CC79A7", _GREY)
_LONGEST_NAME = 24
_MOST_NUMBERED = 40
_WIDEST = 16.0


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw counts (k, k), rows true and columns predicted, coloured by their share of the row.

    Counts are printed for up to 40 classes, zeros for up to 12; beyond, the colours go with the square root, so that
    single confusions show. Long names lose their middle; of very many classes only every second, third, ... is named.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix, dtype=np.int64)
    names, fonts = drawable(classes)
    side = float(np.clip(1.9 * np.sqrt(len(names)), 3.2, _WIDEST))
    cell = 72 * side / len(names)
    step = int(np.ceil(7.5 / cell))
    size = min(10.0, 0.78 * cell * step)
    margin = 0.62 * size / 72 * max(map(_columns, names)) + 0.8
    figure, axes = _figure(1.06 * side + margin + 0.8, side + margin)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbered = len(names) <= _MOST_NUMBERED
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(1 if numbered else 0.5, vmin=0, vmax=1))
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.04, aspect=35, pad=0.02)
    ticks = np.arange(0, len(names), step)
    upright = 0.62 * size * max(map(_columns, names)) > 0.95 * cell
    for axis, rotation in ((axes.xaxis, 90 if upright else 0), (axes.yaxis, 0)):
        axis.set_ticks(ticks, [names[tick] for tick in ticks], rotation=rotation, fontsize=size, fontfamily=fonts)
        for label in axis.get_ticklabels():
            label.set_parse_math(False)  # a dollar sign in a name is a dollar sign
    axes.set(xlabel="predicted", ylabel="true")
    if numbered:
        _print_counts(axes, counts, share, cell)
    return figure


def regularisation(parameter: str, search: Mapping[str, Sequence[Any]], chosen: Mapping[str, Any]) -> Figure:
    """Draw cross-validated accuracy against the regularisation, a line a scaling, the choice marked.

    Args:
        parameter: what is searched: "C", "alpha" or "k".
        search: columns "scale", `parameter`, "accuracy" and "std" (mean and standard deviation over the folds).
        chosen: "scale" and `parameter` of the choice; its standard deviation is drawn.
    """
    figure, axes = _figure(6.0, 4.0)
    kinds, x, y, spread = (np.asarray(search[name]) for name in ("scale", parameter, "accuracy", "std"))
    for number, kind in enumerate(dict.fromkeys(kinds.tolist())):
        line = np.flatnonzero(kinds == kind)
        style = _LINES[number % len(_LINES)]
        axes.plot(x[line], y[line], color=style, marker="o", markersize=3, linewidth=1.3, label=f"scale = {kind}")
    distance = np.abs(np.log(x / chosen[parameter])) + (kinds != chosen["scale"]) * 1e9
    best = int(distance.argmin())
    axes.errorbar(x[best], y[best], yerr=spread[best], color=_ORANGE, marker="D", markersize=9, capsize=4, zorder=5)
    axes.set_xscale("log")
    direction = {"C": "less", "alpha": "more"}.get(parameter)
    axes.set(xlabel=f"{parameter} (to the right: {direction} regularisation)" if direction else parameter)
    axes.set(ylabel="cross-validated accuracy")
    axes.set_title(f"chosen: {parameter} = {x[best]:.3g}, accuracy {y[best]:.3f} ± {spread[best]:.3f}", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def accuracy_by_depth(search: Sequence[Mapping[str, Any]], chosen: Sequence[str]) -> Figure:
    """Draw the cross-validated accuracy of each tap, from input to output, and that of the choice.

    Args:
        search: candidates with "taps" (names), "accuracy" and "std"; those of one tap in the order of depth.
        chosen: the taps that were taken; several stand side by side in the codes.
    """
    single = [candidate for candidate in search if len(candidate["taps"]) == 1]
    names, fonts = drawable(candidate["taps"][0] for candidate in single)
    best = next(candidate for candidate in search if list(candidate["taps"]) == list(chosen))
    figure, axes = _figure(float(np.clip(0.55 * len(single) + 1.5, 5.0, _WIDEST)), 4.2)
    x, y = np.arange(len(single)), np.array([candidate["accuracy"] for candidate in single])
    axes.errorbar(x, y, yerr=[c["std"] for c in single], color=_BLUE, marker="o", capsize=3, label="one tap alone")
    taken = [row for row, candidate in enumerate(single) if candidate["taps"][0] in chosen]
    axes.plot(x[taken], y[taken], color=_ORANGE, marker="D", markersize=9, linestyle="none", zorder=5, label="taken")
    if len(chosen) > 1:
        axes.axhline(best["accuracy"], color=_ORANGE, linestyle="--", linewidth=1.2, label="taken, side by side")
    axes.set_xticks(x, names, rotation=45 if len(names) > 6 else 0, ha="right" if len(names) > 6 else "center")
    for label in axes.get_xticklabels():
        label.set_fontfamily(fonts)
        label.set_parse_math(False)
    axes.set(xlabel="tap, from input to output", ylabel="cross-validated accuracy")
    axes.set_title(f"accuracy {best['accuracy']:.3f} ± {best['std']:.3f}", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def training_curves(
    epochs: Sequence[Mapping[str, float]], start: float | None = None, *, augmented: bool = True
) -> Figure:
    """Draw losses and validation accuracy over the epochs, the best one marked.

    Args:
        epochs: rows with "epoch", "train_loss", "val_loss" and "val_accuracy"; there may be none.
        start: validation accuracy before the first epoch, if it was measured.
        augmented: whether the images learned from were changed, which makes their loss higher.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (top, bottom) = _stacked(6.0, 5.5, ratios=(1, 1))
    x, train, val, accuracy = (
        np.array([row[name] for row in epochs]) for name in ("epoch", "train_loss", "val_loss", "val_accuracy")
    )
    top.plot(x, train, color=_GREY, marker="o", markersize=3, label=f"training{' (augmented)' if augmented else ''}")
    top.plot(x, val, color=_BLUE, marker="o", markersize=3, label="validation")
    top.set(ylabel="loss", ylim=(0, None))
    bottom.plot(x, accuracy, color=_BLUE, marker="o", markersize=3)
    if start is not None:
        bottom.axhline(start, color=_ORANGE, linestyle="--", linewidth=1.2, label="before training")
    if len(x):
        best = max(range(len(x)), key=lambda row: (accuracy[row], -val[row]))
        bottom.plot(
            x[best], accuracy[best], color=_ORANGE, marker="D", markersize=9, linestyle="none", label="best epoch"
        )
    bottom.set(xlabel="epoch", ylabel="validation accuracy")
    bottom.set_xlim(0.5, max(len(x), 1) + 0.5)
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def rate_search(rates: Sequence[float], losses: Sequence[float], smooth: ArrayLike, suggested: float) -> Figure:
    """Draw the losses over rising learning rates, and the suggested rate.

    Args:
        rates: (n,), rising.
        losses: of a step at each.
        smooth: the same without noise.
        suggested: the rate to take.
    """
    figure, axes = _figure(6.0, 4.0)
    axes.plot(rates, losses, color=_GREY, linewidth=0.8, alpha=0.6, label="loss of each step")
    axes.plot(rates, np.asarray(smooth), color=_BLUE, linewidth=2, label="smoothed")
    axes.axvline(suggested, color=_ORANGE, linestyle="--", linewidth=1.2, label=f"suggested: strategy.lr={suggested:g}")
    top = 1.5 * max(losses[: len(losses) // 2])  # beyond, the loss may be anything
    axes.set(xscale="log", xlabel="learning rate of the last stage", ylabel="training loss", ylim=(0, top))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def reliability(probabilities: ArrayLike, labels: ArrayLike) -> Figure:
    """Draw how often predictions of each confidence are right (Guo et al. 2017, figure 1), and how many there are.

    Args:
        probabilities: (n, k); rows sum to 1.
        labels: (n,) the true classes, 0 .. k-1.
    """
    from tlkit.evaluation.metrics import expected_calibration_error, reliability_bins

    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    count, confidence, accuracy = reliability_bins(p, y)
    edges = np.linspace(0, 1, len(count) + 1)
    figure, (top, bottom) = _stacked(5.0, 6.0)
    width, known = edges[1], count > 0
    top.bar(edges[:-1], np.nan_to_num(accuracy), width, align="edge", color=_BLUE, edgecolor="white", label="accuracy")
    top.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1.2, label="perfect calibration")
    top.plot(confidence[known], accuracy[known], marker="D", color=_ORANGE, linestyle="none", label="mean of the bin")
    top.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    top.set_title(f"expected calibration error {expected_calibration_error(p, y):.3f}, n = {len(y):,}", fontsize=11)
    bottom.bar(edges[:-1], count, width, align="edge", color=_GREY, edgecolor="white")
    bottom.set(xlabel="confidence (highest probability)", ylabel="images")
    return figure


def embedding(points: ArrayLike, labels: ArrayLike, classes: Sequence[str], wrong: ArrayLike, title: str) -> Figure:
    """Draw images as points of a plane, coloured by class.

    Args:
        points: (n, 2).
        labels: (n,) the true classes, 0 .. k-1; up to 20 of them are told apart by colour and named.
        classes: k names.
        wrong: (n,) bool, points that get a ring.
        title: how they were laid out.
    """
    from matplotlib import colormaps

    plane, y, ringed = np.asarray(points, dtype=np.float64), np.asarray(labels), np.asarray(wrong, dtype=bool)
    names, fonts = drawable(classes)
    few = len(names) <= 20
    colours = colormaps["tab10" if len(names) <= 10 else "tab20" if few else "turbo"]
    figure, axes = _figure(5.5, 5.5 + (0.1 * len(names) if few else 0))
    for label in np.unique(y):
        colour = colours(label if few else label / (len(names) - 1))
        own = plane[y == label]
        axes.scatter(own[:, 0], own[:, 1], s=16, color=colour, linewidths=0, label=names[label] if few else None)
    if ringed.any():
        axes.scatter(
            plane[ringed, 0],
            plane[ringed, 1],
            s=52,
            facecolors="none",
            edgecolors="black",
            linewidths=1.1,
            label="wrong",
        )
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)
    columns = 5 if max(map(_columns, names)) < 10 else 2
    told = axes.get_legend_handles_labels()
    for text in figure.legend(*told, loc="outside lower center", ncols=columns, fontsize=9, frameon=False).get_texts():
        text.set_fontfamily(fonts)
        text.set_parse_math(False)
    return figure


def neighbours(rows: Sequence[Sequence[ArrayLike]], labels: Sequence[Sequence[str]]) -> Figure:
    """Draw a row an image: the image, and beside it its nearest neighbours, those of another class framed.

    Args:
        rows: n rows of pictures, (height, width) or (height, width, 3) uint8; the first of a row is what the others are
            near to, the nearest first.
        labels: the class of each of them.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    figure = Figure(figsize=(1.15 * columns + 0.3, 1.35 * len(rows) + 0.4), layout="constrained")
    cells = figure.subplots(len(rows), columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    drawn, fonts = drawable(name for line in labels for name in line)
    names = iter(drawn)
    for line, pictures, classes in zip(cells, rows, labels, strict=True):
        for cell, picture, own in zip(line, pictures, classes, strict=False):
            cell.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            cell.set_title(next(names), fontsize=8, fontfamily=fonts, parse_math=False)
            if own != classes[0]:
                _frame(cell)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the file's ending (png, svg, pdf).

    Raises:
        TlkitError: It cannot be written there.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format=path.suffix.removeprefix(".").lower() or "png", dpi=110)
    files.write_bytes(path, buffer.getvalue())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _stacked(width: float, height: float, ratios: tuple[int, int] = (3, 1)) -> tuple[Figure, tuple[Axes, Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    return figure, (top, bottom)


def _frame(axes: Axes) -> None:
    """Frame a picture, whose axes are off, in orange."""
    from matplotlib.patches import Rectangle

    box = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False)
    box.set(edgecolor=_ORANGE, linewidth=3)
    axes.add_patch(box)


def _print_counts(axes: Axes, counts: NDArray[np.int64], share: NDArray[np.float64], cell: float) -> None:
    digits = len(str(counts.max()))
    size = min(11.0, 0.85 * cell / (0.65 * digits))
    for row, column in np.ndindex(counts.shape):
        count = counts[row, column]
        if count or len(counts) <= 12:
            colour = "white" if share[row, column] > 0.55 else "black" if count else "#999999"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour)


def drawable(names: Iterable[str], longest: int = _LONGEST_NAME) -> tuple[list[str], list[str]]:
    """Return the names as they can be drawn here, and the font families to draw them with.

    Letters that the default font lacks are looked for in the installed fonts. A name with letters that no font has is
    numbered, so that it can still be told from the others.
    """
    texts = [_shortened("".join(c if c.isprintable() else " " for c in name), longest) for name in names]
    fonts, missing = _fonts(set("".join(texts)))
    drawn = [
        f"{number} " + "".join("□" if c in missing else c for c in text) if missing & set(text) else text
        for number, text in enumerate(texts)
    ]
    return drawn, fonts


def _fonts(letters: set[str]) -> tuple[list[str], set[str]]:
    """Return font families that together have the letters, and the letters that no installed font has."""
    from matplotlib import font_manager

    fonts = ["DejaVu Sans"]  # comes with matplotlib
    missing = letters - _letters(font_manager.findfont(fonts[0]))
    regular = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist if entry.weight == 400}
    for name, file in sorted(regular.items()) if missing else ():
        # The font of last resort has a box for everything.
        found = set() if name.startswith("Last Resort") else missing & _letters(file)
        if found:
            fonts.append(name)
            missing -= found
    return fonts, missing


def _letters(font: str) -> set[str]:
    from matplotlib.font_manager import get_font

    try:
        return {chr(code) for code in get_font(font).get_charmap()}
    except (OSError, RuntimeError):  # gone since the list was made, or damaged
        return set()


def _shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    """Cut the middle out: numbered names often differ at the end.

    >>> _shortened("northern_short_tailed_shrew_07")
    'northern_sho…ed_shrew_07'
    """
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[1 - longest // 2 :]}"


def _columns(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)
