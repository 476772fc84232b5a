"""Reads conditions on measured figures: `METRIC>LIMIT%` or `METRIC<LIMIT%`, several with commas. Pure, and strict.

Who measures says which metrics there are; what a condition then does is not known here.
"""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Final, Literal

import msgspec

from gateway.core.errors import BadRequest

_FORM: Final = re.compile(r"([a-z_]+)\s*([<>])\s*([+-]?)(\d{1,6}(?:\.\d{1,6})?)%")


class Condition(msgspec.Struct, frozen=True):
    """Fires when `metric` is above (`>`) or below (`<`) `limit`, a fraction."""

    text: str
    metric: str
    side: Literal["<", ">"]
    limit: float


def parse_conditions(
    text: str, metrics: Collection[str], *, option: str, example: str, shares: Collection[str] = ()
) -> tuple[Condition, ...]:
    """The conditions of the argument of `option`; metrics of `shares` are never below 0.

    Raises `BadRequest` naming the part that is wrong.
    """
    found: dict[tuple[str, str], Condition] = {}
    for part in (part.strip() for part in text.split(",")):
        match = _FORM.fullmatch(part)
        if match is None:
            raise BadRequest(f"{option}: {part!r} is no condition; fix: METRIC>LIMIT% or METRIC<LIMIT%, as {example}")
        metric, side, sign, number = match.groups()
        if metric not in metrics:
            raise BadRequest(f"{option}: {metric!r} is not measured; fix: one of {', '.join(metrics)}")
        if metric in shares and sign == "-":
            raise BadRequest(f"{option}: {part!r}: a share is never below 0; fix: {metric}>10%")
        if (metric, side) in found:
            raise BadRequest(f"{option}: {metric}{side} is given twice; fix: keep one of them")
        limit = float(Decimal(sign + number) / 100)
        found[metric, side] = Condition(part, metric, "<" if side == "<" else ">", limit)
    return tuple(found.values())
