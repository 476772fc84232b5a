"""Decides from which score on requests may go to the strong target when 1,000 of them are to cost at most so much.

Pure, over arrays. What a request costs at either target is known or estimated by the caller. It bounds the mean of the
sample, not of any other traffic: the interval says how far chance alone moves it.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from gateway.core.errors import BadRequest
from gateway.core.money import MICRO
from gateway.routing.metric import Floats
from gateway.routing.shares import Cost, ShareCalibration, at_threshold, check

_RESAMPLES: Final = 1000
_THOUSAND: Final = 1000


class Costs(NamedTuple):
    """`float64[n]` each: micro-USD of every request, if the weak or the strong target answers it. No NaN."""

    weak: Floats
    strong: Floats

    def at(self, scores: Floats, threshold: float) -> Floats:
        """What each request costs with this threshold."""
        return np.where(scores <= threshold, self.weak, self.strong)


def calibrate_cost(
    scores: Floats,
    costs: Costs,
    weights: Floats | None,
    target_cost: int,
    *,
    route: str,
    date: str,
    versions: Mapping[str, str],
) -> ShareCalibration:
    """The threshold with the most strong calls whose mean cost on the sample is at most `target_cost`.

    That is in micro-USD for 1,000 requests. Weaker and weaker thresholds are tried until one is cheap enough; the cost
    need not fall all the way. `BadRequest`: none is, or sending everything to the strong target already is. ValueError:
    too few scores, or NaN.
    """
    listed = scores.tolist()
    check(listed, None if weights is None else weights.tolist())
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    mass = (np.ones(len(scores)) if weights is None else weights)[order]
    step = mass * (costs.weak - costs.strong)[order] / mass.sum() * _THOUSAND
    strongest = float((mass * costs.strong[order]).sum() / mass.sum()) * _THOUSAND
    last_of_ties = np.append(np.diff(ordered) > 0, [True])
    reached = (strongest + np.cumsum(step))[last_of_ties]
    if target_cost >= strongest or target_cost < reached.min():
        raise BadRequest(_out_of_reach(target_cost, float(reached.min()), strongest))
    threshold = float(ordered[last_of_ties][np.argmax(reached <= target_cost)])
    return at_threshold(
        listed,
        threshold,
        None if weights is None else weights.tolist(),
        route=route,
        date=date,
        versions=versions,
        target_cost=target_cost,
        cost=expected(scores, costs, weights, threshold),
    )


def expected(scores: Floats, costs: Costs, weights: Floats | None, threshold: float, *, seed: int = 0) -> Cost:
    """The mean cost at a threshold, and its 95 % bootstrap percentile interval over the requests."""
    each = costs.at(scores, threshold) * _THOUSAND
    mass = np.ones(len(each)) if weights is None else weights
    dice = np.random.default_rng(seed)
    found = np.empty(_RESAMPLES)
    for turn in range(_RESAMPLES):
        drawn = dice.integers(0, len(each), len(each))
        found[turn] = np.average(each[drawn], weights=mass[drawn])
    low, high = np.percentile(found, [2.5, 97.5])
    return Cost(float(np.average(each, weights=mass)), (float(low), float(high)))


def per_thousand(micro: float) -> str:
    """`$0.80/1k` of micro-USD for 1,000 requests: cents, and three digits of what is less than a dollar."""
    dollars = micro / MICRO
    whole, _, rest = f"{Decimal(f'{dollars:.3g}') if dollars < 1 else Decimal(f'{dollars:.2f}'):f}".partition(".")
    return f"${whole}.{rest:0<2}/1k"


def _out_of_reach(target_cost: int, least: float, most: float) -> str:
    asked, low, high = (per_thousand(each) for each in (target_cost, least, most))
    if target_cost >= most:
        return f"{asked} needs no choice: all requests at the strong target cost {high}; fix: less than that"
    return f"{asked} cannot be reached: the least is {low}, all at the strong target {high}; fix: between the two"
