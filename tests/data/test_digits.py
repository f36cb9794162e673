"""The built-in digits against scikit-learn's."""

import numpy as np
import PIL.Image
from sklearn.datasets import load_digits

from tlkit.data import decode, prepare
from tlkit.data.digits import digits


def test_digits_are_scikit_learns() -> None:
    data = digits()
    theirs = load_digits()
    assert data.classes == tuple("0123456789")
    assert data.labels.tolist() == theirs.target.tolist()
    assert data.files[42] == "digits/0042"
    assert data.split is None
    scans = np.stack([np.asarray(image) for image in data.images if isinstance(image, PIL.Image.Image)])
    np.testing.assert_array_equal(np.rint(scans / 255 * 16), theirs.images)
    assert decode(data.images[0]).size == (8, 8)
    assert len(prepare(data, 0).rows("test")) == 359  # 359.4, in whole images
