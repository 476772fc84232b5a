"""Which answers are worth their room: asked for twice before they are kept, and the least value per byte goes first.

Pure state and arithmetic: no clock, no randomness. What is forgotten here costs one more upstream call, nothing else.
"""

PRIOR_HITS = 0.5
"""Hits that an entry is credited with before any: half of all new entries are expected to be used once."""
PRIOR_AGE_S = 3600.0
"""The time in which the prior would have come: it keeps a new entry from being judged by its first seconds."""


class Doorkeeper:
    """Remembers which keys were seen, in bounded memory: two sets that take turns.

    Between the last `capacity` and twice as many distinct keys are remembered. Keys are hex digests, kept as their
    first 64 bits: a false "seen before" has a chance of `capacity` / 2**63 and admits one answer early. About 100
    bytes a key. Source: the doorkeeper of TinyLFU (Einziger, Friedman, Manes 2017), with exact sets for its filter.
    """

    __slots__ = ("_capacity", "_new", "_old")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._new: set[int] = set()
        self._old: set[int] = set()

    def seen(self, key: str) -> bool:
        """Whether this key was seen before; it now has been."""
        short = int(key[:16], 16)
        known = short in self._new or short in self._old
        if short not in self._new:
            if len(self._new) >= self._capacity:
                self._old, self._new = self._new, set()
            self._new.add(short)
        return known

    def __len__(self) -> int:
        """Keys held: at most twice the capacity."""
        return len(self._new) + len(self._old)
