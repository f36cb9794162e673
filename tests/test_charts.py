"""Charts of many networks: what they show, and that labels neither overlap nor are cut."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlkit import charts
from tlkit.backbones import Record, Reference


def record(top1: float | None, macs: float, params: float, year: int = 2015) -> Record:
    reference = Reference("paper", "authors", year, "url", params=params, macs=macs, top1=top1)
    return Record("family", reference, (3, 224, 224), params=int(params), macs=int(macs))


def crowd(n: int, seed: int = 0) -> list[tuple[str, Record]]:
    random = np.random.default_rng(seed)
    ops, sizes = 10 ** random.uniform(8.5, 10.5, n), 10 ** random.uniform(6, 8.2, n)
    accuracy = 60 + 8 * np.log10(ops / 3e8) + random.normal(size=n)
    years = random.integers(2012, 2019, n)
    return [
        (f"network_{row}_of_{n}", record(float(accuracy[row]), ops[row], sizes[row], int(years[row])))
        for row in range(n)
    ]


def check_labels(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    legend = axes.get_legend()
    boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]  # an annotation's own has its line in it
    boxes += [legend.get_window_extent(renderer)] if legend else []
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    inside = axes.get_window_extent(renderer)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    outside = [axes.title, axes.xaxis.label, axes.yaxis.label, *figure.texts]
    for text in outside:
        box = text.get_window_extent(renderer)
        assert figure.bbox.contains(box.x0, box.y0)
        assert figure.bbox.contains(box.x1, box.y1)


def test_the_timeline_shows_every_winner() -> None:
    figure = charts.timeline()
    check_labels(figure)
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"before 2012 26.2", "AlexNet 15.3", "ZFNet 14.8", "VGG 7.3", "GoogLeNet 6.7", "ResNet 3.57"} < labels
    assert {"fusion (Shao et al.) 2.99", "SENet 2.25", "a trained human: about 5"} < labels


@pytest.mark.parametrize("n", [1, 2, 15, 45])
def test_labels_of_bubbles(n: int) -> None:
    figure = charts.bubbles(crowd(n, seed=n))
    check_labels(figure)
    assert {text.get_text() for text in figure.axes[0].texts} == {name for name, _ in crowd(n, seed=n)}


def test_equal_points_can_still_be_told_apart() -> None:
    near = [(f"net{row}", record(75 + 0.001 * row, 4e9, 25e6)) for row in range(12)]
    check_labels(charts.bubbles(near))


def test_networks_without_published_accuracy_are_counted() -> None:
    known = [("a", record(70, 1e9, 5e6)), ("a_too", record(70, 1e9, 5e6)), ("b", record(75, 4e9, 25e6))]
    figure = charts.bubbles([*known, ("c", record(None, 1e9, 1e6)), ("d", record(None, 1e9, 1e6))])
    assert {text.get_text() for text in figure.axes[0].texts} == {"a, a_too", "b"}
    (note,) = [text.get_text() for text in figure.texts]
    assert note.startswith("3 networks;")
    assert "2 networks without a published top-1 accuracy are left out" in note
    (dots,) = [found for found in figure.axes[0].collections if len(np.asarray(found.get_offsets())) == 2]
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), [[1, 70], [4, 75]])
