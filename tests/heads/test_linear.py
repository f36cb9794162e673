"""Paths of linear classifiers against LinearSVC, LogisticRegression and float64."""

from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tlkit.heads.linear import Affine, Loss, Path, Rows, fit_paths, scores

Matrix = NDArray[Any]
Labels = NDArray[np.int64]
Set = tuple[NDArray[np.float32], Labels]

LOSSES: tuple[Loss, ...] = ("squared_hinge", "softmax")


def realistic(n: int, d: int, k: int, seed: int = 0) -> Set:
    """Codes like pooled activations: not negative, half of them 0, correlated, classes that overlap."""
    random = np.random.default_rng(seed)
    strength = (1 + np.arange(30)) ** -0.5
    labels = random.permutation(np.arange(n) % k)
    hidden = (0.7 * random.normal(size=(k, 30))[labels] + random.normal(size=(n, 30))) * strength
    codes = hidden @ random.normal(size=(30, d)) / 2 + 0.4 * random.normal(size=(n, d)) - random.normal(0.3, 0.5, d)
    return np.maximum(codes, 0).astype(np.float32) * random.lognormal(0, 0.5, d).astype(np.float32), labels


def fit(codes: Rows, labels: Labels, grid: list[float], **settings: object) -> Path:
    k = int(labels.max()) + 1
    given: dict[str, Any] = {"loss": "squared_hinge", "standard": False, "weights": np.ones(k)}
    (path,) = fit_paths(codes, labels, k, grid, **given | {"subsets": [np.arange(len(labels))]} | settings)
    return path


def standardised(codes: Matrix, standard: bool) -> tuple[Matrix, Matrix, Matrix]:
    mean, spread = np.zeros(codes.shape[1]), np.ones(codes.shape[1])
    if standard:
        mean, spread = codes.mean(axis=0, dtype=float), codes.std(axis=0, dtype=float)
        spread[spread == 0] = 1
    return (codes - mean) / spread, mean, spread


def hinge_objective(codes: Matrix, labels: Labels, coef: Matrix, offset: Matrix, C: float, costs: Matrix) -> Matrix:
    """Return LinearSVC's objective of each class, float64 (k,); `costs` (n, k)."""
    signs = np.where(labels[:, None] == np.arange(len(coef)), 1, -1)
    slack = np.maximum(0, 1 - signs * (codes @ coef.T + offset))
    value: Matrix = (np.square(coef).sum(axis=1) + offset**2) / 2 + C * (costs * slack**2).sum(axis=0)
    return value


def softmax_objective(codes: Matrix, labels: Labels, coef: Matrix, offset: Matrix, C: float, costs: Matrix) -> float:
    found = codes @ coef.T + offset
    loss = logsumexp(found, axis=1) - found[np.arange(len(labels)), labels]
    return float(np.square(coef).sum() / 2 + C * (costs * loss).sum())


def unfolded(affine: Affine, mean: Matrix, spread: Matrix) -> tuple[Matrix, Matrix]:
    """Return the map on standardised codes that the map on raw codes is."""
    coef = affine.coef.astype(float)
    return coef * spread, affine.intercept + coef @ mean


def close(found: Matrix, expected: Matrix) -> None:
    """Scores of solutions whose objectives are within 1e-5 of the minimum: what is left is the square root of that."""
    assert found.shape == expected.shape
    assert np.sqrt(np.mean((found - expected) ** 2)) <= 0.01 * max(1.0, np.sqrt(np.mean(expected**2)))


