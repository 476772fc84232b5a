"""Rules that forbid serving one question's answer for another, each by name; a pair that passes is still unproven.

`veto` gives the first hard rule that forbids the pair. `traits` gives what is suspicious without being proof, as
numbers for the score. Both are pure, symmetric in the two texts, and take well under a millisecond.
"""

from collections import Counter

from gateway.cache.verify.lexicon import ANTONYMS, OPERATIONS, OPPOSITES, SYNONYMS, WORDS
from gateway.cache.verify.reading import Reading, read, stem

GUARDS = (
    "number", "identifier", "unit", "date", "negation", "antonym", "entity", "order", "voice", "reference", "operation",
    "question", "scope", "symbol",
)  # fmt: skip
"""Every name that `veto` gives, in the order of asking."""

TRAITS = ("one_sided_number", "one_sided_name", "slot", "extra", "reordered", "voice")
"""The names of what `traits` gives."""

_DIRECTED = frozenset(
    "by from to into than before after instead without since until for over under against".split()  # noqa: SIM905
)
_ARTICLES = frozenset(["a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "of"])
_JOINING = frozenset(stem(w) for w in (*_ARTICLES, "and", "or", "but", "while", "vs", "versus", "both", "either"))
_SYMMETRIC = frozenset(stem(w) for w in WORDS.symmetric)
_NEGATING = frozenset(["un", "in", "im", "il", "ir", "dis", "non"])
_SHORTEST_OPPOSED = 3
_RUN = 3
"""The most words that change places together."""
_PRONOUNS = frozenset(["he", "him", "his", "she", "her", "hers"])
_COMPARED = frozenset(["than"])
_ORDERED = frozenset(["before", "after"])
_PARTICIPLES = ("d", "n", "t", "de", "ne", "ung", "uck")
_BE = frozenset(["is", "are", "was", "were", "be", "been", "being", "get", "got", "gets"])
_KINDS = {"why": "reason", "when": "time", "where": "place", "who": "person", "whom": "person"}
_ASKING = frozenset(
    "is are was were do does did can could should would will may might must has have had shall am in during "  # noqa: SIM905
    "exactly".split()
)
"""What follows `when` and `where` that ask; another word begins a clause, which says on what condition."""
_METHOD = frozenset("do does did can could should would to will may might must".split())  # noqa: SIM905  a list
_EXTENT = frozenset("far long much many often old tall big fast high deep large heavy soon hot cold quickly".split())  # noqa: SIM905
_OTHER_KINDS = frozenset(
    frozenset(pair)
    for pair in (
        ("method", "extent"), ("method", "reason"), ("method", "time"), ("extent", "reason"), ("reason", "time"),
        ("reason", "place"), ("reason", "person"), ("time", "place"), ("time", "person"), ("place", "person"),
    )
)  # fmt: skip
"""Kinds of answers that never serve for each other. Not here: where for how, when for how long."""
_SCOPES = (
    frozenset({"all", "every"}), frozenset({"some"}), frozenset({"only"}), frozenset({"both", "simultaneously"}),
    frozenset({"or"}), frozenset({"former", "formerly", "ex"}), frozenset({"still"}),
)  # fmt: skip


def _opposed_stems() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for word, others in OPPOSITES.items():
        if word not in WORDS.weak:
            found.setdefault(stem(word), set()).update(stem(w) for w in others if w not in WORDS.weak)
    return {word: frozenset(others - {word}) for word, others in found.items()}


_OPPOSED_STEMS = _opposed_stems()


def veto(stored: str, asked: str) -> str | None:
    """The name of the guard that forbids the pair (one of `GUARDS`), else `None`."""
    a, b = read(stored), read(asked)
    if a.words == b.words and a.symbols == b.symbols:
        return None
    for name, forbids in _RULES:
        if forbids(a, b):
            return name
    return None


def traits(stored: str, asked: str) -> tuple[float, ...]:
    """One number for each of `TRAITS`; all 0 for equal texts."""
    a, b = read(stored), read(asked)
    only_a, only_b = _differences(a, b)
    return (
        float(len(a.numbers) != len(b.numbers)),
        float(bool(a.names ^ b.names)),
        float(len(only_a) == len(only_b) > 0 and _same_frame(a, b)),
        float((not only_a) != (not only_b)),
        float(not only_a and not only_b and a.stems != b.stems),
        float(_voices(a, b) > 0),
    )


def _opposed(a: Reading, b: Reading) -> int:
    """How many words on one side alone have an opposite on the other side alone, whatever their endings."""
    only_a, only_b = set(a.stems) - set(b.stems), set(b.stems) - set(a.stems)
    count, taken = 0, set[str]()
    for word in sorted(only_a):
        against = {other for other in only_b - taken if _opposites(word, other)}
        if against:
            count += 1
            taken.add(min(against))
    return count


def _opposites(stem: str, other: str) -> bool:
    """Whether two stems are opposites: by the word lists, by a prefix, or as `hopeful` and `hopeless`."""
    if other in _OPPOSED_STEMS.get(stem, ()):
        return True
    short, long = sorted((stem, other), key=len)
    if len(short) > _SHORTEST_OPPOSED and long.endswith(short) and long[: -len(short)] in _NEGATING:
        return True
    return any(
        x.endswith("ful") and y.endswith("less") and x.removesuffix("ful") == y.removesuffix("less")
        for x, y in ((stem, other), (other, stem))
    )


def _differences(a: Reading, b: Reading) -> tuple[set[str], set[str]]:
    """Content stems that one side alone has and that nothing on the other side accounts for.

    A synonym or a misspelling does, and an opposite: where those turn the polarity, a guard has forbidden the pair.
    """
    only_a, only_b = set(a.content - b.content), set(b.content - a.content)
    words = {s: w for r in (a, b) for s, w in zip(r.stems, r.words, strict=True)}
    for x in sorted(only_a):
        for y in sorted(only_b):
            if _alike(words[x], words[y], x, y) or _opposites(x, y):
                only_a.discard(x)
                only_b.discard(y)
                break
    return only_a, only_b


def _alike(word: str, other: str, stem: str, other_stem: str) -> bool:
    if other in SYNONYMS.get(word, ()) or other_stem in SYNONYMS.get(stem, ()):
        return True
    if len(word) == len(other) > 2 and sorted(word) == sorted(other) and _one_edit(word, other):
        return True
    if min(len(word), len(other)) >= 5 and word[0] == other[0] and abs(len(word) - len(other)) <= 1:
        return word not in ANTONYMS.get(other, ()) and _one_edit(word, other)
    return False


def _one_edit(a: str, b: str) -> bool:
    """Whether one letter was added, dropped, changed, or exchanged with its neighbour."""
    if len(a) > len(b):
        a, b = b, a
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[i:] == b[i + 1 :]
    return a[i + 1 :] == b[i + 1 :] or (a[i : i + 2] == b[i : i + 2][::-1] and a[i + 2 :] == b[i + 2 :])


def _same_frame(a: Reading, b: Reading) -> bool:
    """Whether the two are one sentence with one run of words exchanged."""
    if abs(len(a.stems) - len(b.stems)) > 2:
        return False
    start = 0
    while start < min(len(a.stems), len(b.stems)) and a.stems[start] == b.stems[start]:
        start += 1
    end = 0
    while end < min(len(a.stems), len(b.stems)) - start and a.stems[-1 - end] == b.stems[-1 - end]:
        end += 1
    return max(len(a.stems), len(b.stems)) - start - end <= 3 and start + end >= 2


def _numbers(a: Reading, b: Reading) -> bool:
    left, right = Counter(a.numbers), Counter(b.numbers)
    return bool(left - right) and bool(right - left)


def _identifiers(a: Reading, b: Reading) -> bool:
    return bool(a.identifiers - b.identifiers) and bool(b.identifiers - a.identifiers)


def _units(a: Reading, b: Reading) -> bool:
    numbers, others = ({n for n, _ in r.measured} for r in (a, b))
    if a.measured != b.measured and numbers == others:
        return True
    return bool(a.units - b.units) and bool(b.units - a.units)


def _dates(a: Reading, b: Reading) -> bool:
    return bool(a.dates - b.dates) and bool(b.dates - a.dates)


def _negation(a: Reading, b: Reading) -> bool:
    return (a.negations - b.negations) % 2 == 1 and _opposed(a, b) % 2 == 0


def _antonym(a: Reading, b: Reading) -> bool:
    return _opposed(a, b) % 2 == 1 and (a.negations - b.negations) % 2 == 0 and not _sides_exchanged(a, b)


def _sides_exchanged(a: Reading, b: Reading) -> bool:
    """Whether what stands behind `than`, or behind `before` and on the other side `after`, stands elsewhere there."""
    for words in (_COMPARED, _ORDERED):
        left, right = _behind(a, words), _behind(b, words)
        if left and right and left != right and left in b.stems and right in a.stems:
            return True
    return False


def _behind(r: Reading, words: frozenset[str]) -> str:
    """The first stem of content behind the only one of `words` in the text, else the empty string."""
    places = [i for i, word in enumerate(r.words) if word in words]
    if len(places) != 1:
        return ""
    return next((s for s in r.stems[places[0] + 1 :] if s in r.content), "")


def _entities(a: Reading, b: Reading) -> bool:
    left = a.names - set(b.words) - {w.removesuffix("'s") for w in b.words} - b.names
    right = b.names - set(a.words) - {w.removesuffix("'s") for w in a.words} - a.names
    return bool(left) and bool(right) and not any(_alike(x, y, x, y) for x in left for y in right)


def _order(a: Reading, b: Reading) -> bool:
    if _opposed(a, b):
        return False
    if not WORDS.symmetric.isdisjoint({*a.words, *b.words} - a.names - b.names):
        # married to: its sides may be exchanged, but not whose doctor is on which, and nothing farther apart
        return _traded_places(a, b, a.content - _SYMMETRIC) or _bound_anew(a, b)
    return _exchanged(a, b, _DIRECTED) or _traded_places(a, b) or _bound_anew(a, b)


def _bound_anew(a: Reading, b: Reading) -> bool:
    """Whether of two pairs of neighbouring words the second ones changed places: large nebula, small galaxy."""
    left, right = _neighbours(a), _neighbours(b)
    only_a, only_b = left - right, right - left
    return any(
        one != other and (one, second) in only_b and (other, first) in only_b
        for one, first in only_a
        for other, second in only_a
    )


def _neighbours(r: Reading) -> set[tuple[str, str]]:
    return {(x, y) for x, y in zip(r.stems, r.stems[1:], strict=False) if x in r.content and y in r.content}


def _traded_places(a: Reading, b: Reading, around: frozenset[str] | None = None) -> bool:
    """Whether two runs of words changed places around a word of `around`: by default one that does not merely join."""
    if len(a.stems) != len(b.stems) or a.stems == b.stems or sorted(a.stems) != sorted(b.stems):
        return False
    start = next(i for i, (x, y) in enumerate(zip(a.stems, b.stems, strict=True)) if x != y)
    back = zip(reversed(a.stems), reversed(b.stems), strict=True)
    end = len(a.stems) - next(i for i, (x, y) in enumerate(back) if x != y)
    left, right = a.stems[start:end], b.stems[start:end]
    for i in range(1, min(_RUN, len(left) - 1) + 1):
        for j in range(1, min(_RUN, len(left) - i) + 1):
            middle = left[i : len(left) - j]
            if right == left[len(left) - j :] + middle + left[:i]:
                return not _JOINING.issuperset(middle) if around is None else not around.isdisjoint(middle)
    return False


def _exchanged(a: Reading, b: Reading, directed: frozenset[str]) -> bool:
    """Whether a preposition of direction has, on one side, what stands elsewhere on the other side."""
    left, right = _bound(a, directed), _bound(b, directed)
    return any(
        left[p] != right[p]
        and left[p] in b.stems
        and right[p] in a.stems
        and left[p] in a.content
        and right[p] in b.content
        for p in left.keys() & right.keys()
    )


def _bound(r: Reading, directed: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    repeated = set()
    for i, word in enumerate(r.words):
        if word in directed:
            if word in found:
                repeated.add(word)
            following = (r.stems[j] for j in range(i + 1, len(r.words)) if r.words[j] not in _ARTICLES)
            found[word] = next(following, "")
    return {p: s for p, s in found.items() if p not in repeated}


def _voice(a: Reading, b: Reading) -> bool:
    return _voices(a, b) < 0


def _voices(a: Reading, b: Reading) -> int:
    """1 where one side is the other in the passive voice, -1 where it is but with the roles exchanged, else 0."""
    if ("by" in a.words) == ("by" in b.words):
        return 0
    passive, active = (a, b) if "by" in a.words else (b, a)
    at = passive.words.index("by")
    if at < 2 or _BE.isdisjoint(passive.words[:at]):
        return 0
    doer = next(
        (s for s, w in zip(passive.stems[at + 1 :], passive.words[at + 1 :], strict=True) if w not in _ARTICLES), ""
    )
    before = _done(passive, active, at, doer)
    if doer not in active.content or before is None:
        return 0
    return 1 if active.stems.index(doer) < before else -1


def _done(passive: Reading, active: Reading, at: int, doer: str) -> int | None:
    """Where the active side has the verb that stands at `at - 1` in the passive: its doer stands before it.

    Where that word is no participle, the place of what it is done to. `None` where the active side has no such verb.
    """
    verb = passive.words[at - 1]
    place = next((i for i, word in enumerate(active.words) if word.startswith(verb[:3])), None)
    if place is None or (verb.endswith(_PARTICIPLES) and verb not in WORDS.stop and not doer.startswith(verb[:3])):
        return place
    done_to = next((s for s in passive.stems[:at] if s in active.content and s in passive.content and s != doer), None)
    return active.stems.index(done_to) if done_to else None


def _operations(a: Reading, b: Reading) -> bool:
    """Whether the same numbers are put into different sums."""
    if len(a.numbers) < 2 or a.numbers != b.numbers:
        return False
    left, right = ({OPERATIONS[w] for w in r.words if w in OPERATIONS} for r in (a, b))
    return left != right


def _references(a: Reading, b: Reading) -> bool:
    """Whether a pronoun on one side stands where the other says which of two people is meant."""
    people = a.names & b.names
    if len(people) < 2 or _PRONOUNS.intersection(a.words) == _PRONOUNS.intersection(b.words):
        return False
    left, right = (sum(w.removesuffix("'s") in people for w in r.words) for r in (a, b))
    return left != right


def _questions(a: Reading, b: Reading) -> bool:
    """Whether the first words of the two ask for kinds of answers that never serve for each other."""
    return frozenset((_kind(a), _kind(b))) in _OTHER_KINDS


def _kind(r: Reading) -> str:
    first, second = (*r.words[:2], "", "")[:2]
    if first in {"when", "where"} and second not in _ASKING:
        return ""
    if first != "how":
        return _KINDS.get(first, "")
    return "method" if second in _METHOD else "extent" if second in _EXTENT else ""


def _scope(a: Reading, b: Reading) -> bool:
    """Whether one sentence has a quantifier exchanged for another: all for some, or for both."""
    if a.content != b.content and not _same_frame(a, b):
        return False
    left, right = set(a.words) - set(b.words), set(b.words) - set(a.words)
    return any(left & s for s in _SCOPES) and any(right & s for s in _SCOPES if not left & s)


def _symbols(a: Reading, b: Reading) -> bool:
    return a.symbols != b.symbols


_RULES = (
    ("number", _numbers),
    ("identifier", _identifiers),
    ("unit", _units),
    ("date", _dates),
    ("negation", _negation),
    ("antonym", _antonym),
    ("entity", _entities),
    ("order", _order),
    ("voice", _voice),
    ("reference", _references),
    ("operation", _operations),
    ("question", _questions),
    ("scope", _scope),
    ("symbol", _symbols),
)
