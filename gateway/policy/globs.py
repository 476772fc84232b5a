"""Patterns whose only wildcard is `*`: matching in linear time, and whether one pattern covers another. Pure."""

from collections.abc import Iterable


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern` with each `*` standing for any text, also none. Never backtracks."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in rest:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def covers(wide: Iterable[str] | None, narrow: Iterable[str] | None) -> bool:
    """Whether every text that a `narrow` pattern takes is taken by a `wide` one; `None` takes everything.

    A pattern covers another when it matches it as a text: its own literal parts hold no `*`, so a `*` of the
    other can only fall inside one of its wildcards. Covering by several patterns together is not seen.
    """
    if wide is None:
        return True
    patterns = list(wide)
    if narrow is None:
        return "*" in patterns
    return all(any(matches(pattern, text) for pattern in patterns) for text in narrow)
