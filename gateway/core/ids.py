"""Request ids: UUIDv7 (RFC 9562) as 32 hex digits: sortable by time, ours and never the upstream's."""

from collections.abc import Callable

_VERSION_AND_VARIANT = 7 << 76 | 2 << 62
_RANDOM_MASK = (1 << 80) - 1 ^ (15 << 76 | 3 << 62)


def uuid7(wall_s: float, getrandbits: Callable[[int], int]) -> str:
    """A new id for the time `wall_s`; `getrandbits(80)` gives the random part (ids are unique, not secret)."""
    return f"{int(wall_s * 1000) << 80 | getrandbits(80) & _RANDOM_MASK | _VERSION_AND_VARIANT:032x}"
