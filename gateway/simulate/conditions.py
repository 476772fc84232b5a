"""`--fail-on`: what a simulation must not show. Pure.

What cannot be known fires, too: a check that nobody can make is not passed.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.core.conditions import Condition, parse_conditions
from gateway.simulate.statistics import Estimate

METRICS: Final[Mapping[str, str]] = {
    "cost": "change of the total cost, relative",
    "quality": "change of the mean quality, in points of 1",
    "hits": "change of the cache's hit rate, in points",
    "refused": "change of the share of refused requests, in points",
    "strong": "change of the share of requests at a strong target, in points",
    "undecided": "share of requests that the record cannot decide",
    "pool": "busiest hour of a pool, as a share of its stated rates",
}
_SHARES = frozenset(["undecided", "pool"])
_EXAMPLE = "cost>+5%,quality<-1%"


class Verdict(msgspec.Struct, frozen=True):
    """What became of a condition. `unsure`: the interval reaches the other side of the limit."""

    condition: str
    status: Literal["holds", "fires", "unknown"]
    value: float | None
    unsure: bool = False

    @property
    def failed(self) -> bool:
        """Whether the simulation fails by it."""
        return self.status != "holds"


def parse(text: str) -> tuple[Condition, ...]:
    """The conditions of an argument. Raises `BadRequest` naming the part that is wrong."""
    return parse_conditions(text, METRICS, option="--fail-on", example=_EXAMPLE, shares=_SHARES)


def judge(condition: Condition, measured: Estimate | None) -> Verdict:
    """The verdict over what was measured; `None` is unknown."""
    if measured is None:
        return Verdict(condition.text, "unknown", None)
    above = condition.side == ">"
    fires = measured.value > condition.limit if above else measured.value < condition.limit
    low, high = measured.low, measured.high
    unsure = low is None or high is None or (low <= condition.limit <= high and low < high)
    return Verdict(condition.text, "fires" if fires else "holds", measured.value, unsure)
