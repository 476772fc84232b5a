"""How a matrix becomes int8: one scale per output channel, safe on every processor."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def by_channel(weight: "Floats") -> tuple["NDArray[np.int8]", "Floats"]:
    """`float32[k, m]` as int8 and one scale per column, for unsigned 8-bit inputs.

    Processors without VNNI add the products of neighbouring rows in 16 bits. Where two weights of one sign sum to at
    most 128, 255 times that fits, so the scale is chosen by the largest such sum and not only by the largest weight.
    """
    pairs = weight.reshape(-1, 2, weight.shape[1])
    positive, negative = np.maximum(pairs, 0).sum(1).max(0), np.maximum(-pairs, 0).sum(1).max(0)
    scale = np.maximum.reduce([positive, negative, np.full_like(positive, 1e-12)]) / 127
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
