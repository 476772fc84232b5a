"""Patterns over text, on RE2: linear in the text whatever the pattern, so that no request can make a rule slow.

Imports RE2 when the first pattern is made, which a policy without patterns never does.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.policy.units import regex_options

_OTHER = r"[^\pL\pN\pM_]"
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Chinese and Japanese."""


class Pattern:
    """One compiled expression, searched for anywhere in a text."""

    __slots__ = ("_search", "source")

    def __init__(self, source: str) -> None:
        """`source` is in RE2's syntax and known to compile."""
        import re2  # noqa: PLC0415 - see the module

        self.source = source
        self._search: Any = re2.compile(source, regex_options()).search

    def __repr__(self) -> str:
        """As it was written."""
        return f"Pattern({self.source!r})"

    def finds(self, text: bytes) -> bool:
        """Whether it is somewhere in `text` (UTF-8)."""
        return self._search(text) is not None


class AnyOf:
    """Several patterns that are searched for in one pass, where they fit into one expression."""

    __slots__ = ("_each", "_joined")

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._each = tuple(patterns)
        self._joined = _joined(self._each)

    def finds(self, text: bytes) -> bool:
        """Whether any of them is in `text` (UTF-8)."""
        if self._joined is not None:
            return self._joined.finds(text)
        return any(pattern.finds(text) for pattern in self._each)

    def first(self, text: bytes) -> int | None:
        """The position of the first pattern that is in `text`, `None` when none is."""
        if self._joined is not None and not self._joined.finds(text):
            return None
        return next((index for index, pattern in enumerate(self._each) if pattern.finds(text)), None)


def _joined(patterns: Sequence[Pattern]) -> Pattern | None:
    import re2  # noqa: PLC0415 - see the module

    if len(patterns) == 1:
        return patterns[0]
    try:
        return Pattern("|".join(f"(?:{pattern.source})" for pattern in patterns))
    except re2.error:
        return None  # too large for one: they are searched for one by one


def keywords(words: Iterable[str]) -> Pattern:
    """A pattern that finds any of `words` between word boundaries, in any case; a space stands for any white space."""
    return Pattern("(?i)" + "|".join(_bounded(word) for word in words))


def encoded(text: str) -> bytes:
    """`text` as patterns search it; a lone surrogate becomes `?`."""
    return text.encode("utf-8", "replace")


def _bounded(word: str) -> str:
    import re2  # noqa: PLC0415 - see the module

    before = rf"(?:^|{_OTHER})" if _spaced(word[0]) else ""
    after = rf"(?:$|{_OTHER})" if _spaced(word[-1]) else ""
    return before + r"\s+".join(re2.escape(part) for part in word.split()) + after


def _spaced(character: str) -> bool:
    """Whether a word that ends with it has a boundary there: `C++` has none behind it."""
    return character.isalnum() and not any(low <= ord(character) <= high for low, high in _UNSPACED)
