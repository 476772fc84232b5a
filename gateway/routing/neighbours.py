"""The tier that learns: what the strong model gained on the tenant's own most similar labelled requests.

Pure over the neighbours that a caller found; knows no store. Answers only where the neighbourhood is dense: a mean of
a few far requests says less than the heads do, and pulls every score to the same middle.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

K: Final = 100
"""How many neighbours a caller should look for."""
TEMPERATURE: Final = 0.2
"""The cosine by which a neighbour must be nearer to count e times as much."""
NEAR: Final = 0.3
LEAST: Final = 20
"""There is an answer from this many neighbours at a cosine of `NEAR` or more."""


PRIOR: Final = 100.0
"""Neighbours of equal weight that count as much as the head."""


class Local(NamedTuple):
    """`gain`: the weighted mean of the neighbours' gains. `worth`: how many neighbours of equal weight it equals."""

    gain: float
    worth: float


def local_gain(cosines: NDArray[np.float64], gains: NDArray[np.float64]) -> Local | None:
    """What the neighbours say, or `None` where they are too few or too far.

    `cosines` and `gains` (quality(strong) - quality(weak)) are `float64[k]`, in the same order.
    """
    if int((cosines >= NEAR).sum()) < LEAST:
        return None
    weights = np.exp((cosines - cosines.max()) / TEMPERATURE)
    total = float(weights.sum())
    return Local(float(weights @ gains) / total, total * total / float(weights @ weights))


def blend(score: float, local: Local | None) -> float:
    """A head's expected gain moved towards the neighbours', the more the more they are worth; as it is without them."""
    if local is None:
        return score
    trust = local.worth / (local.worth + PRIOR)
    return (1 - trust) * score + trust * local.gain
