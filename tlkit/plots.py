"""PROVISIONAL (lead): to be replaced by the heads/evaluation engineer's version."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix(matrix: Any, classes: Sequence[str]) -> Figure:
    """Provisional."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    figure.subplots().imshow(matrix)
    return figure


def reliability(probabilities: Any, labels: Any) -> Figure:
    """Provisional."""
    from matplotlib.figure import Figure

    return Figure()


def save(figure: Figure, path: Path) -> None:
    """Provisional."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    files.write_bytes(path, buffer.getvalue())
