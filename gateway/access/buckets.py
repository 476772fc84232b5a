"""Token buckets: what a rate still admits, and when it admits more. Knows neither stores nor clocks.

A bucket holds `per_minute` units and refills continuously. A cost above its whole size is admitted when the bucket is
full, and leaves it in debt: late, but never impossible for ever. What it lacks is kept as the seconds that refill it,
so that taking and giving back are one sum each. (`lua/common.lua` does the same with units.)
"""

from gateway.access.grants import Level, Shown

MINUTE_S = 60.0
_DUST = 1e-6
"""Sums of floats: a caller who waits exactly as long as it was told must get in."""


class Bucket:
    """Lacked `lack_s` at `at_s`: above a minute is debt, below zero is full. `unit_s` seconds give one unit.

    `forgotten` tells who still holds it that another one counts by now.
    """

    __slots__ = ("at_s", "forgotten", "lack_s", "per_minute", "unit_s")

    def __init__(self, per_minute: int, at_s: float) -> None:
        self.per_minute = per_minute
        self.unit_s = MINUTE_S / per_minute
        self.lack_s = 0.0
        self.at_s = at_s
        self.forgotten = False

    def refill(self, per_minute: int, now: float) -> float:
        """Brings it up to `now` and returns what it lacks. A clock that stepped back refills nothing.

        `per_minute` follows the rate when a policy changes it: as many units as are there stay.
        """
        lack_s = self.lack_s
        if now > self.at_s:
            lack_s -= now - self.at_s
        if lack_s < 0:
            lack_s = 0.0
        self.at_s = now
        if per_minute != self.per_minute:
            left = self.per_minute - lack_s / self.unit_s
            self.per_minute, self.unit_s = per_minute, MINUTE_S / per_minute
            lack_s = max(0.0, (per_minute - left) * self.unit_s)
        self.lack_s = lack_s
        return lack_s

    def take(self, units: int, per_minute: int, now: float) -> bool:
        """Takes `units`; False, and nothing is taken, where it has to be waited for them."""
        lack_s, cost_s = self.refill(per_minute, now), units * self.unit_s
        after_s = lack_s + cost_s
        if after_s > MINUTE_S and wait_s(lack_s, cost_s):
            return False
        self.lack_s = after_s
        return True

    def level(self, shown: Shown) -> Level:
        """What callers see of it; `shown` is of the rate that it belongs to."""
        left = (MINUTE_S - self.lack_s) / self.unit_s
        return Level(shown, int(left + _DUST) if left > 0 else 0, self.lack_s)

    def give_back(self, units: int, now: float) -> None:
        """Returns what an estimate took too much; negative `units` were used beyond it, now."""
        if units < 0:
            self.refill(self.per_minute, now)
        self.lack_s -= units * self.unit_s


def wait_s(lack_s: float, cost_s: float) -> float:
    """Seconds until a bucket that lacks so much admits a cost, in seconds of refilling; 0.0 when it does now."""
    missing = min(cost_s, MINUTE_S) + lack_s - MINUTE_S
    return missing if missing > _DUST else 0.0
