"""The parts of the solver, each against numpy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.heads.basis import basis_of, gram_matrix
from tlkit.heads.direct import direct_step, each_alone, mixture_step, solved
from tlkit.heads.losses import LOSSES, Columns
from tlkit.heads.preconditioner import Preconditioner, second_moment
from tlkit.heads.samples import Samples

Tensor = torch.Tensor


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_subsets(loss: str) -> Columns:
    """Three classes in one subset, two of them in another."""
    subset, label = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 2])
    problem = subset if loss == "softmax" else torch.arange(5)
    positive, negative = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0])
    return Columns(subset, label, problem, positive.double(), negative.double())


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_derivatives_of_the_losses(loss: str) -> None:
    columns, labels = two_subsets(loss), torch.arange(12) % 3
    members = torch.ones(12, 2, dtype=torch.float64)
    members[:4, 0] = members[6:, 1] = 0
    members[labels == 1, 1] = 0  # a subset has a column for each of its classes
    scores = random_tensor(12, 5)

    def value(at: Tensor) -> float:
        return float(LOSSES[loss](at.clone(), labels, members, columns).loss.sum())

    found = LOSSES[loss](scores.clone(), labels, members, columns)
    change, size = random_tensor(12, 5, seed=1), 1e-5
    slope = (value(scores + size * change) - value(scores - size * change)) / (2 * size)
    assert float((found.slope * change).sum()) == pytest.approx(slope, rel=1e-6)
    slopes = [LOSSES[loss](scores + sign * size * change, labels, members, columns).slope for sign in (1, -1)]
    bent = found.hessian().bend(change.clone())
    np.testing.assert_allclose(bent, (slopes[0] - slopes[1]) / (2 * size), atol=1e-6)
    unit = torch.zeros(12, 5, dtype=torch.float64)
    unit[:, 1] = 1
    assert float(found.curvature[1]) == pytest.approx(float(found.hessian().bend(unit)[:, 1].sum()))


def test_columns_taken_are_numbered_again() -> None:
    taken = two_subsets("softmax").take(torch.tensor([False, False, False, True, True]))
    assert taken.problem.tolist() == [0, 0]
    assert taken.groups() == [(1, slice(0, 2))]


@given(active=st.integers(1, 30), d=st.integers(1, 30), seed=st.integers(0, 99))
@settings(deadline=None)
def test_direct_steps(active: int, d: int, seed: int) -> None:
    codes, gradient = random_tensor(active, d, seed=seed), random_tensor(d, seed=seed + 1)
    bends = random_tensor(active, seed=seed + 2).abs() + 0.1
    hessian = np.eye(d) + (codes.T @ (bends[:, None] * codes)).numpy()
    expected = np.linalg.solve(hessian, -gradient.numpy())
    np.testing.assert_allclose(direct_step(codes, bends, gradient), expected, rtol=1e-6, atol=1e-9)


@given(active=st.integers(1, 40), d=st.integers(1, 30), seed=st.integers(0, 99))
@settings(deadline=None)
def test_direct_steps_from_inner_products(active: int, d: int, seed: int) -> None:
    codes, gradient = random_tensor(50, d, seed=seed), random_tensor(d + 1, seed=seed + 1)
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(seed))[:active].sort().values
    bends = random_tensor(active, seed=seed + 2).abs() + 0.1
    augmented = torch.cat([codes, torch.ones(50, 1)], dim=1)[rows]
    mixture = mixture_step(codes @ codes.T, rows, bends, augmented @ gradient)
    expected = direct_step(augmented, bends, gradient)
    np.testing.assert_allclose(augmented.T @ mixture - gradient, expected, rtol=1e-6, atol=1e-8)


def test_a_ridge_that_float32_would_lose_is_kept() -> None:
    matrix = (1e4 * torch.ones(200, 200)).float()
    right = random_tensor(200).float()
    found = solved(matrix, torch.full((200,), 0.01), right)
    expected = np.linalg.solve(matrix.double().numpy() + 0.01 * np.eye(200), right.double().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_work_for_each_column_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    torch.set_num_threads(2)
    try:
        each_alone(seen.append, range(5))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert sorted(seen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("free_bias", [False, True])
def test_the_preconditioner_is_an_inverse(free_bias: bool) -> None:
    codes = random_tensor(50, 6).float() + 1
    samples = Samples(codes, torch.zeros(50, dtype=torch.int64), torch.ones(50, 1))
    preconditioner = Preconditioner(second_moment(samples, centred=free_bias), free_bias)
    gradient, strength = random_tensor(7, 3).float(), torch.tensor([4.0, 4.0, 256.0])
    found = preconditioner.solve(gradient, strength)
    data = (codes - codes.mean(0) if free_bias else codes).double().numpy()
    data = np.hstack([data, np.ones((50, 1))])
    penalty = np.diag([1.0] * 6 + [0.0 if free_bias else 1.0])
    for column, s in enumerate(strength.tolist()):
        expected = np.linalg.solve(penalty + s * data.T @ data / 50, gradient[:, column].numpy())
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("copies", [1, 3])
def test_the_span_keeps_products_and_gives_hyperplanes_back(copies: int) -> None:
    samples = torch.cat([random_tensor(10, 40)] * copies)
    basis = basis_of(samples)
    coordinates = basis.coordinates
    assert coordinates.shape[1] == len(samples)
    np.testing.assert_allclose(coordinates @ coordinates.T, samples @ samples.T, atol=1e-7)
    mixture = random_tensor(len(samples), 2, seed=1)
    coef = basis.coef((coordinates.T @ mixture).float())
    np.testing.assert_allclose(samples @ coef, samples @ samples.T @ mixture, atol=1e-2)


def test_samples_that_are_more_than_their_dimensions_stay() -> None:
    samples = random_tensor(40, 10)
    basis = basis_of(samples)
    assert basis.coordinates is samples
    assert basis.gram() is basis.gram()
    np.testing.assert_allclose(basis.gram(), samples @ samples.T)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 700])
def test_the_gram_matrix_is_whole(n: int) -> None:
    samples = random_tensor(n, 5)
    np.testing.assert_allclose(gram_matrix(samples), samples @ samples.T, atol=1e-12)
