"""What a caller asks of the cache for one request, read from its headers; knows no policy and no entry.

`x-farthing-cache` is this gateway's own: `off` (neither read nor kept), `refresh` (asked anew, then kept), `exact`
(no answer of a similar request), `only` (a stored answer or none), and combinations of the last with the others that
read. A word that is not one of these is the caller's error, for a mistyped `off` must not be served from the cache.
`Cache-Control` follows RFC 9111, section 5.2.1: directives that are unknown are ignored, and an age that cannot be
read counts as 0. `no-store` neither reads nor keeps. Where both speak, the stricter holds.
"""

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.exchange import Call

_WORDS = frozenset(["off", "refresh", "exact", "only"])
_MAX_AGE_S = 2**31
"""RFC 9111, section 1.2.2: an age beyond this is this."""


class Controls(msgspec.Struct, frozen=True):
    """`read`: a stored answer may be served, by a similar request if `semantic`, none older than `max_age_s`.

    `write`: the answer may be kept. `only`: without a stored answer the request fails with 504 and is not sent on.
    """

    read: bool = True
    write: bool = True
    semantic: bool = True
    only: bool = False
    max_age_s: int | None = None


_UNSAID = Controls()


def controls(call: Call) -> Controls:
    """The controls of one call; raises `BadRequest` for an `x-farthing-cache` that is not understood."""
    index = call.index
    if b"x-farthing-cache" not in index and b"cache-control" not in index:
        return _UNSAID
    said = _directives(call, b"cache-control")
    words = set(_directives(call, b"x-farthing-cache"))
    unknown = words - _WORDS
    if unknown or len(words & {"off", "refresh"}) == 2 or (words & {"off", "refresh"} and "only" in words):
        raise BadRequest(
            "x-farthing-cache must be off, refresh, exact or only (exact and only may be combined).",
            param="x-farthing-cache",
            code="invalid_cache_control",
        )
    write = "off" not in words and "no-store" not in said
    return Controls(
        read=write and "refresh" not in words and "no-cache" not in said,
        write=write,
        semantic="exact" not in words,
        only="only" in words or "only-if-cached" in said,
        max_age_s=_seconds(said["max-age"]) if "max-age" in said else None,
    )


def _directives(call: Call, name: bytes) -> dict[str, str]:
    """Lower-case directives of all headers of this name, with their arguments; of a repeated one, the smallest age."""
    out: dict[str, str] = {}
    for key, value in call.headers:
        if key != name:
            continue
        for part in value.decode("latin-1").split(","):
            word, _, argument = part.strip().lower().partition("=")
            if word and (word not in out or _seconds(argument) < _seconds(out[word])):
                out[word] = argument
    return out


def _seconds(argument: str) -> int:
    text = argument.strip().strip('"')
    if not (text.isascii() and text.isdigit()):
        return 0
    return min(int(text), _MAX_AGE_S) if len(text) <= 10 else _MAX_AGE_S
