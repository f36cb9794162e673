"""Pictures of many runs: what they show, and that no name is cut or overlaps another."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from tlkit.comparison import pictures

ACCURACY = [0.967, 0.967, 0.965, 0.961, 0.961, 0.954, 0.95, 0.94, 0.935, 0.7]
MACS = [3e8, 3e8, 3e8, 4.1e9, 4.1e9, 1.8e9, 15.5e9, 5.7e8, 5.7e8, 4.5e7]
PARAMS = [3.5e6, 3.5e6, 3.5e6, 25.6e6, 25.6e6, 11.7e6, 138e6, 4.2e6, 4.2e6, 1.3e6]
SECONDS = [0.3, 0.3, 12, 60, 70, 400, 5000, 11, 11, 2]
LONG = [f"{i}  $sweep_of_{'learning_rates_' * 6}$/{i}-strategy.head=猫_<b>" for i in range(1, 11)]
SHORT = [str(i) for i in range(1, 11)]


def drawn(figure: Figure) -> RendererAgg:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return canvas.get_renderer()  # type: ignore[no-untyped-call, no-any-return]


def names_of(axes: Axes) -> list[Text]:
    beside: list[Text] = [text for text in axes.texts if isinstance(text, Annotation)]
    return beside or axes.get_yticklabels()


def ticks(axes: Axes) -> tuple[list[Text], list[Text]]:
    """The numbers that are drawn along both axes."""
    across = [label for label in axes.get_xticklabels() if within(label.get_position()[0], axes.get_xlim())]
    return across, [label for label in axes.get_yticklabels() if within(label.get_position()[1], axes.get_ylim())]


def within(place: float, limits: tuple[float, float]) -> bool:
    return min(limits) <= place <= max(limits)


def texts(figure: Figure) -> list[Text]:
    (axes,) = figure.axes
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    across, down = ticks(axes)
    every = [*across, *down, *names_of(axes), *legends, axes.title, axes.xaxis.label, axes.yaxis.label]
    return [text for text in every if text.get_text()]


def pictures_of(names: list[str], n: int) -> list[Figure]:
    accuracy = ACCURACY[:n]
    intervals = [(value - 0.03, min(1, value + 0.02)) for value in accuracy]
    return [
        pictures.leaderboard(names[:n], accuracy, intervals, [row < n / 2 for row in range(n)]),
        pictures.accuracy_by_operations(names[:n], accuracy, MACS[:n], PARAMS[:n]),
        pictures.accuracy_by_time(names[:n], accuracy, SECONDS[:n]),
    ]


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("names", [LONG, SHORT], ids=["long", "short"])
def test_no_name_is_cut_or_overlaps_another(names: list[str], n: int) -> None:
    for figure in pictures_of(names, n):
        renderer = drawn(figure)
        (axes,) = figure.axes
        for text in texts(figure):
            box = Text.get_window_extent(text, renderer)  # of an annotation without its line
            assert min(box.x0, box.y0) >= -0.5, text
            assert box.x1 <= renderer.width + 0.5, text
            assert box.y1 <= renderer.height + 0.5, text
        for labels in (names_of(axes), *ticks(axes)):
            boxes = [Text.get_window_extent(label, renderer) for label in labels]
            assert all(not a.overlaps(b) for a, b in pairwise(boxes))
        assert axes.get_window_extent(renderer).width > 250


def test_each_point_is_where_it_belongs_and_has_its_name() -> None:
    figure = pictures.accuracy_by_operations(SHORT, ACCURACY, MACS, PARAMS)
    (axes,) = figure.axes
    (points,) = axes.collections
    np.testing.assert_allclose(np.asarray(points.get_offsets()), np.transpose([MACS, ACCURACY]))
    sizes = np.asarray(points.get_sizes())  # type: ignore[attr-defined]
    np.testing.assert_allclose(sizes / sizes.max(), np.array(PARAMS) / max(PARAMS))
    notes = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [(note.get_text().split()[0], note.xy) for note in notes] == [
        (name, (x, y)) for name, x, y in zip(SHORT, MACS, ACCURACY, strict=True)
    ]
    assert notes[6].get_text() == "7  138.0 M"
    places = [note.xyann[1] for note in notes]
    assert places == sorted(places, reverse=True)  # the best on top, as its point is


def test_the_leaderboard_has_the_best_on_top_and_marks_what_ties_with_it() -> None:
    figure = pictures.leaderboard(
        ["a", "b", "c"], [0.9, 0.8, 0.7], [(0.85, 0.95), (0.7, 0.9), (0.6, 0.8)], [True, True, False]
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    ends = [np.asarray(bar.get_segments())[:, :, 0] for bar in axes.collections]  # type: ignore[attr-defined]
    np.testing.assert_allclose(ends[0], [[0.85, 0.95], [0.7, 0.9]])
    np.testing.assert_allclose(ends[1], [[0.6, 0.8]])


def test_of_very_many_runs_the_first_are_named() -> None:
    names, accuracy = [f"run {i}" for i in range(300)], np.linspace(1, 0.5, 300)
    board = pictures.leaderboard(names, accuracy, np.transpose([accuracy - 0.1, accuracy]), [True] * 300)
    points = pictures.accuracy_by_time(names, accuracy, np.geomspace(1e-3, 1e6, 300))
    for figure in (board, points):
        drawn(figure)
        assert names_of(figure.axes[0])[0].get_text().startswith("run 0")
        assert len(names_of(figure.axes[0])) <= 40
        assert max(figure.get_size_inches()) < 16
    assert len(np.asarray(points.axes[0].collections[0].get_offsets())) == 300


@given(places=st.lists(st.floats(0, 1), min_size=1, max_size=40), gap=st.floats(0.01, 0.3))
@settings(deadline=None, max_examples=80)
def test_places_are_moved_apart_and_keep_their_order(places: list[float], gap: float) -> None:
    moved = pictures.spread(places, gap)
    kept = min(gap, 1 / max(1, len(places) - 1))
    order = np.argsort(moved)
    assert (np.diff(moved[order]) >= kept - 1e-9).all()
    assert (np.diff(np.array(places)[order]) >= 0).all()
    assert moved.min() >= -1e-9
    assert moved.max() <= 1 + 1e-9
    far = np.diff(np.sort(places)) if len(places) > 1 else np.array([1.0])
    if (far >= kept).all():
        np.testing.assert_allclose(moved, places, atol=1e-9)


@pytest.mark.parametrize("low", [0.0, -0.4])
def test_a_number_for_each_pair(low: float) -> None:
    values = np.array([[9.0, 0.1, low], [0.1, 9.0, 0.5], [low, 0.5, 9.0]])
    figure = pictures.pairwise(values, ["first", LONG[0], "$"], "disagreement")
    renderer = drawn(figure)
    axes, scale = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == sorted(["0.1", "0.5", f"{low:.2g}"] * 2)
    assert axes.images[0].get_clim() == ((0, 0.5) if low == 0 else (-0.5, 0.5))
    assert scale.get_ylabel() == "disagreement"
    names = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    page = figure.bbox
    for name in names:
        box = name.get_window_extent(renderer)
        assert min(box.x0 - page.x0, page.x1 - box.x1, box.y0 - page.y0, page.y1 - box.y1) >= 0


def test_one_run_has_no_pair() -> None:
    drawn(pictures.pairwise([[1.0]], ["alone"], "disagreement"))
