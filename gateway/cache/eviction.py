"""Which entries to give up when there is no room: those that save the least per byte. Pure; time is an argument.

Hyperbolic caching (Blankstein, Sen, Freedman, USENIX ATC 2017): an entry is worth its cost times its uses per second of
its life, over its size. Since values change with time by themselves, victims are the worst of a random sample.
"""

from collections.abc import Callable

from gateway.cache.entry import Entry

Value = Callable[[Entry, int, float, int], float]
"""What keeping an entry is worth, from its times served, its age in seconds, and its bytes; the lowest goes first."""

SAMPLE = 8


def value_per_byte(entry: Entry, served: int, age_s: float, size: int) -> float:
    """Micro-dollars saved per second and byte. An unknown price counts as one micro-dollar a token of output."""
    cost = entry.usage.output if entry.cost_micro_usd is None else entry.cost_micro_usd
    return (cost + 1) * (served + 1) / ((max(0.0, age_s) + 1.0) * size)
