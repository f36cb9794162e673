"""Formula-driven pictures: the same for a seed, alike within a class, different between classes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from tlkit_plugins.tiny.fractals import FAMILIES, MOST_MAPS, dataset, ifs, ifs_points, render


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_depend_on_the_seed_only(family: str) -> None:
    first, labels = dataset({family: 3}, 4, size=24, seed=5)
    torch.rand(7)
    again, _ = dataset({family: 3}, 4, size=24, seed=5)
    other, _ = dataset({family: 3}, 4, size=24, seed=6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (12, 24, 24)
    assert first.dtype == torch.uint8
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_can_be_told_apart_and_images_of_a_class_differ(family: str) -> None:
    pictures, labels = dataset({family: 8}, 12, size=24, seed=0)
    flat = pictures.flatten(1).float().numpy()
    assert len(np.unique(flat, axis=0)) > 0.95 * len(flat)
    assert cross_val_score(KNeighborsClassifier(3), flat, labels.numpy(), cv=4).mean() > 0.6  # chance is 0.125


def test_parts_have_other_images_of_the_same_classes() -> None:
    first, labels = dataset({"ifs": 6}, 8, size=24, seed=0)
    second, _ = dataset({"ifs": 6}, 8, size=24, seed=0, part=1)
    assert not torch.equal(first, second)
    neighbours = KNeighborsClassifier(1).fit(first.flatten(1), labels)
    assert neighbours.score(second.flatten(1), labels) > 0.6


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_ifs_keep_the_bounds_of_the_paper(seed: int) -> None:
    systems = ifs(5, torch.Generator().manual_seed(seed))
    assert systems.shape == (5, MOST_MAPS, 7)
    singular = torch.linalg.svdvals(systems[..., :4].reshape(-1, MOST_MAPS, 2, 2))
    used = systems[..., 6] > 0
    maps = used.sum(1)
    factor = ((singular[..., 0] + 2 * singular[..., 1]) * used).sum(1)
    assert (singular[used] <= 1 + 1e-5).all()
    assert ((factor > (5 + maps) / 2 - 1e-4) & (factor < (6 + maps) / 2 + 1e-4)).all()
    assert torch.allclose(systems[..., 6].sum(1), torch.ones(5))


def test_the_chaos_game_draws_the_attractor_of_the_sierpinski_triangle() -> None:
    corners = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    system = torch.zeros(1, MOST_MAPS, 7)
    system[0, :3, [0, 3]] = 0.5
    system[0, :3, 4:6] = corners
    system[0, :3, 6] = 1 / 3
    points = ifs_points(system, 0.0, 4000, torch.Generator().manual_seed(0))[0]
    # No two binary digits of the coordinates are both 1: that is the triangle.
    x, y = (points.clamp(0, 1 - 1e-6) * 2**8).long().unbind(-1)
    assert ((x & y) == 0).float().mean() > 0.97
    assert len(torch.unique(x)) > 100


def test_render_counts_points_in_logarithmic_brightness() -> None:
    points = torch.tensor([[[-1.0, -1.0]] * 3 + [[0.9, 0.9]] + [[-1.0, 0.9]] * 2])
    picture = render(points, 2)[0]
    expected = np.log1p(np.array([[3, 0], [2, 1]])) / np.log1p(3) * 255
    assert np.array_equal(picture.numpy(), np.round(expected).astype(np.uint8))
