"""Squared hinge loss with an L2 penalty, many one-vs-rest problems at once: the objective of scikit-learn's LinearSVC.

For each column of signs y: minimise  1/2 |w|^2 + sum_i c_i max(0, 1 - y_i <w, x_i>)^2.

Why not LinearSVC itself: for a grid of C it starts from nothing at each C, for each class alone, and stops before
the optimum at large C (`ConvergenceWarning`). Here all classes share matrix products, each C starts from the solution
of the one before, and the stopping rule bounds the distance to the optimum.

The method is truncated Newton (Keerthi and DeCoste 2005, "A modified finite Newton method for fast solution of large
scale linear SVMs"; Lin, Weng and Keerthi 2008 for the truncated inner solve), in the principal axes of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

_TOLERANCE = 1e-6
_MOST_STEPS = 200
_MOST_INNER = 300
_INNER_WORTH = 100  # one exact solve saves about so many conjugate gradient steps, each of cost n * r


@dataclass(frozen=True)
class Axes:
    """Data in their principal axes, where the Hessian is near to diagonal and no wider than the number of samples.

    `codes` (n, r) are the data times `vectors` (d, r), whose columns are orthonormal; `spread` (r,) are the
    eigenvalues of the uncentred scatter matrix. r <= min(n, d).
    """

    codes: Matrix
    vectors: Matrix
    spread: Matrix


def principal_axes(data: Matrix) -> Axes:
    """Rotate `data` (n, d) into its principal axes by the smaller of its two Gram matrices.

    The optimum lies in the span of the samples, so that nothing is lost but directions which hold less than 1e-12 of
    the largest variance.
    """
    from scipy.linalg import eigh

    wide = data.shape[0] < data.shape[1]
    spread, vectors = eigh(data @ data.T if wide else data.T @ data, driver="evd", overwrite_a=True)
    kept = spread > 1e-12 * spread[-1]
    spread, vectors = spread[kept], vectors[:, kept]
    if wide:
        vectors = data.T @ (vectors / np.sqrt(spread))
    return Axes(data @ vectors, vectors, spread)


def minimise(axes: Axes, signs: Matrix, costs: Matrix, start: Matrix) -> Matrix:
    """Return the minimisers (r, m), in the principal axes, of m problems at once.

    Args:
        axes: The n samples.
        signs: (n, m) of +1 and -1.
        costs: (n, m), above 0: C times the weight of the sample in that problem.
        start: (r, m) where to begin; the solution for a smaller C is a good place.

    Each column ends within a relative distance of 1e-6 of its optimum (the objective is 1-strongly convex, so
    the gradient's norm bounds that distance), or where rounding lets no step descend any more.
    """
    weights, margins = start.copy(), signs * (axes.codes @ start)
    open_ = np.arange(signs.shape[1])
    for _ in range(_MOST_STEPS):
        here = _Point(axes, signs[:, open_], costs[:, open_], weights[:, open_], margins[:, open_])
        gradient = here.gradient()
        unsolved = _norm(gradient) > _TOLERANCE * _norm(here.weights)
        if not unsolved.any():
            break
        open_, here, gradient = open_[unsolved], here.columns(unsolved), gradient[:, unsolved]
        step = _newton_step(here, gradient)
        moved = here.signs * (axes.codes @ step)
        length = _step_length(here, gradient, step, moved)
        weights[:, open_] += length * step
        margins[:, open_] += length * moved
        open_ = open_[length > 0]
    return weights


@dataclass(frozen=True)
class _Point:
    """Where the m unsolved problems stand; `margins` are y <w, x>."""

    axes: Axes
    signs: Matrix
    costs: Matrix
    weights: Matrix
    margins: Matrix

    def columns(self, kept: NDArray[np.bool_]) -> _Point:
        if kept.all():
            return self
        return _Point(self.axes, self.signs[:, kept], self.costs[:, kept], self.weights[:, kept], self.margins[:, kept])

    def gradient(self) -> Matrix:
        slack = np.maximum(1 - self.margins, 0)
        slack *= self.costs
        slack *= self.signs
        gradient: Matrix = self.weights - 2 * (self.axes.codes.T @ slack)
        return gradient


def _norm(columns: Matrix) -> Matrix:
    norm: Matrix = np.sqrt(_dot(columns, columns))
    return norm


def _dot(a: Matrix, b: Matrix) -> Matrix:
    dot: Matrix = np.einsum("ij,ij->j", a, b)
    return dot


def _newton_step(here: _Point, gradient: Matrix) -> Matrix:
    """Return -(I + 2 X'DX)^-1 gradient, X being the samples inside the margin: exactly where they are few."""
    inside = here.margins < 1
    rank, count = gradient.shape[0], inside.sum(axis=0)
    direct = np.minimum(count, rank) ** 2 * np.maximum(count, rank) < _INNER_WORTH * here.axes.codes.size
    step = np.empty_like(gradient)
    for column in np.flatnonzero(direct):
        rows = inside[:, column]
        step[:, column] = _direct_step(here.axes.codes[rows], here.costs[rows, column], gradient[:, column])
    if not direct.all():
        step[:, ~direct] = _iterated_step(here.columns(~direct), gradient[:, ~direct])
    return step


def _direct_step(codes: Matrix, costs: Matrix, gradient: Matrix) -> Matrix:
    """Solve one column by Cholesky, in whichever of the two spaces (samples, axes) is smaller (Woodbury)."""
    from scipy.linalg import solve

    scaled = codes * np.sqrt(2 * costs)[:, None]
    wide = scaled.shape[0] < scaled.shape[1]
    system = scaled @ scaled.T if wide else scaled.T @ scaled
    system.flat[:: len(system) + 1] += 1
    if not wide:
        return -solve(system, gradient, assume_a="pos", overwrite_a=True, check_finite=False)
    return scaled.T @ solve(system, scaled @ gradient, assume_a="pos", overwrite_a=True, check_finite=False) - gradient


def _iterated_step(here: _Point, gradient: Matrix) -> Matrix:
    """Solve all columns by conjugate gradients, more exactly the nearer the optimum."""
    codes = here.axes.codes
    curvature = np.where(here.margins < 1, 2 * here.costs, 0)
    diagonal = 1 + curvature.mean(axis=0) * here.axes.spread[:, None]
    size = _norm(gradient)
    target = size * np.minimum(0.1, np.sqrt(size / (size + _norm(here.weights))))
    step, residual = np.zeros_like(gradient), -gradient
    direction = residual / diagonal
    product = _dot(residual, direction)
    for _ in range(_MOST_INNER):
        bent = direction + codes.T @ (curvature * (codes @ direction))
        length = product / np.maximum(_dot(direction, bent), np.finfo(float).tiny)
        step += length * direction
        residual -= length * bent
        if (_norm(residual) <= target).all():
            break
        scaled = residual / diagonal
        product, before = _dot(residual, scaled), product
        direction = scaled + product / np.maximum(before, np.finfo(float).tiny) * direction
    return step


def _step_length(here: _Point, gradient: Matrix, step: Matrix, moved: Matrix) -> Matrix:
    """Halve each column's step until it descends enough (Armijo); 0 where rounding hides any descent."""
    slope, linear, square = _dot(gradient, step), _dot(here.weights, step), _dot(step, step)
    loss = _loss(here.costs, here.margins)
    length = np.ones(step.shape[1])
    for _ in range(40):
        change = length * linear + length**2 * square / 2 + _loss(here.costs, here.margins + length * moved) - loss
        short = change > 1e-4 * length * slope
        if not short.any():
            return length
        length[short] /= 2
    length[short] = 0
    return length


def _loss(costs: Matrix, margins: Matrix) -> Matrix:
    slack = np.maximum(1 - margins, 0)
    loss: Matrix = np.einsum("ij,ij,ij->j", costs, slack, slack)
    return loss
