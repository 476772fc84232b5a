"""Token buckets: what a rate still admits, and when it admits more. Knows neither stores nor clocks.

A bucket holds `per_minute` units and refills continuously. A cost above its whole size is admitted when the bucket is
full, and leaves it in debt: late, but never impossible for ever. (`lua/common.lua` has the same arithmetic.)
"""

from gateway.access.accounts import Level
from gateway.core.limits import Rate

_DUST = 1e-6
"""Refills are floats: a caller who waits exactly as long as it was told must get in."""


class Bucket:
    """`level` units were left at `at_s`; negative is debt. `per_minute` follows the rate when a policy changes it."""

    __slots__ = ("at_s", "level", "per_minute")

    def __init__(self, per_minute: int, at_s: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.at_s = at_s

    def refill(self, now: float) -> float:
        """Brings the level up to `now` and returns it. A clock that stepped back refills nothing."""
        level = self.level
        if now > self.at_s:
            level += (now - self.at_s) * self.per_minute / 60.0
        self.at_s = now
        if level > self.per_minute:
            level = float(self.per_minute)
        self.level = level
        return level

    def give_back(self, units: int, now: float) -> None:
        """Returns what an estimate took too much; negative `units` were used beyond it."""
        self.level = min(float(self.per_minute), self.refill(now) + units)


def wait_s(level: float, cost: int, per_minute: int) -> float:
    """Seconds until a bucket at `level` admits `cost`; 0.0 when it does now."""
    missing = min(cost, per_minute) - level
    return missing * 60.0 / per_minute if missing > _DUST else 0.0


def level_of(rate: Rate, level: float) -> Level:
    """The level as it is shown to callers."""
    return Level(rate, int(level + _DUST) if level > 0 else 0, (rate.per_minute - level) * 60.0 / rate.per_minute)
