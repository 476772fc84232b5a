"""What a routing score is worth on rows where both models' quality is known: RouteLLM's curve, APGR and CPT.

Source: Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data" (2024) and its evaluation code: eleven
thresholds at the deciles of the scores, a request goes to the strong model where its score is at least the threshold
(above it, for the last), the area by trapezoids over the share of strong calls, CPT by linear interpolation of that
share over quality. Knows nothing of files, heads or prompts.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS: Final = 10
_RANDOM_ROWS = 20
_RESAMPLES = 1000


class Rows(NamedTuple):
    """`float64[n]` each: what either model's answer is worth, greater is better."""

    weak: Floats
    strong: Floats

    def take(self, index: NDArray[np.intp]) -> "Rows":
        """These rows, in this order, repetitions included."""
        return Rows(self.weak[index], self.strong[index])


class Curve(NamedTuple):
    """APGR: the mean share of the quality gap that is recovered over all shares of strong calls; 0.5 at random.

    CPT50, CPT80: the share of strong calls, in per cent, that recovers 50 and 80 % of the gap.
    """

    apgr: float
    cpt50: float
    cpt80: float


class Interval(NamedTuple):
    """95 % bootstrap percentile intervals of each figure of a `Curve`, over the rows."""

    apgr: tuple[float, float]
    cpt50: tuple[float, float]
    cpt80: tuple[float, float]


def curve(scores: Floats, rows: Rows) -> Curve:
    """The figures of `scores` (`float64[n]`, greater is for the strong model).

    ValueError: no rows, NaN, or a strong model that is not better: then there is no gap to recover.
    """
    gap = _gap(scores, rows)
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)))
    ordered = np.sort(scores)
    at = np.searchsorted(ordered, thresholds, side="left")
    at[-1] = len(scores)
    order = np.argsort(scores, kind="stable")
    below = np.concatenate([[0.0], np.cumsum((rows.strong - rows.weak)[order])])
    share = 1 - at / len(scores)
    recovered = (below[-1] - below[at]) / len(scores) / gap
    share, recovered = share[::-1], recovered[::-1]
    area = float(np.sum((recovered[1:] + recovered[:-1]) * np.diff(share)) / 2)
    cpt50, cpt80 = np.interp([0.5, 0.8], recovered, share * 100)
    return Curve(area, float(cpt50), float(cpt80))


def interval(scores: Floats, rows: Rows, *, seed: int, resamples: int = _RESAMPLES) -> Interval:
    """How far chance moves the figures; resamples in which the strong model is not better are drawn anew."""
    _gap(scores, rows)
    dice = np.random.default_rng(seed)
    found: list[Curve] = []
    while len(found) < resamples:
        index = dice.integers(0, len(scores), len(scores))
        drawn = rows.take(index)
        if drawn.strong.mean() > drawn.weak.mean():
            found.append(curve(scores[index], drawn))
    low, high = np.percentile(np.array(found), [2.5, 97.5], axis=0)
    return Interval(*[(float(a), float(b)) for a, b in zip(low, high, strict=True)])


def random_curve(rows: Rows, *, seed: int) -> Curve:
    """The mean figures of twenty random scores."""
    dice = np.random.default_rng(seed)
    found = [curve(dice.random(len(rows.weak)), rows) for _ in range(_RANDOM_ROWS)]
    return Curve(*[float(mean) for mean in np.mean(np.array(found), axis=0)])


def oracle_curve(rows: Rows) -> Curve:
    """The figures of a score that knows both qualities: no router can be better."""
    gains = rows.strong - rows.weak
    ranks = np.empty(len(gains))
    ranks[np.argsort(gains, kind="stable")] = np.arange(len(gains))
    return curve(ranks, rows)


def _gap(scores: Floats, rows: Rows) -> float:
    if not len(scores) or np.isnan(scores).any() or not len(scores) == len(rows.weak) == len(rows.strong):
        raise ValueError("scores and qualities are arrays of one length, at least 1, without NaN")
    gap = float((rows.strong - rows.weak).mean())
    if not gap > 0:
        raise ValueError("the strong model is not better on these rows, so there is no gap to recover")
    return gap
