"""Truncated Newton for many linear classifiers at once: matrix products over blocks of rows, nothing else.

Minimises, for every problem, 1/2 |v|^2 (+ 1/2 b^2) + C sum_i c_i loss(<v, x_i> + b). Keerthi and DeCoste 2005, "A
modified finite Newton method for fast solution of large scale linear SVMs", and Lin, Weng and Keerthi 2008, "Trust
region Newton method for large-scale logistic regression", do so for one problem.

Value, gradient and Hessian are those of all rows. What conjugate gradients divide by is an approximation: it decides
how many iterations there are, not where these end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlkit.heads.losses import LOSSES, Columns
from tlkit.heads.preconditioner import divider
from tlkit.heads.problems import together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from tlkit.heads.losses import Hessian
    from tlkit.heads.problems import Problems

TOLERANCE = 2e-6
_MOST_STEPS = 60
_NOISE = 3e-5  # gaps below this may be what float32 leaves
_MOST_IDLE = 8  # steps that do not halve such a gap
_MOST_INNER = 250
_LITTLE = 0.1
_NEAR = 0.25  # share of the slope along a step that may be left
_SHORTER, _LONGER = [0.01, 0.06, 0.25, 0.6], [1.3, 2.0, 4.0, 8.0]  # lengths to try where the whole step will not do


@dataclass
class State:
    """Where the open columns stand.

    theta, gradient: (d + 1, m). curvature: (m,). value: The objective of each problem. hessian: Second derivatives by
    the scores, block by block; empty if they are not known.
    """

    theta: torch.Tensor
    gradient: torch.Tensor
    curvature: torch.Tensor
    value: torch.Tensor
    hessian: list[tuple[slice, Hessian]]


@dataclass(frozen=True)
class Solution:
    """Where the minimum is; for each column the Newton steps taken and the share of the objective left to gain."""

    state: State
    steps: torch.Tensor
    gap: torch.Tensor


def solve_path(problems: Problems, columns: Columns, grid: Sequence[float]) -> Iterator[Solution]:
    """Yield the solution at each C, found from the one before it."""
    here, before = evaluate(problems, columns, problems.zeros(columns), grid[0]), grid[0]
    for C in grid:
        found = minimise(problems, columns, _at_other_C(problems, columns, here, C / before), C)
        yield found
        here, before = found.state, C


def _at_other_C(problems: Problems, columns: Columns, here: State, times: float) -> State:
    """Return the state at the same hyperplanes for a C that is so many times as large: only a sum is weighed anew."""
    if times == 1:
        return here
    penalised = problems.penalised(here.theta)
    penalty = together((penalised * penalised).sum(0).double() / 2, columns)
    gradient, value = penalised + times * (here.gradient - penalised), penalty + times * (here.value - penalty)
    return State(here.theta, gradient, times * here.curvature, value, [])


def minimise(problems: Problems, columns: Columns, here: State, C: float) -> Solution:
    """Return the minimisers at one C; columns that are done are not computed any more."""
    import torch

    m, device = here.theta.shape[1], here.theta.device
    reached = State(here.theta.clone(), here.gradient.clone(), here.curvature.clone(), here.value.clone(), [])
    steps, gaps = torch.zeros(m, dtype=torch.int64, device=device), torch.zeros(m, device=device)
    open_, open_problems = torch.arange(m, device=device), torch.arange(len(here.value), device=device)
    stuck = torch.zeros_like(here.value, dtype=torch.bool)
    best, idle = torch.full_like(here.value, torch.inf), torch.zeros_like(here.value)
    for number in range(_MOST_STEPS + 1):
        step, gap = _newton_step(problems, columns, here, C)
        idle = torch.where((gap < _NOISE) & (gap > best / 2), idle + 1, 0)
        best = best.minimum(gap)
        steps[open_], gaps[open_] = number, gap[columns.problem].float()
        reached.theta[:, open_], reached.gradient[:, open_] = here.theta, here.gradient
        reached.curvature[open_], reached.value[open_problems] = here.curvature, here.value
        unsolved = (gap > TOLERANCE) & ~stuck & (idle < _MOST_IDLE)
        if number == _MOST_STEPS or not unsolved.any():
            break
        kept = unsolved[columns.problem]
        here, open_, step = _take(here, kept, unsolved), open_[kept], step[:, kept]
        columns, open_problems = columns.take(kept), open_problems[unsolved]
        best, idle = best[unsolved], idle[unsolved]
        here, stuck = _search(problems, columns, here, step, C)
    return Solution(reached, steps, gaps)


def evaluate(problems: Problems, columns: Columns, theta: torch.Tensor, C: float) -> State:
    """Return value, gradient and curvature at `theta` (d + 1, m), from one pass over all rows."""
    import torch

    rows = problems.rows
    coef, offset = problems.maps(theta, columns)
    product, total = torch.zeros_like(coef), torch.zeros_like(offset)
    loss, curvature = torch.zeros_like(offset, dtype=torch.float64), torch.zeros_like(offset)
    hessian = []
    for span, codes in rows.blocks(len(offset)):
        scores = torch.addmm(offset, codes, coef)
        found = LOSSES[problems.loss](scores, rows.labels[span], rows.members[span], columns)
        product.addmm_(codes.T, found.slope)
        total += found.slope.sum(0)
        loss += found.loss
        curvature += found.curvature
        hessian.append((span, found.hessian()))
    penalised = problems.penalised(theta)
    gradient = penalised + C * problems.pull(product, total, columns)
    value = together((penalised * penalised).sum(0).double() / 2 + C * loss, columns)
    return State(theta, gradient, C * curvature, value, hessian)


def _take(here: State, kept: torch.Tensor, unsolved: torch.Tensor) -> State:
    """Return some of the columns; second derivatives stay if that is all of them."""
    if kept.all():
        return here
    return State(here.theta[:, kept], here.gradient[:, kept], here.curvature[kept], here.value[unsolved], [])


def _hessian(problems: Problems, columns: Columns, theta: torch.Tensor) -> list[tuple[slice, Hessian]]:
    import torch

    rows, found = problems.rows, []
    coef, offset = problems.maps(theta, columns)
    for span, codes in rows.blocks(len(offset)):
        scores = torch.addmm(offset, codes, coef)
        loss = LOSSES[problems.loss](scores, rows.labels[span], rows.members[span], columns)
        found.append((span, loss.hessian()))
    return found


def _newton_step(problems: Problems, columns: Columns, here: State, C: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step (d + 1, m), and for each problem what it promises to gain, as a share of the objective.

    A penalised problem is 1-strongly convex: half the square of the gradient bounds what is left to gain (it is the
    duality gap for the squared hinge). Where that is little, no step is computed, and the bound returned.
    """
    import torch

    step = torch.zeros_like(here.gradient)
    gap = together((here.gradient * here.gradient).sum(0), columns) / 2 / here.value
    unsolved = torch.ones_like(gap, dtype=torch.bool) if problems.free_bias else gap > TOLERANCE
    if unsolved.any():
        kept = unsolved[columns.problem]
        inside, part = _take(here, kept, unsolved), columns.take(kept)
        inside.hessian = inside.hessian or _hessian(problems, part, inside.theta)
        step[:, kept], gain = _solve(problems, part, inside, C)
        gap[unsolved] = gain.double().abs() / inside.value  # below 0 only where float32 ends
    return step, gap


