"""Diagrams of networks: few boxes in a row, and labels that neither overlap nor are cut."""

from dataclasses import replace
from itertools import combinations, pairwise
from math import prod

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tlkit import diagrams, registry
from tlkit.backbones.summary import Summary, summarize

NETWORKS = ["tiny", "vgg16", "resnet50", "mobilenetv2_100", "timm/inception_v3", "timm/vit_tiny_patch16_224"]


def summary_of(name: str) -> Summary:
    with torch.device("meta"):
        return summarize(registry.build("backbone", {**registry.choice_settings("backbone", name), "weights": None}))


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_neither_overlap_nor_are_cut(name: str) -> None:
    figure = diagrams.network(summary_of(name))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    boxes.append(figure.legends[0].get_window_extent(renderer))
    assert len(boxes) > 7
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    for box in boxes:
        assert figure.bbox.contains(box.x0, box.y0)
        assert figure.bbox.contains(box.x1, box.y1)
    drawn = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches]
    assert not [(a, b) for a in drawn for b in boxes if a.overlaps(b)]
    assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in drawn)


def test_a_chain_is_drawn_layer_by_layer() -> None:
    drawn = diagrams.blocks(summary_of("vgg16").layers)
    assert [block.what for block in drawn[:4]] == ["input", "conv 3x3", "conv 3x3", "max pool 2x2/2"]
    assert len(drawn) == 1 + 13 + 5 + 3
    sides = [prod(block.output[:-1]) for block in drawn]
    assert all(after <= before for before, after in pairwise(sides))


@pytest.mark.parametrize(
    ("name", "boxes"), [("resnet50", 3 + 16 + 2), ("timm/inception_v3", 1 + 7 + 11 + 2), ("timm/resnet101", 3 + 4 + 2)]
)
def test_branches_are_one_box(name: str, boxes: int) -> None:
    drawn = diagrams.blocks(summary_of(name).layers)
    assert len(drawn) == boxes
    assert "several layers" in {block.kind for block in drawn}


def test_more_layers_than_boxes_are_joined() -> None:
    layer = summary_of("tiny").layers[1]
    many = [replace(layer, name=f"layer{row}", inputs=(row - 1,), stages=()) for row in range(100)]
    drawn = diagrams.blocks([replace(row, stages=(row.name,)) for row in many])
    assert len(drawn) == 28
    assert drawn[0].name.startswith("layer0 to layer")
    assert drawn[-1].name == "layer99"


@pytest.mark.parametrize("name", ["timm/dla34", pytest.param("timm/nasnetalarge", marks=pytest.mark.full)])
def test_networks_that_are_no_chain_are_drawn_as_well(name: str) -> None:
    assert 2 < len(diagrams.blocks(summary_of(name).layers)) <= 28
