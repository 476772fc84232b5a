"""What a store of counters answers to a request that may go on. Knows neither stores nor clocks.

Plain classes and not structs: made for every request, they are compiled with the store that makes them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.core.limits import Rate

if TYPE_CHECKING:
    from gateway.access.accounts import Spent


class Shown:
    """A rate as callers are shown it: what stands before the units left, and before the time until all are back."""

    __slots__ = ("of_tokens", "rate", "remaining", "reset")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.of_tokens = rate.kind == "tokens"
        self.remaining, self.reset = _names(rate.kind, rate.per_minute)


@lru_cache(4096)
def _names(kind: str, per_minute: int) -> tuple[str, str]:
    """Shared: thousands of keys have the same limit."""
    return (
        f"x-ratelimit-limit-{kind}: {per_minute}\r\nx-ratelimit-remaining-{kind}: ",
        f"\r\nx-ratelimit-reset-{kind}: ",
    )


class Level:
    """What a rate has left after a reserve, for `x-ratelimit-*`: units left, seconds until it is full again."""

    __slots__ = ("full_in_s", "remaining", "shown")

    def __init__(self, shown: Shown, remaining: int, full_in_s: float) -> None:
        self.shown = shown
        self.remaining = remaining
        self.full_in_s = full_in_s

    @property
    def rate(self) -> Rate:
        """The one that it is of."""
        return self.shown.rate


class Grant:
    """The request may go on. `windows` hold its reservation; `spent` and `levels` are as they stand after it.

    `spent` has at least those windows that have come to their first soft limit: of the others nobody is told.
    """

    __slots__ = ("levels", "spent", "windows")

    def __init__(self, windows: tuple[str, ...], spent: "Sequence[Spent]" = (), levels: Sequence[Level] = ()) -> None:
        self.windows = windows
        self.spent = spent
        self.levels = levels