def _solve(problems: Problems, columns: Columns, here: State, C: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve Hessian @ step = -gradient; return step and gain, which is by how much the quadratic model falls.

    Conjugate gradients, until further iterations promise little: the rule of Nash and Sofer 1990, "Assessing a search
    direction within a truncated-Newton method". Where they have cost as much as a direct solution would have, that is
    what follows: never more than twice the cheaper of the two.
    """
    import torch

    step, residual = torch.zeros_like(here.gradient), -here.gradient
    divide = divider(problems, columns, here.theta, here.curvature, C)
    direction = divide(residual)
    product = together((residual * direction).sum(0), columns)
    gain, active = torch.zeros_like(product), product > 0
    patience = _patience(problems, columns, here)
    for number in range(1, _MOST_INNER + 1):
        bent = _bend(problems, columns, here, direction, C)
        length = torch.where(active, product / together((direction * bent).sum(0), columns), 0)
        more = length * product / 2
        gain += more
        step += length[columns.problem] * direction
        residual -= length[columns.problem] * bent
        active &= number * more > _LITTLE * gain
        late = active & (number >= patience)
        if late.any():
            problems.slow.update(columns.name(column) for column in late.nonzero()[:, 0].tolist())
            step[:, late] = _direct(problems, columns, here, late, C)
            gain[late] = -(step[:, late] * here.gradient[:, late]).sum(0) / 2
        active &= ~late
        if not active.any():
            break
        scaled = divide(residual)
        product, before = together((residual * scaled).sum(0), columns), product
        direction = scaled + torch.where(active, product / before, 0)[columns.problem] * direction
    return step, gain


def _bend(problems: Problems, columns: Columns, here: State, direction: torch.Tensor, C: float) -> torch.Tensor:
    """Return Hessian @ direction (d + 1, m)."""
    import torch

    coef, offset = problems.maps(direction, columns)
    product, total = torch.zeros_like(coef), torch.zeros_like(offset)
    for span, hessian in here.hessian:
        codes = problems.rows.block(span)
        bent = hessian.bend(torch.addmm(offset, codes, coef))
        product.addmm_(codes.T, bent)
        total += bent.sum(0)
    return problems.penalised(direction) + C * problems.pull(product, total, columns)


def _patience(problems: Problems, columns: Columns, here: State) -> torch.Tensor | float:
    """Return after how many iterations (m,) a direct solution is the cheaper way; as it once was, it remains."""
    import torch

    from tlkit.heads.direct import costs

    diagonals = _diagonals(here)
    # Very many rows have no need of it: the preconditioner knows how they bend each column.
    if not diagonals or not problems.rows.in_memory or problems.sample is not problems.rows:
        return float("inf")
    active = torch.stack([(diagonal > 0).sum(0) for diagonal in diagonals]).sum(0)
    n, d = problems.rows.shape
    patience = costs(active, d, gram=problems.rows.gram is not None) / (2 * n * d + d * d)
    slow = [columns.name(column) in problems.slow for column in range(len(columns.label))]
    patience[torch.tensor(slow, device=patience.device)] = 0
    return patience


def _diagonals(here: State) -> list[torch.Tensor]:
    """Return the second derivatives by the scores, block by block; nothing where they are not diagonal."""
    return [hessian.diagonal() for _, hessian in here.hessian if hessian.diagonal is not None]


def _direct(problems: Problems, columns: Columns, here: State, late: torch.Tensor, C: float) -> torch.Tensor:
    """Return the steps (d + 1, l) of the columns that are `late` (m,), by factorisation."""
    import torch

    from tlkit.heads.direct import each_alone

    part, gradient = columns.take(late), here.gradient[:, late]
    bends = torch.cat([block[:, late] for block in _diagonals(here)]) * C
    if problems.rows.gram is not None:
        return _by_inner_products(problems, part, gradient, bends)
    step = torch.empty_like(gradient)

    def work(column: int) -> None:
        step[:, column] = _alone(problems, part, gradient, bends, column)

    each_alone(work, range(len(bends.T)))
    return step


def _alone(
    problems: Problems, columns: Columns, gradient: torch.Tensor, bends: torch.Tensor, column: int
) -> torch.Tensor:
    """Return the step (d + 1,) of one column from the codes of its active rows."""
    from tlkit.heads.direct import direct_step

    rows = bends[:, column].nonzero()[:, 0]
    return direct_step(problems.augmented(rows, columns.subset[column]), bends[rows, column], gradient[:, column])


def _by_inner_products(
    problems: Problems, columns: Columns, gradient: torch.Tensor, bends: torch.Tensor
) -> torch.Tensor:
    """Return the steps (d + 1, l) where the Gram matrix is known, which serves columns with few active rows."""
    import torch

    from tlkit.heads.direct import each_alone, mixture_step

    codes, gram = problems.rows.block(slice(None)), problems.rows.gram
    scores = torch.addmm(gradient[-1], codes, gradient[:-1])
    step, mixture = -gradient, torch.zeros_like(bends)

    def work(column: int) -> None:
        rows = bends[:, column].nonzero()[:, 0]
        if gram is None or len(rows) > len(gradient):
            step[:, column] = _alone(problems, columns, gradient, bends, column)
        else:
            mixture[rows, column] = mixture_step(gram(), rows, bends[rows, column], scores[rows, column])

    each_alone(work, range(len(bends.T)))
    step[:-1].addmm_(codes.T, mixture)
    step[-1] += mixture.sum(0)
    return step


def _search(
    problems: Problems, columns: Columns, here: State, step: torch.Tensor, C: float
) -> tuple[State, torch.Tensor]:
    """Return the state after a step of suitable length, and which problems no length improves.

    Slopes along the step tell more than values, which float32 rounds away near the optimum: the functions are convex,
    so that where one still falls it is lower than before.
    """
    import torch

    slope = together((here.gradient * step).sum(0), columns)
    there = evaluate(problems, columns, here.theta + step, C)
    new = together((there.gradient * step).sum(0), columns)
    far = new.abs() > _NEAR * slope.abs()
    stuck = torch.zeros_like(far)
    if far.any():
        kept = far[columns.problem]
        part, start, change = columns.take(kept), here.theta[:, kept], step[:, kept]
        length = _zero(problems, part, start, change, C, (slope[far], new[far]))
        again = evaluate(problems, part, start + length[part.problem] * change, C)
        new = together((again.gradient * change).sum(0), part)
        stuck[far] = (new > 0) & (again.value > here.value[far])
        there.theta[:, kept], there.gradient[:, kept] = again.theta, again.gradient
        there.curvature[kept], there.value[far], there.hessian = again.curvature, again.value, []
    return there, stuck


def _zero(
    problems: Problems,
    columns: Columns,
    theta: torch.Tensor,
    step: torch.Tensor,
    C: float,
    known: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Return for each problem the length of the step at which the slope along it is about 0, from one pass.

    `known` are the slopes at the lengths 0 and 1. The slope is measured at four lengths on the side of 1 where it
    changes its sign, and taken to be linear in between; for the squared hinge it is piecewise linear.
    """
    import torch

    slope, new = known
    over = new > 0
    tried = torch.where(over, slope.new_tensor(_SHORTER)[:, None], slope.new_tensor(_LONGER)[:, None])
    lengths = torch.stack([(~over).float(), *tried, torch.where(over, 1, tried[-1])])
    slopes = _slopes(problems, columns, theta, step, C, tried)
    slopes = torch.stack([torch.where(over, slope, new), *slopes, torch.where(over, new, slopes[-1])])
    after = (slopes > 0).cumsum(0).eq(0).sum(0).clamp(1, len(slopes) - 1)[None]  # the first that rises
    (low, high), (short, long) = ([rows.gather(0, after + at)[0] for at in (-1, 0)] for rows in (slopes, lengths))
    return short + (-low / (high - low).clamp(min=1e-30)).clamp(0, 1) * (long - short)


def _slopes(
    problems: Problems, columns: Columns, theta: torch.Tensor, step: torch.Tensor, C: float, lengths: torch.Tensor
) -> torch.Tensor:
    """Return the slopes along the step at some lengths of it, both (t, problems)."""
    import torch

    maps, changes = problems.maps(theta, columns), problems.maps(step, columns)
    each = lengths[:, columns.problem]
    slopes = torch.zeros_like(each)
    for span, codes in problems.rows.blocks(len(columns.label)):
        scores, moved = (torch.addmm(offset, codes, coef) for coef, offset in (maps, changes))
        labels, members = problems.rows.labels[span], problems.rows.members[span]
        for number, length in enumerate(each):
            found = LOSSES[problems.loss](torch.addcmul(scores, moved, length), labels, members, columns)
            slopes[number] += found.slope.mul_(moved).sum(0)
    penalised = problems.penalised(step)
    slopes = C * slopes + (penalised * theta).sum(0) + each * (penalised * step).sum(0)
    return torch.stack([together(row, columns) for row in slopes])
