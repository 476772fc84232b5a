"""Reads a question into what the guards compare: words, numbers, identifiers, units, dates, names, negations.

Pure, English, and blind to meaning: two readings are compared by `guards.py`.
"""

import re
import unicodedata
from functools import lru_cache

import msgspec

from gateway.cache.verify.lexicon import CONTRACTIONS, DAYS, MOMENTS, MONTHS, NAMES, NUMBERS, UNITS, WORDS

MOST_CHARACTERS = 2_000
"""A longer text is read up to here: the encoder's window is shorter still."""

_TOKEN = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.]+|https?://\S+"
    r"|[$€£]?\d[\d,]*(?:\.\d+)?(?:%|(?:st|nd|rd|th|am|pm|k|m|bn)\b)?"
    r"|[^\W\d_][\w]*(?:['&.-][^\W_]+)*[+#]*|%|\d\w*"
)
_NUMBER = re.compile(r"([$€£]?)(\d[\d,]*(?:\.\d+)?)(%|st|nd|rd|th|am|pm|k|m|bn)?")
_LAST_LATIN = "\u024f"
"""Words of other scripts are compared letter by letter: the encoder was not trained on them."""
_SIGN = re.compile(
    r"(?<=[\d)\]] )([+*/=<>^|~-])(?= ?[\w(])"
    r"|(?<=[\d)\]])([+*/=<>^|~])(?=[\w( ])"
)
_SCALE = {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}
_TAILS = {"n't": "not", "'re": "are", "'ve": "have", "'ll": "will", "'d": "would"}
_BEFORE_MONTH = frozenset("in of since until by during last next this early late mid to from".split())  # noqa: SIM905
_NEGATIONS = frozenset(
    "not no never without none nobody nothing nowhere neither nor hardly barely".split()  # noqa: SIM905  a sentence
)
_NO_NAMES = frozenset("i i'm i've i'd i'll ok atm pin id faq hi hello please sir thanks".split())  # noqa: SIM905
_OPENERS = re.compile(
    r"^(?:(?:hi|hello|hey|so|ok|okay|please|excuse me|quick question|just curious|i was wondering|good morning|"
    r"good afternoon)\b[,:!. ]*)+",
    re.IGNORECASE,
)
_LONG_NAMES = re.compile(r"\bunited (states|kingdom)\b(?: of america\b)?", re.IGNORECASE)
_PARTS = frozenset({"united", "new", "great"})
"""Words that begin many names and tell none apart."""


class Reading(msgspec.Struct, frozen=True):
    """A question as the guards see it; words are lower case, contractions are opened."""

    words: tuple[str, ...]
    stems: tuple[str, ...]
    numbers: tuple[str, ...]
    identifiers: frozenset[str]
    units: frozenset[str]
    dates: frozenset[str]
    names: frozenset[str]
    negations: int
    content: frozenset[str]
    symbols: tuple[str, ...]
    measured: frozenset[tuple[str, str]]
    """Numbers with the unit that follows them."""


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """The reading of a text."""
    text = unicodedata.normalize("NFKC", text[:MOST_CHARACTERS]).replace("\u2019", "'").replace("\u2018", "'")
    text = _LONG_NAMES.sub(lambda m: "US" if m[1].lower() == "states" else "UK", _OPENERS.sub("", text))
    raw = [(m.group(), m.start()) for m in _TOKEN.finditer(text)]
    numbers: list[str] = []
    identifiers: set[str] = set()
    words: list[str] = []
    for token, _ in raw:
        low = token.lower()
        number = _number(low)
        if number is not None:
            numbers.append(number)
        elif _identifier(low):
            identifiers.add(low.strip(".-"))
        words.extend(_open(low))
    dates, units = _dates(raw), frozenset(UNITS[w] for w in words if w in UNITS)
    stems = tuple(stem(w) for w in words)
    values = [_number(w) for w in words]
    return Reading(
        words=tuple(words),
        stems=stems,
        numbers=tuple(sorted(n for n in numbers if n)),
        identifiers=frozenset(identifiers),
        units=units,
        dates=dates,
        names=_names(text, raw, dates),
        negations=sum(w in _NEGATIONS for w in words),
        content=frozenset(s for w, s in zip(words, stems, strict=True) if w not in WORDS.stop and w not in _NEGATIONS),
        symbols=_symbols(text),
        measured=frozenset((n, UNITS[w]) for n, w in zip(values, words[1:], strict=False) if n and w in UNITS),
    )


