"""What stays the same while linear classifiers are solved: the rows, and what their codes mean in each subset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tlkit.heads.losses import Columns
    from tlkit.heads.preconditioner import Preconditioner
    from tlkit.heads.samples import Samples


@dataclass(frozen=True)
class Problems:
    """Classifiers on subsets of the rows, in coordinates (d + 1, m): a hyperplane and, last, its bias.

    loss: A name in `losses.LOSSES`. rows: All rows. sample: The same, or some of them in memory where they are very
    many and each column is a problem of its own. sample_share: (f,) share of each subset's rows that are in it.
    free_bias: The bias has no penalty.
    shift, scale: (d, f), or None; the coordinates are those of the codes (x - shift_f) * scale_f in subset f.
    slow: Columns (subset, class) whose Newton systems have been solved directly before.
    """

    loss: str
    rows: Samples
    sample: Samples
    sample_share: torch.Tensor
    preconditioner: Preconditioner
    free_bias: bool
    shift: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    slow: set[tuple[int, int]] = field(default_factory=set)

    def zeros(self, columns: Columns) -> torch.Tensor:
        """Return where a path begins, (d + 1, m)."""
        return self.preconditioner.moment.new_zeros(self.rows.shape[1] + 1, len(columns.label))

    def maps(self, theta: torch.Tensor, columns: Columns) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coef (d, m) and offset (m,) on the codes of `rows` for coordinates (d + 1, m)."""
        if self.shift is None or self.scale is None:
            return theta[:-1], theta[-1]
        coef = theta[:-1] * self.scale[:, columns.subset]
        return coef, theta[-1] - (coef * self.shift[:, columns.subset]).sum(0)

    def pull(self, product: torch.Tensor, total: torch.Tensor, columns: Columns) -> torch.Tensor:
        """Return the transpose of `maps`: (d + 1, m) from codes.T @ slope (d, m) and the sums of slope (m,)."""
        import torch

        if self.shift is not None and self.scale is not None:
            product = (product - self.shift[:, columns.subset] * total) * self.scale[:, columns.subset]
        if self.free_bias:  # nothing pulls at the same bias for all classes but rounding, which nothing would hold back
            mean = together(total, columns) / columns.problem.bincount()
            total = total - mean[columns.problem]
        return torch.cat([product, total[None]])

    def augmented(self, rows: torch.Tensor, subset: torch.Tensor) -> torch.Tensor:
        """Return rows of the sample, (a, d + 1), as they are in one subset, with the constant column."""
        import torch

        codes = self.sample.pick(rows)
        if self.shift is not None and self.scale is not None:
            codes = (codes - self.shift[:, subset]) * self.scale[:, subset]
        return torch.nn.functional.pad(codes, (0, 1), value=1.0)

    def penalised(self, theta: torch.Tensor) -> torch.Tensor:
        """Return `theta` (d + 1, m) with 0 where there is no penalty."""
        if not self.free_bias:
            return theta
        theta = theta.clone()
        theta[-1] = 0
        return theta


def together(values: torch.Tensor, columns: Columns) -> torch.Tensor:
    """Return the sums of `values` (m,) over the columns of each problem."""
    count = int(columns.problem[-1]) + 1
    if count == len(values):
        return values
    return values.new_zeros(count).index_add_(0, columns.problem, values)
