"""`--fail-on`: what a simulation must not show, strictly parsed and judged. Pure.

A condition is `METRIC>LIMIT%` or `METRIC<LIMIT%`, several with commas. What cannot be known fires, too: a check that
nobody can make is not passed.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal

import msgspec

from gateway.core.errors import BadRequest
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
_FORM = re.compile(r"([a-z_]+)\s*([<>])\s*([+-]?)(\d{1,6}(?:\.\d{1,6})?)%")
_SHARES = frozenset(["undecided", "pool"])
_EXAMPLE = "cost>+5%,quality<-1%"


class Condition(msgspec.Struct, frozen=True):
    """Fires when `metric` is above (`>`) or below (`<`) `limit`, a fraction."""

    text: str
    metric: str
    side: Literal["<", ">"]
    limit: float


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
    found: dict[tuple[str, str], Condition] = {}
    for part in (part.strip() for part in text.split(",")):
        match = _FORM.fullmatch(part)
        if match is None:
            raise BadRequest(f"--fail-on: {part!r} is no condition; fix: METRIC>LIMIT% or METRIC<LIMIT%, as {_EXAMPLE}")
        metric, side, sign, number = match.groups()
        if metric not in METRICS:
            raise BadRequest(f"--fail-on: {metric!r} is not measured; fix: one of {', '.join(METRICS)}")
        if metric in _SHARES and sign == "-":
            raise BadRequest(f"--fail-on: {part!r}: a share is never below 0; fix: {metric}>10%")
        if (metric, side) in found:
            raise BadRequest(f"--fail-on: {metric}{side} is given twice; fix: keep one of them")
        limit = float(Decimal(sign + number) / 100)
        found[metric, side] = Condition(part, metric, "<" if side == "<" else ">", limit)
    return tuple(found.values())


def judge(condition: Condition, measured: Estimate | None) -> Verdict:
    """The verdict over what was measured; `None` is unknown."""
    if measured is None:
        return Verdict(condition.text, "unknown", None)
    above = condition.side == ">"
    fires = measured.value > condition.limit if above else measured.value < condition.limit
    low, high = measured.low, measured.high
    unsure = low is None or high is None or (low <= condition.limit <= high and low < high)
    return Verdict(condition.text, "fires" if fires else "holds", measured.value, unsure)
