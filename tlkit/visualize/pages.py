"""Pages of pictures: plain arrays in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.plots import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]
    Cells = NDArray[Any]

MAPS, ROWS = 4, 6  # of a page
_ORANGE = "#D55E00"
_MOST_NUMBERED = 128
_GREY = 0.5
_HEAT = "inferno"


def filter_grid(weights: Floats, dead: NDArray[np.int64], title: str) -> Figure:
    """Draw filters, each in a scale of its own around grey, the dead ones in that of the median filter and framed.

    Args:
        weights: (n, C, height, width); as colours if C is 3, and else the mean over C.
        dead: numbers of filters.
        title: above it.
    """
    from matplotlib.patches import Rectangle

    n, _, height, width = weights.shape
    size = np.abs(weights).max(axis=(1, 2, 3))
    size[dead] = max(np.median(size), 1e-12)
    columns = int(np.ceil(np.sqrt(n)))
    side = float(np.clip(0.75 * columns, 4.5, 14.0))
    numbered = n <= _MOST_NUMBERED
    gap = (max(1, round(0.15 * height)), max(1, round(0.15 * width)))
    factor = max(1, round(40 / (height + gap[0])))  # room for numbers between the filters
    tiles = np.kron(_colours(weights / size[:, None, None, None]), np.ones((1, factor, factor, 1)))
    gap = (factor * gap[0] + (14 if numbered else 0), factor * gap[1])
    figure, axes = _page(side, side * tiles.shape[1] / tiles.shape[2] + 0.9, 1, 1)
    _show(axes[0, 0], tiled(tiles, columns, gap, background=1.0))
    for number in range(n):
        top, left = (number // columns) * (tiles.shape[1] + gap[0]), (number % columns) * (tiles.shape[2] + gap[1])
        if numbered:
            axes[0, 0].text(left, top - 2, str(number), fontsize=6, va="bottom", color="#444444")
        if number in dead:
            box = Rectangle((left - 0.5, top - 0.5), tiles.shape[2], tiles.shape[1], fill=False)
            box.set(edgecolor=_ORANGE, linewidth=2)
            axes[0, 0].add_patch(box)
    axes[0, 0].set_ylim(axes[0, 0].get_ylim()[0] + 4, -16)
    _title(figure, title)
    return _settled(figure)


@dataclass(frozen=True)
class MapPanel:
    """One map: parts of images (m, h, w, 3) uint8 beside their projections (m, h, w, C), and what to call it."""

    name: str
    crops: Sequence[Bytes]
    signals: Sequence[Floats]


def projection_page(maps: Sequence[MapPanel], title: str, caption: str) -> Figure:
    """Draw the images that excite a few maps most, each beside what of it the deconvnet finds (at most `MAPS`)."""
    across = min(2, len(maps))
    down = -(-len(maps) // across)
    figure, axes = _page(6.4 * across, 3.5 * down + 1.0, down, 2 * across)
    for cell in axes.flat:
        cell.set_axis_off()
    for number, panel in enumerate(maps):
        row, column = divmod(number, across)
        left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
        shape = np.max([crop.shape[:2] for crop in panel.crops], axis=0)
        crops = [_placed(_rgb(crop / 255), shape, 1.0) for crop in panel.crops]
        signals = [_placed(_rgb(_around_grey(signal)), shape, 1.0) for signal in panel.signals]
        gap = (max(1, round(0.04 * shape[0])),) * 2
        _show(left, tiled(np.stack(crops), 3, gap, background=1.0))
        _show(right, tiled(np.stack(signals), 3, gap, background=1.0))
        left.set_title(panel.name, fontsize=9, loc="left")
        right.set_title("deconvnet projections", fontsize=9, loc="left")
    _title(figure, title)
    _caption(figure, caption)
    return _settled(figure)


@dataclass(frozen=True)
class ImageRow:
    """One image and where the evidence for its classes is.

    Attributes:
        file: its name.
        truth: true class, if it is known.
        predicted: class.
        probability: of the predicted class.
        other: the class of the second map: the true one, or of a right prediction the runner-up.
        other_probability: of that.
        pixels: (H, W, C) uint8.
        cams: (H, W) of the predicted and of the other class.
        guided: (H, W, C) of the predicted class.
    """

    file: str
    truth: str | None
    predicted: str
    probability: float
    other: str
    other_probability: float
    pixels: Bytes
    cams: tuple[Floats, Floats]
    guided: Floats


def attribution_page(rows: Sequence[ImageRow], titles: tuple[str, str], caption: str) -> Figure:
    """Draw a row an image: names, image, Grad-CAM of two classes, guided back-propagation.

    Args:
        rows: at most `ROWS`.
        titles: of the columns for Grad-CAM and for guided back-propagation.
        caption: below it.
    """
    figure, axes = _page(11.6, 2.35 * len(rows) + 1.0, len(rows), 5, (0.9, 1, 1, 1, 1))
    names = [name for row in rows for name in (row.file.rpartition("/")[2], row.truth or "", row.predicted, row.other)]
    drawn, fonts = drawable(names)
    for number, row in enumerate(rows):
        file, truth, predicted, other = drawn[4 * number : 4 * number + 4]
        told, image, first, second, last = axes[number]
        told.set_axis_off()
        wrong = row.truth is not None and row.truth != row.predicted
        lines = [file, f"true: {truth}"] if row.truth is not None else [file]
        lines += [f"predicted: {predicted}", f"probability {row.probability:.3f}", *(["WRONG"] if wrong else [])]
        told.text(0, 0.5, "\n".join(lines), va="center", fontsize=8.5, fontfamily=fonts, parse_math=False)
        rgb = _rgb(row.pixels / 255)
        panels = (image, rgb), (first, _heated(rgb, row.cams[0])), (second, _heated(rgb, row.cams[1]))
        for cell, picture in (*panels, (last, _rgb(_around_grey(row.guided)))):
            _show(cell, picture)
        for cell, name, p, cam in (
            (first, predicted, row.probability, row.cams[0]),
            (second, other, row.other_probability, row.cams[1]),
        ):
            words = f"{name}, p = {p:.3f}" + ("" if cam.any() else ": nothing for it")
            cell.set_title(words, fontsize=8.5, fontfamily=fonts, parse_math=False)
    heads = (
        "",
        "image",
        f"{titles[0]}\npredicted class",
        f"{titles[0]}\ntrue class, or runner-up",
        fill(titles[1], 30),
    )
    for cell, head in zip(axes[0], heads, strict=True):
        cell.set_title(f"{head}\n{cell.get_title()}", fontsize=8.5, fontfamily=fonts, parse_math=False)
    _caption(figure, caption)
    return _settled(figure)


def tiled(pictures: Floats, columns: int, gap: tuple[int, int], background: float) -> Floats:
    """Put pictures (n, h, w, 3) side by side, row by row, with so many pixels between them.

    >>> tiled(np.zeros((3, 2, 2, 3), np.float32), 2, (1, 1), 1.0).shape
    (5, 5, 3)
    """
    n, height, width, _ = pictures.shape
    rows, columns = -(-n // columns), min(n, columns)
    step = height + gap[0], width + gap[1]
    sheet = np.full((rows * step[0] - gap[0], columns * step[1] - gap[1], 3), background, dtype=np.float32)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * step[0], (number % columns) * step[1]
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _colours(weights: Floats) -> Floats:
    """Turn filters (n, C, h, w) in -1 to 1 into pictures (n, h, w, 3) in 0 to 1, zero in the middle."""
    coloured = weights if weights.shape[1] == 3 else weights.mean(axis=1, keepdims=True).repeat(3, axis=1)
    pictures: Floats = (_GREY + coloured / 2).transpose(0, 2, 3, 1).astype(np.float32)
    return pictures


def _around_grey(signal: Floats) -> Floats:
    """Scale a signal into 0 to 1, zero in the middle; the strongest two in a thousand are clipped."""
    top = float(np.quantile(np.abs(signal), 0.998)) or float(np.abs(signal).max()) or 1.0
    return np.asarray(np.clip(_GREY + signal / (2 * top), 0, 1), dtype=np.float32)


def _rgb(picture: NDArray[np.floating]) -> Floats:
    rgb: Floats = np.asarray(picture, dtype=np.float32)
    return rgb.repeat(3, axis=2) if rgb.shape[2] == 1 else rgb


def _placed(picture: Floats, shape: NDArray[np.int64], background: float) -> Floats:
    """Put a picture in the middle of a larger one: parts at the border of an image are smaller."""
    height, width = picture.shape[:2]
    top, left = (int(shape[0]) - height) // 2, (int(shape[1]) - width) // 2
    sheet = np.full((*shape, 3), background, dtype=np.float32)
    sheet[top : top + height, left : left + width] = picture
    return sheet


def _heated(rgb: Floats, cam: Floats) -> Floats:
    """Lay a map over a grey version of the image: the more evidence, the more of its colour."""
    from matplotlib import colormaps

    heat = cam / (cam.max() or 1)
    grey = rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)
    share = 0.75 * heat[..., None] ** 0.7
    colours: Floats = np.asarray(colormaps[_HEAT](0.25 + 0.75 * heat)[..., :3], dtype=np.float32)
    return np.asarray(grey * (1 - share) + colours * share, dtype=np.float32)


def heat_picture(pixels: Bytes, cam: Floats) -> Bytes:
    """Lay a map (H, W) over an image (H, W, C) uint8, as a page does: (H, W, 3) uint8."""
    drawn: Bytes = (255 * _heated(_rgb(pixels / 255), cam)).round().astype(np.uint8)
    return drawn


def _page(
    width: float, height: float, rows: int, columns: int, ratios: Sequence[float] | None = None
) -> tuple[Figure, Cells]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    cells: Cells = figure.subplots(rows, columns, squeeze=False, width_ratios=ratios)
    return figure, cells


def _show(axes: Axes, picture: Floats) -> None:
    axes.imshow(np.clip(picture, 0, 1), interpolation="nearest")
    axes.set_axis_off()


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(_folded(figure, text, 10), fontsize=10, parse_math=False)


def _caption(figure: Figure, text: str) -> None:
    figure.supxlabel(_folded(figure, text, 9), fontsize=9, color="#444444", parse_math=False)


def _settled(figure: Figure) -> Figure:
    """Let the layout find the place of titles above pictures of a fixed shape; its first pass may cut them."""
    figure.draw_without_rendering()
    return figure


def _folded(figure: Figure, text: str, size: float) -> str:
    """Break lines where the figure ends."""
    columns = int(72 * figure.get_figwidth() / (0.62 * size))
    return "\n".join(fill(line, columns) for line in text.splitlines())
