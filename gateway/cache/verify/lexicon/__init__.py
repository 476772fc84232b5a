"""What the guards know of English words, read once from the lists beside this module."""

from pathlib import Path

import msgspec

_HERE = Path(__file__).parent


def _table(name: str) -> list[list[list[str]]]:
    lines = (_HERE / name).read_text("utf-8").splitlines()
    return [[side.split() for side in line.split("|")] for line in lines if line and not line.startswith("#")]


def _opposites(*names: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for left, right in (sides for name in names for sides in _table(name)):
        for a in left:
            for b in right:
                found.setdefault(a, set()).add(b)
                found.setdefault(b, set()).add(a)
    return {word: frozenset(others) for word, others in found.items()}


def _synonyms() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for (words,) in _table("synonyms.txt"):
        for word in words:
            found.setdefault(word, set()).update(w for w in words if w != word)
    return {word: frozenset(others) for word, others in found.items()}


class _Words(msgspec.Struct, frozen=True):
    stop: frozenset[str]
    """Words that carry no content of their own."""
    weak: frozenset[str]
    """Words with an opposite that say nothing about polarity when they differ."""
    symmetric: frozenset[str]
    """Words of relations that hold both ways."""


ANTONYMS: dict[str, frozenset[str]] = _opposites("antonyms.txt")
"""Opposites of a lower-case word, as the training edits use them."""

OPPOSITES: dict[str, frozenset[str]] = _opposites("antonyms.txt", "opposites.txt")
"""The same and irregular forms, for the guards."""

SYNONYMS: dict[str, frozenset[str]] = _synonyms()
"""Words that may stand for a lower-case word; `-` stands for a space."""

UNITS: dict[str, str] = {word: words[0] for (words,) in _table("units.txt") for word in words}
"""Units of measure and currencies, each under its first name."""

OPERATIONS: dict[str, str] = {word: words[0] for (words,) in _table("operations.txt") for word in words}
"""Words of arithmetic, each under the name of its operation."""

CONTRACTIONS: dict[str, tuple[str, ...]] = {words[0]: tuple(words[1:]) for (words,) in _table("contractions.txt")}
"""What a contraction opens to."""

NAMES: dict[str, str] = {word: words[0] for (words,) in _table("names.txt") for word in words}
"""Names of places under the first of their names."""

NUMBERS: dict[str, str] = {word: words[0] for (words,) in _table("numbers.txt") for word in words[1:]}
"""Number words as digits."""

DAYS, MONTHS, MOMENTS = (frozenset(words) for (words,) in _table("calendar.txt"))
"""Days of the week, months, and words such as `tomorrow`."""

WORDS = _Words(
    stop=frozenset(word for (words,) in _table("stop.txt") for word in words),
    weak=frozenset(word for (words,) in _table("weak.txt") for word in words),
    symmetric=frozenset(word for (words,) in _table("symmetric.txt") for word in words),
)
"""Word classes that the guards need."""
