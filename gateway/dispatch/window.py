"""Counts events, and a marked part of them, over the last few seconds; knows nothing of what they mean."""

from typing import Final

SLOTS: Final = 10


class Window:
    """Two counters over a sliding `span_s` seconds, in ten slots: an event counts for 0.9 to 1.0 spans.

    `total` and `marked` are the live sums as of the last `add` or `roll`. Time is monotonic seconds; an earlier
    time than the last one seen is taken as that one. Method: Finagle's WindowedAdder.
    """

    __slots__ = ("_index", "_marks", "_per_s", "_slot", "_totals", "marked", "total")

    def __init__(self, span_s: float) -> None:
        self._per_s = SLOTS / span_s
        self._slot = 0
        self._index = 0
        self._totals = [0] * SLOTS
        self._marks = [0] * SLOTS
        self.total = 0
        self.marked = 0

    def add(self, now: float, total: int, marked: int) -> None:
        """Adds to both counters at `now`."""
        if int(now * self._per_s) > self._slot:
            self.roll(now)
        index = self._index
        self._totals[index] += total
        self.total += total
        if marked:
            self._marks[index] += marked
            self.marked += marked

    def roll(self, now: float) -> None:
        """Forgets what has left the window at `now`."""
        slot = int(now * self._per_s)
        for passed in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            index = passed % SLOTS
            self.total -= self._totals[index]
            self.marked -= self._marks[index]
            self._totals[index] = self._marks[index] = 0
        if slot > self._slot:
            self._slot = slot
            self._index = slot % SLOTS

    def clear(self) -> None:
        """Forgets everything."""
        self._totals = [0] * SLOTS
        self._marks = [0] * SLOTS
        self.total = self.marked = 0
