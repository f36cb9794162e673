"""The built-in demonstration data: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
import PIL.Image

from tlkit.data.imagedata import ImageData


def digits() -> ImageData:
    """Return 1,797 scans of handwritten digits, grey, 8 x 8 pixels; no download, no split of its own.

    Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    grey = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return ImageData(
        name="digits",
        images=[PIL.Image.fromarray(scan) for scan in grey],
        files=tuple(f"digits/{number:04d}" for number in range(len(grey))),
        labels=labels.astype(np.int64),
        classes=tuple("0123456789"),
        source={"reference": "https://doi.org/10.24432/C50P49"},
    )
