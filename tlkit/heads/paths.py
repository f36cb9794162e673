"""The two ways to paths of solutions: one subset after the other, or all side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.heads.basis import basis_of
from tlkit.heads.blocks import subset_moments
from tlkit.heads.linear import Affine, Path
from tlkit.heads.losses import Columns
from tlkit.heads.newton import TOLERANCE, Solution, solve_path
from tlkit.heads.preconditioner import Preconditioner, second_moment
from tlkit.heads.problems import Problems
from tlkit.heads.samples import Samples
from tlkit.heads.scaling import column_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

    from tlkit.heads.linear import Loss, Rows

    Labels = NDArray[np.int64]
    Matrix = NDArray[np.float64]

_SAMPLE = 64  # rows for each dimension tell how all rows bend the loss
_WORKING = 2**28  # numbers that the working arrays of columns solved together may hold


@dataclass(frozen=True)
class Task:
    """The arguments of `linear.fit_paths` that all subsets share."""

    codes: Rows
    labels: Labels
    k: int
    grid: list[float]
    loss: Loss
    standard: bool
    parts: Sequence[int] | None
    weights: Matrix
    device: torch.device

    @property
    def free_bias(self) -> bool:
        """Whether the bias is not penalised. It makes the objective indifferent to shifts of the codes."""
        return self.loss == "softmax"

    def columns(self, subsets: Sequence[Labels]) -> Columns:
        """Return a column for each class of each subset; two classes are one hinge problem, that of the second."""
        found: list[tuple[int, int, float, float]] = []
        for number, rows in enumerate(subsets):
            present = np.unique(self.labels[rows])
            two, hinge = len(present) == 2, self.loss == "squared_hinge"
            # LogisticRegression penalises s of the scores (-s / 2, s / 2), twice as much as both of these together.
            half = 0.5 if two and not hinge else 1.0
            for label in present[1:] if two and hinge else present:
                other = self.weights[present[0]] if two and hinge else 1.0
                found.append((number, int(label), half * self.weights[label], other))
        subset, label, positive, negative = (np.array(values) for values in zip(*found, strict=True))
        problem = np.arange(len(found)) if self.loss == "squared_hinge" else subset
        return Columns(
            *(self.tensor(values) for values in (subset, label, problem)),
            *(self.tensor(values.astype(np.float32)) for values in (positive, negative)),
        )

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """Return `values` on the device, of the same dtype."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def affine(self, rows: Labels, coef: Matrix, offset: Matrix) -> Affine:
        """Return the map of all k classes from the columns (m, d) and (m,) of the subset `rows`."""
        present = np.unique(self.labels[rows])
        if self.free_bias:
            offset = offset - offset.mean()  # the same probabilities, and like LogisticRegression's
        if len(coef) < len(present):
            coef, offset = np.concatenate([-coef, coef]), np.concatenate([-offset, offset])
        full, intercept = np.zeros((self.k, coef.shape[1]), np.float32), np.full(self.k, -np.inf, np.float32)
        full[present], intercept[present] = coef, offset
        return Affine(full, intercept)


def one_by_one(task: Task, rows: Labels) -> Path:
    """Solve one subset: with fewer rows than dimensions, in the space that its rows span."""
    import torch

    from tlkit.heads.rows import blocks

    codes = np.concatenate([block for _, block in blocks(task.codes, rows)]).astype(np.float64)
    mean, scale = _scaling(task, codes, np.ones((len(rows), 1), np.float32))
    basis = basis_of(task.tensor((codes - mean) / scale))
    members = torch.ones(len(rows), 1, device=task.device)
    samples = Samples(basis.coordinates.float(), task.tensor(task.labels[rows]), members, gram=basis.gram)
    preconditioner = Preconditioner(second_moment(samples, centred=task.free_bias), task.free_bias)
    problems = Problems(task.loss, samples, samples, members[0], preconditioner, task.free_bias)
    columns = task.columns([rows])
    solutions = list(solve_path(problems, columns, task.grid))
    theta = torch.cat([solution.state.theta for solution in solutions], dim=1)
    coef = basis.coef(theta[:-1]).T.cpu().numpy() / scale
    offset = theta[-1].cpu().numpy() - coef @ mean[0]
    parts = zip(np.split(coef, len(task.grid)), np.split(offset, len(task.grid)), strict=True)
    return Path([task.affine(rows, *part) for part in parts], [_record(s.steps, s.gap) for s in solutions])


