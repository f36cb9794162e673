"""Pictures: what they show, that nothing is cut or overlaps, and that odd names are drawn without a warning."""

import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tlkit import plots
from tlkit.errors import TlkitError

LONG = ["northern short-tailed shrew of the woods 01", "northern short-tailed shrew of the woods 02"]
ODD = [
    "猫",
    "犬",
    "кошка",
    "σκύλος",
    "$x_1$",
    "$",
    "\\frac",
    "a\nb\t",
    "שלום",
    "สวัสดี",
    "🐝",
    "",
    " ",
    "_x",
    "%d {}",
    "\x00\ud800",
]


def counts(k: int, seed: int = 0) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    return random.integers(4, size=(k, k)) + np.diag(random.integers(20, 40, size=k))


def drawn(figure: Figure) -> RendererAgg:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return canvas.get_renderer()  # type: ignore[no-untyped-call, no-any-return]


@pytest.mark.parametrize("k", [2, 3, 10, 30, 41, 102, 250])
def test_labels_neither_overlap_nor_leave_the_picture(k: int) -> None:
    names = (LONG * k)[: k - k % 2] + ["猫"] * (k % 2)
    figure = plots.confusion_matrix(counts(k), names)
    axes, renderer = figure.axes[0], drawn(figure)
    across, down = (
        [label.get_window_extent(renderer) for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)
    )
    for box in [*across, *down, *(axis.label.get_window_extent(renderer) for axis in (axes.xaxis, axes.yaxis))]:
        assert min(box.x0, box.y0) >= -0.5
        assert box.x1 <= renderer.width + 0.5
        assert box.y1 <= renderer.height + 0.5
    assert all(not a.overlaps(b) for labels in (across, down) for a, b in pairwise(labels))
    assert min(float(text.get_fontsize()) for text in axes.get_xticklabels()) > 5


@pytest.mark.parametrize("k", [2, 10, 12, 13, 40, 41])
def test_counts_are_printed_while_they_are_readable(k: int) -> None:
    matrix = counts(k)
    texts = plots.confusion_matrix(matrix, [f"c{i}" for i in range(k)]).axes[0].texts
    shown = {(round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in texts}
    cells = {cell: int(count) for cell, count in np.ndenumerate(matrix) if k <= 12 or count}
    assert shown == (cells if k <= 40 else {})


def test_large_counts_stay_in_their_cells() -> None:
    figure = plots.confusion_matrix(np.full((30, 30), 123_456), [f"c{i}" for i in range(30)])
    axes, renderer = figure.axes[0], drawn(figure)
    cell = axes.get_window_extent(renderer).width / 30
    assert max(text.get_window_extent(renderer).width for text in axes.texts) < cell


def test_colours_are_shares_of_the_row_and_empty_rows_are_empty() -> None:
    figure = plots.confusion_matrix([[1, 3, 0], [0, 10, 0], [0, 0, 0]], ["a", "b", "c"])
    share = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(share), [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 0]])