def stem(word: str) -> str:
    """The word without `'s` and the commonest endings, so that `cards` meets `card` and `transferred`, `transfer`."""
    word = word.removesuffix("'s").removesuffix("'").replace("'", "")
    if len(word) <= 3 or not word.isalpha():
        return word
    for ending, least in (("ies", 5), ("ing", 6), ("ied", 5), ("ed", 5), ("es", 5), ("s", 4), ("ly", 6)):
        if word.endswith(ending) and len(word) >= least and not word.endswith(("ss", "us", "is", "eed")):
            base = word[: -len(ending)]
            if ending in {"ies", "ied"}:
                return base + "y"
            if ending in {"ing", "ed"} and len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz":
                base = base[:-1]
            if ending == "es" and not base.endswith(("s", "x", "z", "ch", "sh", "o")):
                base += "e"
            return base.removesuffix("e")
    return word.removesuffix("e")


def _open(word: str) -> tuple[str, ...]:
    if word in CONTRACTIONS:
        return CONTRACTIONS[word]
    for tail, opened in _TAILS.items():
        if word.endswith(tail) and len(word) > len(tail) + 1:
            return (word[: -len(tail)], opened)
    return (word.rstrip(".-"),)


def _number(word: str) -> str | None:
    if word in NUMBERS:
        return NUMBERS[word]
    match = _NUMBER.fullmatch(word)
    if not match:
        return None
    sign, digits, tail = match.groups()
    value = digits.replace(",", "").rstrip(".")
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    if tail in _SCALE:
        return sign + f"{float(value) * _SCALE[tail]:.0f}"
    return sign + value + (tail if tail in {"%", "am", "pm"} else "")


def _identifier(word: str) -> bool:
    if "@" in word or "://" in word or any(c > _LAST_LATIN and c.isalpha() for c in word):
        return True
    return len(word) > 1 and any(c.isdigit() for c in word) and any(c.isalpha() for c in word)


def _dates(raw: list[tuple[str, int]]) -> frozenset[str]:
    found = set()
    for i, (token, _) in enumerate(raw):
        low = token.lower().removesuffix("'s")
        day = low.removesuffix("s")
        if day in DAYS:
            found.add(day)
        elif low in MONTHS:
            after = raw[i - 1][0].lower() if i else ""
            if low not in {"may", "march"} or (token[0].isupper() and (after in _BEFORE_MONTH or _near_number(raw, i))):
                found.add(low)
        elif low in MOMENTS:
            found.add(low)
    return frozenset(found)


def _near_number(raw: list[tuple[str, int]], i: int) -> bool:
    return any(0 <= j < len(raw) and raw[j][0][0].isdigit() for j in (i - 1, i + 1))


def _symbols(text: str) -> tuple[str, ...]:
    """Signs after numbers and brackets, and pictures, which the encoder may not know: sorted, with repetitions."""
    signs = [m[1] or m[2] for m in _SIGN.finditer(text)]
    return tuple(sorted(signs + [c for c in text if c > "\x7f" and unicodedata.category(c) in {"Sm", "So"}]))


def _names(text: str, raw: list[tuple[str, int]], dates: frozenset[str]) -> frozenset[str]:
    """Capitalised words that do not begin a sentence; none where most words are capitalised anyway."""
    inner = [(t, p) for t, p in raw if t[0].isalpha() and p and not re.search(r"[.?!:]\s*$", text[:p][-3:])]
    capital = [t for t, _ in inner if t[0].isupper()]
    if len(capital) > 0.6 * max(1, len(inner)) and len(inner) > 3:
        return frozenset()
    names = {t.lower().removesuffix("'s") for t in capital}
    return frozenset(_alias(n) for n in names - _PARTS if n not in _NO_NAMES and n not in dates and n not in WORDS.stop)


def _alias(name: str) -> str:
    return NAMES.get(name, name)
