"""Heads that are one affine map on (row-wise scaled) codes: what they keep, and how the iterated ones are fitted."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from tlkit.heads import settings
from tlkit.heads.head import Head, require_arrays
from tlkit.heads.linear import Affine, fit_paths
from tlkit.heads.selection import Found, Models, Training, default_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Labels = NDArray[np.int64]


@dataclass(frozen=True)
class AffineModels:
    """Affine maps as `Models`."""

    maps: Sequence[Affine]
    convergence: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def scores(self, block: NDArray[Any], which: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the scores (b, k) float32 of the codes `block` (b, d) by each of the maps `which`."""
        codes = block.astype(np.float32, copy=False)
        for number in which:
            yield codes @ self.maps[number].coef.T + self.maps[number].intercept


class AffineHead(Head, ABC):
    """A head with `coef_` (k, d) float32 and `intercept_` (k,) float32: one affine map, the scaling of columns in it.

    It applies to raw codes, or with `scale_` "l2" and "power" to codes scaled by `tlkit.heads.scaling.rowwise`.
    """

    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    def _keep(self, models: Models, found: Found | None) -> None:
        (map_,) = cast("AffineModels", models).maps
        # In one order in memory, as products in another may differ in the last bit, so after a trip to the disk.
        self.coef_ = np.ascontiguousarray(map_.coef, dtype=np.float32)
        self.intercept_ = np.ascontiguousarray(map_.intercept, dtype=np.float32)

    def _score(self, block: NDArray[Any]) -> NDArray[np.float64]:
        # In float64 the scores of a row do not depend on the rows beside it.
        scores: NDArray[np.float64] = block.astype(np.float64) @ self.coef_.T.astype(np.float64) + self.intercept_
        return scores

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"coef": self.coef_, "intercept": self.intercept_}

    def _take_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        k, d = len(self.classes_), self.n_features_in_
        require_arrays(arrays, {"coef": (k, d), "intercept": (k,)})
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]


class IteratedHead(AffineHead, ABC):
    """An affine head whose loss has no closed solution; `convergence_` says how near the optimum it ended.

    `convergence_` has "steps", "gradient" and "converged" of the final fit, and of the cross-validation how many
    "search_fits" there were and how many of them were "search_unconverged".
    """

    parameter = "C"
    loss: Literal["squared_hinge", "softmax"]
    device: str

    def check_settings(self) -> None:
        """Check what can be checked before there are codes.

        Raises:
            UsageError: A setting makes no sense.
        """
        super().check_settings()
        settings.require_device(self.device)

    def _default_grid(self, training: Training) -> list[float]:
        return default_grid(training.codes, training.scale)

    def _models(
        self, training: Training, grid: Sequence[float], subsets: Sequence[Labels], done: Callable[[int], object]
    ) -> Sequence[AffineModels]:
        paths = fit_paths(
            training.codes,
            training.labels,
            training.k,
            grid,
            loss=self.loss,
            standard=training.scale == "standard",
            parts=training.parts,
            weights=training.weights,
            subsets=subsets,
            device=self.device,
            done=done,
        )
        return [AffineModels(path.maps, path.convergence) for path in paths]

    def _keep(self, models: Models, found: Found | None) -> None:
        super()._keep(models, found)
        fits = found.convergence if found else []
        searched = {
            "search_fits": len(fits),
            "search_unconverged": sum(not record["converged"] for record in fits),
        }
        self.convergence_: dict[str, Any] = {**models.convergence[0], **searched}
