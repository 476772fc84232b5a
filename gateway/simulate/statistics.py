"""How sure a mean or a ratio over requests is: running sums, and 95 % intervals by the central limit theorem. Pure.

Requests count as independent draws of the traffic to come. A pair is one request under both policies, so what does
not differ between them adds no noise.
"""

from math import sqrt
from typing import Final

import msgspec

_Z: Final = 1.959964
LEAST: Final = 2


class Estimate(msgspec.Struct, frozen=True):
    """A value and its 95 % interval over `n` requests; the ends are `None` where `n` is too small for one."""

    value: float
    low: float | None
    high: float | None
    n: int


def quantile(n: int) -> float:
    """The 97.5 % point of Student's t with n - 1 degrees of freedom (expansion of Abramowitz and Stegun, 26.7.5)."""
    if n < LEAST:
        raise ValueError("one observation has no spread")
    if n == LEAST:
        return 12.706
    v, z = n - 1, _Z
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / v + g2 / v**2 + g3 / v**3


class Mean:
    """The mean of numbers."""

    __slots__ = ("n", "squares", "total")

    def __init__(self) -> None:
        self.n = 0
        self.total = 0.0
        self.squares = 0.0

    def add(self, value: float) -> None:
        """Counts one."""
        self.n += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float | None:
        """`None` of nothing."""
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float:
        """Of one number; 0 where fewer than two are known."""
        if self.n < LEAST:
            return 0.0
        return max(0.0, (self.squares - self.total * self.total / self.n) / (self.n - 1))

    def estimate(self) -> Estimate | None:
        """`None` of nothing."""
        mean = self.mean
        if mean is None:
            return None
        if self.n < LEAST:
            return Estimate(mean, None, None, self.n)
        half = quantile(self.n) * sqrt(self.variance / self.n)
        return Estimate(mean, mean - half, mean + half, self.n)


class Pairs:
    """The relative change of a total, from (old, new) amounts in whole units."""

    __slots__ = ("_cross", "_new2", "_old2", "n", "new", "old")

    def __init__(self) -> None:
        self.n = self.old = self.new = 0
        self._old2 = self._new2 = self._cross = 0

    def add(self, old: int, new: int) -> None:
        """Counts one pair."""
        self.n += 1
        self.old += old
        self.new += new
        self._old2 += old * old
        self._new2 += new * new
        self._cross += old * new

    def change(self) -> Estimate | None:
        """The new total over the old one, less 1; `None` where the old is 0 and the new is not."""
        if not self.n or not self.old:
            return Estimate(0.0, 0.0, 0.0, self.n) if not self.new else None
        ratio = self.new / self.old
        value = self.new / self.old - 1
        if self.n < LEAST:
            return Estimate(value, None, None, self.n)
        # Delta method: the residuals new - ratio * old sum to 0; their squares are sums that are kept exactly.
        squares = self._new2 - 2 * ratio * self._cross + ratio * ratio * self._old2
        error = sqrt(max(0.0, squares) * self.n / (self.n - 1)) / self.old
        half = quantile(self.n) * error
        return Estimate(value, value - half, value + half, self.n)


def of_part(part: Mean, changed: int, everything: int) -> Estimate | None:
    """The mean over `everything` of a difference that is 0 but for `changed`, a sample of which is in `part`.

    `None` where something changed and nothing of it is known.
    """
    if not changed:
        return Estimate(0.0, 0.0, 0.0, everything)
    mean = part.mean
    if mean is None:
        return None
    share = changed / everything
    value = share * mean
    if part.n < LEAST:
        return Estimate(value, None, None, part.n)
    error = sqrt(share * share * part.variance / part.n + mean * mean * share * (1 - share) / everything)
    half = quantile(part.n) * error
    return Estimate(value, value - half, value + half, part.n)
