"""Request ids: ULIDs (48 bits of milliseconds, 80 random bits), sortable by time; never the upstream's."""

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def ulid(wall_s: float, entropy: bytes | None = None) -> str:
    """26 Crockford base-32 characters. `entropy` is 10 bytes; `None` draws them from the system."""
    value = int(wall_s * 1000) << 80 | int.from_bytes(entropy or os.urandom(10), "big")
    pairs = _PAIRS
    return "".join([pairs[value >> shift & 1023] for shift in range(120, -1, -10)])
