"""Whether two answers say the same: the free label of a fresh answer beside the one that the cache would have served.

This is the weakest link of a certificate that rests on shadow traffic: its verdicts are labels, and a wrong label
moves the bound. So it speaks only where it can hardly be wrong, and says `None` (no label) elsewhere: the certified
error is then that of the questions which it can judge. Two right answers in quite other words are `None`, never
`False`. Reads English numerals and negations. Knows no encoder: the cosine of the two answers is an argument.
"""

import re
import unicodedata
from collections.abc import Set as AbstractSet

SAME_COSINE = 0.9
"""At least this near, besides equal numbers, names and negations and half of the words: the same."""
OTHER_COSINE = 0.3
"""At most this near: about something else. Unrelated sentences are at 0.05 on average with MiniLM."""
_SHORT = 8
_WORD = re.compile(r"[^\W_]+(?:['.,:/-][^\W_]+)*%?")
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+", re.MULTILINE)
_MARKUP = re.compile(r"[*_`]+|^[#>|]+", re.MULTILINE)
_SIGN = re.compile(
    r"(?<![\w)])-(?=\d)|(?<=[\w)])\s*\*\s*(?=[\w(])"
    r"|[^\w\s.,!?;:'\"()\[\]*`#|\-\u2013\u2014\u2026\u201c\u201d]"
)
"""What changes a meaning without being a word: signs of numbers, currencies, operators."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_NOT = frozenset(["not", "no", "never", "none", "cannot", "neither", "nor", "without", "nothing", "nobody", "isn't",
                  "aren't", "don't", "doesn't", "didn't", "can't", "won't", "wasn't", "weren't", "shouldn't",
                  "wouldn't", "couldn't", "hasn't", "haven't", "hadn't", "mustn't", "unable"])  # fmt: skip
_YES = frozenset(["yes", "yeah", "yep", "true", "correct", "right", "certainly", "absolutely"])
_NO = frozenset(["no", "nope", "false", "incorrect", "wrong"])
_STOP = frozenset(["a", "an", "the", "is", "are", "was", "were", "be", "of", "to", "in", "on", "at", "for", "and",
                   "it", "its", "it's", "this", "that", "as", "by", "with", "you", "your", "i", "there"])  # fmt: skip


def same_answer(a: str, b: str, cosine: float | None = None) -> bool | None:
    """Whether `a` and `b` answer alike; `None` where that is not sure. `cosine` in [-1, 1] is between the two answers.

    Equal texts (up to case, marks and white space) are the same. Opposite openings (yes, no), numbers of which neither
    answer has all of the other's, other names amid the same words, and negation of the same words are not. Symmetric.
    """
    left, right = _plain(a), _plain(b)
    x, y = _WORD.findall(left.casefold()), _WORD.findall(right.casefold())
    if not x or not y or "```" in a or "```" in b:
        return True if a.strip() == b.strip() and a.strip() else None
    signs = _signs(a) == _signs(b)
    if x == y and signs:
        return True
    if _opening(x) * _opening(y) < 0:
        return False
    numbers, others = _numbers(x), _numbers(y)
    if not numbers <= others and not others <= numbers:
        return False
    shared = _overlap(x, y)
    if _negations(x) != _negations(y):
        return False if shared >= 0.8 else None
    names, named = _names(left), _names(right)
    if names and named and not names & set(y) and not named & set(x) and _overlap(x, y, names | named) >= 0.5:
        return False
    if cosine is not None and cosine <= OTHER_COSINE and min(len(x), len(y)) >= _SHORT:
        return False
    if cosine is None or cosine < SAME_COSINE or shared < 0.5 or numbers != others:
        return None
    return True if signs and names == named and _order(x, y) else None


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return _THOUSANDS.sub("", _MARKUP.sub(" ", _LIST_MARK.sub("", text)))


def _signs(text: str) -> list[str]:
    return [sign.strip() for sign in _SIGN.findall(unicodedata.normalize("NFKC", text))]


def _opening(words: list[str]) -> int:
    return 1 if words[0] in _YES else -1 if words[0] in _NO else 0


def _numbers(words: list[str]) -> set[str]:
    plain = (_NUMERALS.get(word, word) for word in words)
    return {word.rstrip(".") for word in plain if any(c.isdigit() for c in word)}


def _negations(words: list[str]) -> int:
    return sum(word in _NOT for word in words)


def _content(words: list[str]) -> set[str]:
    return set(words) - _STOP - _NOT


def _overlap(x: list[str], y: list[str], names: AbstractSet[str] = frozenset()) -> float:
    """Share of the content words of both that both have, in [0, 1]; `names` do not count."""
    left, right = _content(x) - names, _content(y) - names
    return len(left & right) / max(1, len(left | right))


def _order(x: list[str], y: list[str]) -> bool:
    """The words that both have once come in the same order: "A owes B" is not "B owes A"."""
    both = {w for w in _content(x) & _content(y) if x.count(w) == y.count(w) == 1}
    return [w for w in x if w in both] == [w for w in y if w in both]


def _names(text: str) -> set[str]:
    """Words with a capital that do not begin a sentence, folded."""
    return {m[1].casefold() for m in re.finditer(r"(?<![.!?:]\s)(?<!^)(?<!\n)\b([A-Z][\w'-]*)", text)} - {"i"}
