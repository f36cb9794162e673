"""Codes laid out on a plane: principal components, and t-SNE from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST = 400
"""Points; with these t-SNE takes less than a second."""

_COMPONENTS, _STEPS, _FEWEST = 50, 500, 10


def maps(codes: Sequence[NDArray[np.floating[Any]]], seed: int, *, tsne: bool = True) -> dict[str, tuple[str, Floats]]:
    """Lay images out on a plane in several ways.

    Args:
        codes: of each tap, (n, d); the taps weigh the same.
        seed: of t-SNE.
        tsne: whether it is wanted; it takes longer than the rest of a second fit's page.

    Returns:
        A title and (n, 2) for "pca", and if there are 10 images or more for "tsne", of the first 50 components
        (van der Maaten and Hinton 2008).
    """
    scores, variances = _components(codes)
    plane = np.pad(scores, ((0, 0), (0, 1)))[:, :2]  # a single image has one component
    share = variances[:2].sum() / max(variances.sum(), np.finfo(float).tiny)
    found = {"pca": (f"PCA, {share:.0%} of the variance", plane)}
    spread = scores[:, 0].std()
    if tsne and len(scores) >= _FEWEST and spread > 0:
        from sklearn.manifold import TSNE

        start = (1e-4 * scores[:, :2] / spread).astype(np.float32)
        perplexity = min(30.0, (len(scores) - 1) / 3)
        layout = TSNE(perplexity=perplexity, init=start, max_iter=_STEPS, random_state=seed)
        near = layout.fit_transform(scores[:, :_COMPONENTS].astype(np.float32))
        found["tsne"] = (f"t-SNE, perplexity {perplexity:.3g}", near)
    return found


def _components(codes: Sequence[NDArray[np.floating[Any]]]) -> tuple[Floats, Floats]:
    """Return the principal components (n, n), the largest first, and their variances, from the products of the rows."""
    products = np.zeros((len(codes[0]), len(codes[0])))
    for table in codes:
        centred = table.astype(np.float64) - table.mean(axis=0, dtype=np.float64)
        own = centred @ centred.T
        products += own / max(np.trace(own), np.finfo(float).tiny)
    values, vectors = np.linalg.eigh(products)
    variances = np.clip(values[::-1], 0, None)
    scores = vectors[:, ::-1] * np.sqrt(variances)
    sign = np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(len(scores))])
    return scores * sign, variances