def test_rows_are_true_and_columns_predicted() -> None:
    axes = plots.confusion_matrix([[5, 1], [0, 4]], ["ant", "bee"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant", "bee"]
    assert axes.yaxis_inverted()  # the first true class is on top


def test_odd_names_are_drawn_and_can_be_told_apart(tmp_path: Path) -> None:
    figure = plots.confusion_matrix(counts(len(ODD)), ODD)
    plots.save(figure, tmp_path / "odd.png")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[2:7] == ["кошка", "σκύλος", "$x_1$", "$", "\\frac"]
    assert labels[7] == "a b "
    assert labels[0] != labels[1]


@given(names=st.lists(st.text(max_size=40), min_size=2, max_size=4, unique=True))
@settings(deadline=None, max_examples=25)
def test_any_names_are_drawn_without_a_warning(names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(plots.confusion_matrix(counts(len(names)), names))


def test_letters_of_another_installed_font_are_drawn_with_it() -> None:
    letter = "\U0001d504"  # fraktur A: in STIX, which comes with matplotlib, and not in its default font
    names, fonts = plots.drawable([letter, "plain"])
    assert len(fonts) > 1
    assert names == [letter, "plain"]
    drawn(plots.confusion_matrix(counts(2), [letter, "plain"]))


def test_letters_of_no_font_are_numbered() -> None:
    unknown = "\U000e0fff", "\uf8ffx"
    assert plots.drawable(["plain", "\U0001f9ff猫"])[0][0] == "plain"
    for name in plots.drawable(unknown)[0]:
        assert name.isprintable()


@pytest.mark.parametrize("length", [1, 23, 24, 25, 26, 100])
def test_names_are_shortened_in_the_middle(length: int) -> None:
    name = "".join(chr(ord("a") + i % 26) for i in range(length))
    short = plots._shortened(name)
    assert len(short) == min(length, 24)
    assert (short[:6], short[-6:]) == (name[:6], name[-6:])


SEARCH: dict[str, list[Any]] = {
    "scale": ["standard"] * 4 + ["l2"] * 4,
    "C": [1e-4, 1e-3, 1e-2, 1e-1] * 2,
    "accuracy": [0.5, 0.7, 0.9, 0.8, 0.4, 0.6, 0.8, 0.7],
    "std": [0.1, 0.2, 0.05, 0.01] * 2,
}


@pytest.mark.parametrize("row", [1, 3, 6])
def test_regularisation_marks_the_choice(row: int) -> None:
    chosen = {name: SEARCH[name][row] for name in ("scale", "C")}
    axes = plots.regularisation("C", SEARCH, chosen).axes[0]
    mark = next(line for line in axes.lines if line.get_marker() == "D")
    np.testing.assert_array_equal(np.asarray(mark.get_xydata()), [[SEARCH["C"][row], SEARCH["accuracy"][row]]])
    assert axes.get_xscale() == "log"
    assert f"C = {SEARCH['C'][row]:.3g}" in axes.get_title()
    assert [line.get_label() for line in axes.lines[:2]] == ["scale = standard", "scale = l2"]


def test_regularisation_of_a_single_value() -> None:
    table: dict[str, list[Any]] = {"scale": ["none"], "k": [5], "accuracy": [0.9], "std": [0.0]}
    drawn(plots.regularisation("k", table, {"scale": "none", "k": 5}))


@pytest.mark.parametrize("chosen", [["b"], ["c", "a"]])
def test_accuracy_by_depth_shows_each_tap_and_the_choice(chosen: list[str]) -> None:
    accuracy = {"a": 0.5, "b": 0.8, "c": 0.7}
    search = [{"taps": (tap,), "accuracy": value, "std": 0.1} for tap, value in accuracy.items()]
    search.append({"taps": ("c", "a"), "accuracy": 0.9, "std": 0.1})
    figure = plots.accuracy_by_depth(search, chosen)
    (axes,) = figure.axes
    mark = next(line for line in axes.lines if line.get_marker() == "D")
    taken = [[0, 0.5], [2, 0.7]] if len(chosen) > 1 else [[1, 0.8]]
    np.testing.assert_array_equal(np.asarray(mark.get_xydata()), taken)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert f"accuracy {0.9 if len(chosen) > 1 else 0.8:.3f}" in axes.get_title()
    drawn(figure)


def test_reliability_shows_accuracy_by_confidence() -> None:
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.3, 0.7]] * 2)
    figure = plots.reliability(probabilities, [0, 0, 0, 1, 1, 0])
    top, bottom = figure.axes
    bars = {round(p.get_x(), 3): p.get_height() for p in top.patches if p.get_height()}  # type: ignore[attr-defined]
    assert bars == {0.667: 0.5, 0.933: 0.75}
    assert [p.get_height() for p in bottom.patches if p.get_height()] == [2, 4]  # type: ignore[attr-defined]
    assert "error 0.200, n = 6" in top.get_title()  # (4 * |0.75 - 0.95| + 2 * |0.5 - 0.7|) / 6
    drawn(figure)


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_save_writes_the_format_of_the_ending(ending: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    plots.save(plots.regularisation("C", SEARCH, {"scale": "l2", "C": 0.01}), path)
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("epochs", "start"), [(0, None), (1, 0.5), (4, None), (40, 0.97)])
def test_training_curves_have_a_line_each_and_mark_the_best_epoch(epochs: int, start: float | None) -> None:
    rows = [
        {"epoch": n, "train_loss": 1 / n, "val_loss": 1.5 / n, "val_accuracy": 0.9 - 0.1 * (n != 2)}
        for n in range(1, epochs + 1)
    ]
    figure = plots.training_curves(rows, start)
    drawn(figure)
    top, bottom = figure.axes
    assert [line.get_label() for line in top.lines] == ["training (augmented)", "validation"]
    assert all(tick == round(tick) for tick in bottom.get_xticks())
    assert [len(np.atleast_1d(line.get_xdata())) for line in top.lines] == [epochs, epochs]
    marked = [line for line in bottom.lines if line.get_label() == "best epoch"]
    assert len(marked) == (epochs > 0)
    if epochs:
        assert np.atleast_1d(marked[0].get_xdata()).tolist() == [min(2, epochs)]
    assert (start is not None) == any(line.get_label() == "before training" for line in bottom.lines)


def test_pictures_are_not_huge(tmp_path: Path) -> None:
    plots.save(plots.confusion_matrix(counts(102), [f"class {i}" for i in range(102)]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert max(image.size) < 2500
    assert (tmp_path / "a.png").stat().st_size < 1_000_000


def test_save_explains_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TlkitError, match="cannot write"):
        plots.save(plots.regularisation("C", SEARCH, {"scale": "l2", "C": 0.01}), tmp_path / "file" / "a.png")


def test_pyplot_and_the_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    drawn(plots.confusion_matrix(counts(3), ["a", "b", "c"]))
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("suggested", [1e-4, 3.3e-12])
def test_a_rate_search_shows_losses_and_the_suggestion(suggested: float) -> None:
    rates = np.geomspace(1e-6, 1, 60)
    losses = [*np.linspace(2.3, 1, 50), *np.geomspace(1, 1e9, 10)]
    figure = plots.rate_search([*rates], losses, losses, suggested)
    drawn(figure)
    (axes,) = figure.axes
    assert axes.get_ylim()[1] < 5
    assert [line.get_label() for line in axes.lines][2] == f"suggested: strategy.lr={suggested:g}"


def test_neighbours_stand_beside_their_image_and_those_of_another_class_are_framed() -> None:
    random = np.random.default_rng(0)
    grey, colours = random.integers(256, size=(8, 8)), random.integers(256, size=(5, 7, 3), dtype=np.uint8)
    figure = plots.neighbours([[grey, grey, colours], [colours, grey]], [["cat", "cat", "$dog$ 猫"], ["dog", "cat"]])
    drawn(figure)
    cells = np.array(figure.axes).reshape(2, 3)
    assert [[len(cell.images) for cell in line] for line in cells] == [[1, 1, 1], [1, 1, 0]]
    assert [[len(cell.patches) for cell in line] for line in cells] == [[0, 0, 1], [0, 1, 0]]
    assert cells[0, 2].get_title() in ("$dog$ 猫", "2 $dog$ □")
    np.testing.assert_array_equal(cells[0, 1].images[0].get_array(), grey)
