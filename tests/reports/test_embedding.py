"""Maps of codes: scikit-learn's principal components, and sense where there is little to lay out."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tlkit import plots
from tlkit.reports import maps


def _codes(n: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(n, 40)) + 4 * np.eye(40)[np.arange(n) % 3]).astype(np.float32)


def test_components_are_those_of_scikit_learn() -> None:
    codes = _codes(60)
    title, plane = maps([codes], seed=0)["pca"]
    reference = PCA(2, svd_solver="full").fit(codes.astype(np.float64))
    expected = reference.transform(codes.astype(np.float64))
    scale = np.linalg.norm(codes - codes.mean(axis=0))
    np.testing.assert_allclose(np.abs(plane) * scale, np.abs(expected), rtol=1e-4, atol=1e-3)
    assert title == f"PCA, {reference.explained_variance_ratio_.sum():.0%} of the variance"


def test_a_loud_tap_weighs_no_more_than_another() -> None:
    quiet, loud = _codes(60), _codes(60, seed=1)
    np.testing.assert_allclose(
        maps([quiet, loud], 0)["pca"][1], maps([quiet, 1000 * loud], 0)["pca"][1], rtol=1e-3, atol=1e-5
    )


def test_classes_lie_apart_and_the_same_twice() -> None:
    _, plane = maps([_codes(90)], seed=0)["tsne"]
    centres = np.stack([plane[label::3].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(plane[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == np.arange(90) % 3).mean() > 0.95
    np.testing.assert_array_equal(plane, maps([_codes(90)], seed=0)["tsne"][1])


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_images_have_no_tsne(n: int) -> None:
    found = maps([_codes(n)], seed=0)
    assert found.keys() == {"pca"}
    assert found["pca"][1].shape == (n, 2)


def test_equal_codes_are_one_point() -> None:
    found = maps([np.ones((20, 5), dtype=np.float32)], seed=0)
    assert found.keys() == {"pca"}
    assert np.abs(found["pca"][1]).max() < 1e-6


@pytest.mark.parametrize("classes", [2, 15, 200])
def test_any_number_of_classes_is_drawn(classes: int) -> None:
    points = np.random.default_rng(0).normal(size=(400, 2))
    labels = np.arange(400) % classes
    figure = plots.embedding(points, labels, [f"$class_{n}$" for n in range(classes)], labels == 0, "PCA")
    figure.canvas.draw()
    named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert len(named) == (classes + 1 if classes <= 20 else 1)
