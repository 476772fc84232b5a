"""Time as an argument: pure code takes a `Clock`, so tests move it by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: a monotonic one for durations, a wall one for dates."""

    def monotonic(self) -> float:
        """Seconds, never steps back; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