@pytest.fixture(params=["one by one", "side by side"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways that the solver goes, whatever the size."""
    way: str = request.param
    if way == "side by side":
        monkeypatch.setattr("tlkit.heads.linear._FEW", 0)
    return way


GRID = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize(("n", "d"), [(120, 300), (300, 60)])
def test_the_hinge_objective_is_that_of_linearsvc_or_lower(n: int, d: int, standard: bool) -> None:
    codes, labels = realistic(n, d, 5)
    data, mean, spread = standardised(codes, standard)
    weights = np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    path = fit(codes, labels, GRID, standard=standard, weights=weights)
    costs = np.where(labels[:, None] == np.arange(5), weights, 1.0)
    for C, affine in zip(GRID, path.maps, strict=True):
        # liblinear's primal solver does not converge in time at large C, its dual one does where n < d.
        svm = LinearSVC(C=C, class_weight=dict(enumerate(weights)), tol=1e-6, dual=n < d, max_iter=5000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            svm.fit(data, labels)
        expected = hinge_objective(data, labels, svm.coef_, svm.intercept_, C, costs)
        found = hinge_objective(data, labels, *unfolded(affine, mean, spread), C, costs)
        assert (found <= expected * (1 + 5e-5)).all()
        if C <= 0.01:  # where the reference is known to be the optimum too
            np.testing.assert_allclose(found, expected, rtol=5e-5)
    assert all(record["gradient"] < 1e-3 for record in path.convergence)
    assert all(record["converged"] and record["gradient"] <= 1e-5 for record in path.convergence[:6])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize(("n", "d"), [(100, 250), (300, 40)])
@pytest.mark.parametrize("k", [2, 4])
def test_the_softmax_objective_is_that_of_logistic_regression_or_lower(n: int, d: int, k: int, standard: bool) -> None:
    codes, labels = realistic(n, d, k)
    data, mean, spread = standardised(codes, standard)
    weights = np.linspace(0.5, 2, k)
    grid = [1e-5, 1e-3, 1e-1, 1.0, 10.0]
    path = fit(codes, labels, grid, loss="softmax", standard=standard, weights=weights)
    factor = 2 if k == 2 else 1  # of two classes, half the difference of the scores is each
    for C, affine in zip(grid, path.maps, strict=True):
        reference = LogisticRegression(C=C, class_weight=dict(enumerate(weights)), tol=1e-9, max_iter=10_000)
        reference.fit(data, labels)
        coef, offset = reference.coef_, reference.intercept_
        if k == 2:
            coef, offset = np.vstack([-coef, coef]) / 2, np.concatenate([-offset, offset]) / 2
        expected = softmax_objective(data, labels, coef, offset, C / factor, weights[labels])
        found = softmax_objective(data, labels, *unfolded(affine, mean, spread), C / factor, weights[labels])
        assert found <= expected * (1 + 1e-4)
        if C <= 1:
            probabilities = softmax(scores(codes, affine), axis=1)
            np.testing.assert_allclose(probabilities, reference.predict_proba(data), atol=5e-3)
    assert all(record["converged"] for record in path.convergence)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("k", [2, 3, 10])
def test_scores_equal_linearsvc_on_images(digits: Set, k: int, standard: bool, balanced: bool) -> None:
    codes, labels = digits
    rows = (labels < k) & ((labels > 0) | (np.arange(len(labels)) % 4 == 0))  # fewer zeros, so that weights matter
    codes, labels = codes[rows], labels[rows]
    data = standardised(codes, standard)[0]
    C, weights = 1e-3, len(labels) / (k * np.bincount(labels)) if balanced else np.ones(k)
    (affine,) = fit(codes, labels, [C], standard=standard, weights=weights).maps
    svm = LinearSVC(C=C, class_weight=dict(enumerate(weights)), tol=1e-9, max_iter=10**6).fit(data, labels)
    found, expected = scores(codes, affine), svm.decision_function(data)
    np.testing.assert_allclose(found[:, 1] if k == 2 else found, expected, atol=1e-2)
    if k == 2:
        np.testing.assert_array_equal(found[:, 0], -found[:, 1])


shapes = {"n": st.integers(12, 60), "d": st.integers(1, 60), "seed": st.integers(0, 99)}


@given(**shapes, loss=st.sampled_from(LOSSES), standard=st.booleans(), C=st.sampled_from([1e-4, 1e-2, 1.0]))
@settings(deadline=None, max_examples=40)
def test_order_of_rows_and_classes_does_not_matter(
    n: int, d: int, seed: int, loss: Loss, standard: bool, C: float
) -> None:
    codes, labels = realistic(n, d, 3, seed)
    rows = np.random.default_rng(seed).permutation(n)
    (here,) = fit(codes, labels, [C], loss=loss, standard=standard).maps
    (there,) = fit(codes[rows], 2 - labels[rows], [C], loss=loss, standard=standard).maps
    close(scores(codes, here), scores(codes, there)[:, ::-1])


def test_codes_without_content_leave_nothing_to_rounding() -> None:
    (path,) = fit(np.zeros((12, 1), np.float32), np.arange(12) % 3, [0.01], loss="softmax").maps
    np.testing.assert_allclose(scores(np.zeros((1, 1), np.float32), path), 0, atol=1e-6)


@given(**shapes, loss=st.sampled_from(LOSSES), standard=st.booleans())
@settings(deadline=None, max_examples=25)
def test_copies_of_rows_are_weights(n: int, d: int, seed: int, loss: Loss, standard: bool) -> None:
    """Twice the rows are twice the C, and in the softmax twice the rows of one class are twice its weight."""
    codes, labels = realistic(n, d, 3, seed)
    (twice,) = fit(np.vstack([codes, codes]), np.tile(labels, 2), [0.05], loss=loss, standard=standard).maps
    (once,) = fit(codes, labels, [0.1], loss=loss, standard=standard).maps
    close(scores(codes, twice), scores(codes, once))
    if loss == "softmax" and not standard:
        rows = np.append(np.arange(n), np.flatnonzero(labels == 1))
        (copied,) = fit(codes[rows], labels[rows], [0.1], loss=loss).maps
        (weighted,) = fit(codes, labels, [0.1], loss=loss, weights=np.array([1.0, 2.0, 1.0])).maps
        close(scores(codes, copied), scores(codes, weighted))


@given(shift=st.floats(-100, 100), stretch=st.floats(0.01, 100), constant=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_the_scaling_is_folded_in(shift: float, stretch: float, constant: float, seed: int) -> None:
    """Fitted on moved and stretched codes, the map gives them the scores that the original codes have."""
    random = np.random.default_rng(seed)
    labels = np.arange(30) % 3
    for d in (5, 50):
        codes = random.normal(size=(30, d)) + labels[:, None]
        codes[:, 4] = constant
        moved = codes * stretch + shift
        found = [scores(data, fit(data, labels, [0.1], standard=True).maps[0]) for data in (codes, moved)]
        # The map is float32: it cannot tell codes apart whose shift is 1e7 times their spread.
        noise = 1e-6 * d * (np.abs(shift) / stretch + np.abs(constant))
        np.testing.assert_allclose(found[0], found[1], atol=0.02 + noise)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("d", [30, 200])
def test_subsets_together_equal_subsets_alone(loss: Loss, d: int) -> None:
    codes, labels = realistic(150, d, 4)
    subsets = [np.flatnonzero(np.arange(150) % 5 != fold) for fold in range(5)]
    for standard in (False, True):
        settings: dict[str, Any] = {"loss": loss, "standard": standard, "weights": np.array([1.0, 2.0, 1.0, 0.5])}
        calls: list[int] = []
        paths = fit_paths(codes, labels, 4, [1e-3, 1e-1], **settings, subsets=subsets, done=calls.append)
        assert calls == sorted(calls)
        assert calls[-1] == 5
        for rows, path in zip(subsets, paths, strict=True):
            alone = fit(codes[rows], labels[rows], [1e-3, 1e-1], **settings)
            for here, there in zip(path.maps, alone.maps, strict=True):
                close(scores(codes, here), scores(codes, there))


class Lazy:
    """Codes that are made when they are asked for; counts the rows that were read."""

    def __init__(self, codes: Matrix) -> None:
        self.codes, self.shape, self.dtype, self.rows = codes, codes.shape, codes.dtype, 0

    def __getitem__(self, rows: slice) -> Matrix:
        assert isinstance(rows, slice)
        found: Matrix = self.codes[rows].copy()
        self.rows += len(found)
        return found


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "d"), [(900, 5), (400, 30)])
def test_streamed_equals_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: File, n: int, d: int, loss: Loss, standard: bool
) -> None:
    """With many more rows than dimensions (a sample of them preconditions), and without."""
    monkeypatch.setattr("tlkit.heads.blocks._NUMBERS", 0)  # the shortest blocks, of 256 rows
    codes, labels = realistic(n, d, 4)
    file = np.memmap(tmp_path / "codes", dtype=np.float32, mode="w+", shape=codes.shape)
    file[:] = codes
    settings: dict[str, Any] = {"loss": loss, "standard": standard}
    grid = [1e-4, 1e-2, 1.0]
    memory = fit(codes, labels, grid, stream=False, **settings)
    table = Lazy(codes)
    for source in (file, table):
        streamed = fit(source, labels, grid, stream=True, **settings)
        for here, there in zip(memory.maps, streamed.maps, strict=True):
            close(scores(codes, here), scores(source, there))
        assert all(record["converged"] for record in [*streamed.convergence, *memory.convergence])
    assert table.rows > n


def test_a_sample_that_preconditions_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlkit.heads.linear._FEW", 0)
    codes, labels = realistic(1500, 5, 3)
    found = []
    for sample in (64, 10**6):
        monkeypatch.setattr("tlkit.heads.paths._SAMPLE", sample)
        found.append(fit(codes, labels, [1e-4, 1e-1, 10.0], standard=True))
    for here, there in zip(found[0].maps, found[1].maps, strict=True):
        close(scores(codes, here), scores(codes, there))
        assert not np.array_equal(here.coef, there.coef)


@pytest.mark.parametrize("loss", LOSSES)
def test_columns_in_parts_change_nothing(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    monkeypatch.setattr("tlkit.heads.linear._FEW", 0)
    codes, labels = realistic(200, 20, 4)
    whole = fit(codes, labels, [1e-2, 1.0], loss=loss)
    monkeypatch.setattr("tlkit.heads.paths._WORKING", 1)
    parts = fit(codes, labels, [1e-2, 1.0], loss=loss)
    for here, there in zip(whole.maps, parts.maps, strict=True):
        close(scores(codes, here), scores(codes, there))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("d", [20, 300])
@pytest.mark.parametrize("present", [[0], [0, 2], [0, 2, 3]])
def test_a_class_without_rows_scores_lowest(loss: Loss, d: int, present: list[int]) -> None:
    codes, labels = realistic(100, d, 5)
    subset = np.flatnonzero(np.isin(labels, present))
    path = fit(codes, labels, [0.01], loss=loss, standard=True, subsets=[subset])
    found = scores(codes, path.maps[0])
    missing = np.setdiff1d(range(5), present)
    assert (found[:, missing] == -np.inf).all()
    assert np.isfinite(found[:, present]).all()
    assert np.mean(found[subset].argmax(axis=1) == labels[subset]) > 0.8
    assert scores(codes, path.maps[0], subset).tolist() == found[subset].tolist()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("codes", [np.zeros((8, 3)), np.zeros((8, 20)), np.ones((8, 20)), np.eye(8)[:, [0] * 20]])
def test_codes_that_tell_nothing(loss: Loss, codes: Matrix) -> None:
    for standard in (False, True):
        path = fit(codes.astype(np.float32), np.arange(8) % 2, [1e-3, 1.0, 1e3], loss=loss, standard=standard)
        assert all(np.isfinite(affine.coef).all() for affine in path.maps)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8])
def test_other_kinds_of_numbers(digits: Set, dtype: type) -> None:
    codes, labels = digits
    (here,) = fit(codes, labels, [1e-3], standard=True).maps
    (there,) = fit(codes.astype(dtype), labels, [1e-3], standard=True).maps
    np.testing.assert_allclose(here.coef, there.coef, atol=1e-4)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    fit(*realistic(30, 10, 2), [1.0])
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("C", [1e6, 1e10])
def test_a_penalty_that_all_but_vanishes_ends(C: float) -> None:
    for n, d in ((60, 10), (30, 60)):
        for loss in LOSSES:
            path = fit(*realistic(n, d, 2), [C], loss=loss)
            assert np.isfinite(path.maps[0].coef).all()
