"""Codes as files for use elsewhere: one .npy a tap and a Parquet index."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit import files, tables
from tlkit.codes.extraction import Codes

if TYPE_CHECKING:
    from tlkit.data import ImageData


def write_codes(folder: Path, codes: Codes, images: ImageData) -> None:
    """Write TAP.npy (float32 (n, d), NaN rows for unreadable images) and index.parquet (file, label, split, error)."""
    import pandas as pd

    for tap, values in codes.values.items():
        buffer = BytesIO()
        np.save(buffer, values, allow_pickle=False)
        files.write_bytes(folder / f"{tap}.npy", buffer.getvalue())
    index = {
        "file": [tables.printable(name) for name in images.files],
        "label": [images.classes[label] for label in images.labels],
        "split": images.split,
        "error": pd.Series([codes.errors.get(row) for row in range(len(images))], dtype=object),
    }
    tables.write(pd.DataFrame(index), folder / "index.parquet")
