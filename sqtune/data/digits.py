"""scikit-learn's handwritten digits: real images that come with a dependency."""

from __future__ import annotations

import numpy as np

from sqtune.data.images import Images


def load_digits() -> Images:
    """Return the 1,797 digits as one set, N x 1 x 8 x 8, the 17 grey levels spread over 0..255."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = digits.target.astype(np.int64)
    return Images(pixels, labels, tuple(str(name) for name in digits.target_names))