def side_by_side(task: Task, subsets: Sequence[Labels], done: Callable[[int], object], *, stream: bool) -> list[Path]:
    """Solve all subsets at once on the codes as they are; the scaling of each is folded into its hyperplanes."""
    import torch

    members = np.zeros((task.codes.shape[0], len(subsets)), np.float32)
    for number, rows in enumerate(subsets):
        members[rows, number] = 1
    mean, scale = _scaling(task, task.codes, members)
    centre, unit = mean.mean(axis=0), np.exp(np.log(scale).mean(axis=0))  # what the subsets have in common
    problems = _problems(task, members, centre, unit, stream=stream)
    if task.standard:
        shift, factor = ((mean - centre) / unit).T.astype(np.float32), (unit / scale).T.astype(np.float32)
        problems = replace(problems, shift=task.tensor(shift), scale=task.tensor(factor))
    columns = task.columns(subsets)
    found: list[list[Solution]] = []
    parts = _parts(columns, problems)
    for part in parts:
        found.append([])
        for solution in solve_path(problems, columns.take(part), task.grid):
            found[-1].append(solution)
            work = len(parts) * len(task.grid)
            done(len(subsets) * sum(map(len, found)) // work)
    paths = [Path([], []) for _ in subsets]
    for at_one_C in zip(*found, strict=True):
        theta = torch.cat([solution.state.theta for solution in at_one_C], dim=1)
        steps, gap = (torch.cat([getattr(s, name) for s in at_one_C]) for name in ("steps", "gap"))
        coef, offset = (tensor.double().cpu().numpy() for tensor in problems.maps(theta, columns))
        coef = coef.T / unit
        offset = offset - coef @ centre
        for number, own in columns.groups():
            paths[number].maps.append(task.affine(subsets[number], coef[own], offset[own]))
            paths[number].convergence.append(_record(steps[own], gap[own]))
    return paths


def _scaling(task: Task, codes: Rows, members: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
    """Return for each subset what is subtracted from the codes, and what they are divided by, (f, d)."""
    shape = members.shape[1], codes.shape[1]
    if not task.standard and not task.free_bias:
        return np.zeros(shape), np.ones(shape)
    mean, scale = subset_moments(codes, members)
    return mean, scale / column_weights(task.parts) if task.standard else np.ones(shape)


def _problems(task: Task, members: NDArray[np.float32], centre: Matrix, unit: Matrix, *, stream: bool) -> Problems:
    n, d = task.codes.shape
    moved = task.standard or task.free_bias
    rows = Samples(task.codes, task.tensor(task.labels), task.tensor(members))
    if moved:
        rows = replace(rows, shift=task.tensor(centre), scale=task.tensor(unit))
    if not stream:
        rows = rows.held()
    step = n // (_SAMPLE * (d + 1))
    sample = rows.every(step) if step > 1 and task.loss == "squared_hinge" else rows
    moment = second_moment(sample, centred=task.free_bias)
    share = sample.members.sum(0) / rows.members.sum(0)
    return Problems(task.loss, rows, sample, share, Preconditioner(moment, task.free_bias), task.free_bias)


def _parts(columns: Columns, problems: Problems) -> list[torch.Tensor]:
    """Split the columns (whole problems) so that the working arrays of those solved together stay bounded."""
    import torch

    n, d = problems.rows.shape
    each = (2 if problems.free_bias else 0.5) * n + 16 * d + (0 if problems.sample is problems.rows else d * d)
    most = max(1, int(_WORKING / each))
    sizes = columns.problem.bincount().tolist()
    limits, size = [0], 0
    for number in sizes:
        if size and size + number > most:
            limits.append(limits[-1] + size)
            size = 0
        size += number
    return list(torch.arange(len(columns.label), device=columns.label.device).tensor_split(limits[1:]))


def _record(steps: torch.Tensor, gap: torch.Tensor) -> dict[str, Any]:
    worst = float(gap.max())
    return {"steps": int(steps.max()), "gradient": worst, "converged": worst <= TOLERANCE}
