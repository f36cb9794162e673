"""Pages: nothing is cut or overlaps, whatever the names, sizes and numbers of pictures."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlkit.visualize.pages import MAPS, ROWS, ImageRow, MapPanel, attribution_page, filter_grid, projection_page, tiled

RANDOM = np.random.default_rng(0)
ODD = [
    "猫",
    "$x_1$",
    "a\nb\t",
    "שלום עולם",
    "🐝 bee",
    "",
    "\x00\ud800",
    "northern short-tailed shrew of the woods " * 3,
]
CAPTION = "Zeiler and Fergus 2013, section 2.1: unpooling with switches, ReLU of the signal, transposed filters. " * 2


def in_order(figure: Figure) -> None:
    """Check that the border of the picture is empty, and that each text is inside and on no other one."""
    figure.set_dpi(110)  # as it is saved
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    saved = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    assert all((edge > 200).all() for edge in (saved[:2], saved[-2:], saved[:, :2], saved[:, -2:]))
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    texts = [*figure.texts, *(part for axes in figure.axes for part in axes.get_children() if isinstance(part, Text))]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text().strip()]
    assert boxes
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    for one, other in combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1))


@pytest.mark.parametrize(("n", "channels", "size"), [(32, 3, 3), (96, 3, 11), (6, 1, 5), (200, 3, 16), (1, 4, 1)])
def test_filters(n: int, channels: int, size: int) -> None:
    weights = RANDOM.normal(size=(n, channels, size, size)).astype(np.float32)
    dead = np.arange(0, n, 7)
    weights[dead] *= 1e-6
    title = f"somenet (random weights)\nconv1: {n} filters, dead: {', '.join(map(str, dead))}"
    figure = filter_grid(weights, dead, title)
    in_order(figure)
    assert len(figure.axes[0].patches) == len(dead)
    assert len(figure.axes[0].texts) == (n if n <= 128 else 0)


def test_dead_filters_are_grey_and_others_use_the_whole_range() -> None:
    weights = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights[2] *= 1e-6
    sheet = filter_grid(weights, np.array([2]), "x").axes[0].images[0].get_array()
    assert sheet is not None
    side = (sheet.shape[0] - 14 - 10) // 2
    assert np.abs(np.asarray(sheet)[side + 24 :, :side] - 0.5).max() < 1e-4
    assert np.abs(np.asarray(sheet)[:side, :side] - 0.5).max() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("maps", "images", "channels"), [(1, 2, 1), (2, 9, 3), (MAPS, 9, 3)])
def test_projections(maps: int, images: int, channels: int) -> None:
    shapes = [(RANDOM.integers(1, 40), RANDOM.integers(1, 40), channels) for _ in range(images)]
    panels = [
        MapPanel(
            f"map {n}: activations 1.23e+04 to 1.2e-05",
            [RANDOM.integers(0, 256, shape, dtype=np.uint8) for shape in shapes],
            [RANDOM.normal(size=shape).astype(np.float32) for shape in shapes],
        )
        for n in range(maps)
    ]
    in_order(projection_page(panels, "alexnet (random weights), tap conv3: what its maps respond to most", CAPTION))


def row(
    file: str, truth: str | None, predicted: str, other: str, channels: int = 3, size: tuple[int, int] = (48, 64)
) -> ImageRow:
    cam = RANDOM.random(size).astype(np.float32)
    pixels = RANDOM.integers(0, 256, (*size, channels), dtype=np.uint8)
    guided = RANDOM.normal(size=(*size, channels)).astype(np.float32)
    return ImageRow(file, truth, predicted, 0.75, other, 0.25, pixels, (cam, np.zeros_like(cam)), guided)


@pytest.mark.parametrize("n", [1, ROWS])
def test_attributions_with_odd_names(n: int) -> None:
    rows = [row(f"val/{ODD[k % 8]}.jpg", ODD[(k + 1) % 8], ODD[(k + 2) % 8], ODD[(k + 3) % 8]) for k in range(n + 2)]
    name = "guided backprop (14 ReLUs; Hardswish by its gradient)"
    in_order(attribution_page(rows[2:], ("Grad-CAM at stages.3.blocks.11", name), CAPTION))


@pytest.mark.parametrize("size", [(64, 64), (64, 48)])
def test_attributions_of_other_shapes(size: tuple[int, int]) -> None:
    rows = [row("a.jpg", "ants", "bees", "ants", size=size) for _ in range(2)]
    in_order(attribution_page(rows, ("Grad-CAM at blocks.6", "guided backprop"), CAPTION))


def test_attributions_of_grey_images_without_labels() -> None:
    figure = attribution_page([row("1.png", None, "a", "b", channels=1)], ("Grad-CAM at pool5", "guided backprop"), "x")
    in_order(figure)
    words = " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))
    assert "true:" not in words
    assert "WRONG" not in words
    assert "b, p = 0.250: nothing for it" in words


def test_wrong_predictions_say_so() -> None:
    figure = attribution_page([row("1.png", "b", "a", "b")], ("Grad-CAM at x", "guided backprop"), "x")
    assert "WRONG" in figure.axes[0].texts[0].get_text()


def test_tiles_stand_in_rows() -> None:
    pictures = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 1, 3), np.float32)
    assert tiled(pictures, 2, (1, 1), 9.0)[..., 0].tolist() == [[0, 9, 1], [9, 9, 9], [2, 9, 9]]
