"""Minimal edits of a question: those that keep what it asks, and those that change it."""

# ruff: noqa: E501 - tables of phrases

import random
import re
from collections.abc import Callable

from gateway.cache.training.slots import Pools, draw, fill, slots_of
from gateway.cache.verify.lexicon import ANTONYMS, SYNONYMS

Edit = Callable[[random.Random, str], str | None]

_CONTRACTIONS = [
    ("what is", "what's"), ("how is", "how's"), ("who is", "who's"), ("where is", "where's"), ("it is", "it's"), ("that is", "that's"),
    ("i am", "i'm"), ("i have", "i've"), ("i will", "i'll"), ("i would", "i'd"), ("you are", "you're"), ("is not", "isn't"), ("are not", "aren't"),
    ("do not", "don't"), ("does not", "doesn't"), ("did not", "didn't"), ("can not", "can't"), ("cannot", "can't"), ("has not", "hasn't"),
    ("have not", "haven't"), ("was not", "wasn't"), ("will not", "won't"), ("should not", "shouldn't"), ("would not", "wouldn't"), ("there is", "there's"),
]  # fmt: skip
_PREAMBLES = ["Hi, ", "Hello, ", "Hey, ", "Excuse me, ", "Please tell me: ", "Quick question: ", "Can you tell me ", "I was wondering, ", "Just curious, ",
              "Could you help me? ", "I have a question. ", "So, ", "OK, ", "Please help: ", "Good morning, "]  # fmt: skip
_CLOSINGS = [
    " Thanks!",
    " Thank you.",
    " Please help.",
    " Please advise.",
    " Any idea?",
    " please",
    " Cheers",
    " Can you help?",
]
_REWRITES = [
    (
        r"^how do i ",
        [
            "how can i ",
            "how would i ",
            "how should i ",
            "what is the way to ",
            "what do i need to do to ",
            "how does one ",
            "how to ",
        ],
    ),
    (r"^how can i ", ["how do i ", "how could i ", "what can i do to ", "in what way can i ", "how to "]),
    (r"^how to ", ["how do i ", "how can i ", "what is the way to "]),
    (r"^what is the reason (?:that )?", ["why is it that "]),
    (r"^why did my (\w+) fail", [r"what made my \1 fail"]),
    (r"^can i ", ["is it possible to ", "am i able to ", "may i ", "is it possible for me to "]),
    (r"^is it possible to ", ["can i ", "may i "]),
    (r"^what does (.+) mean\?$", [r"what is the meaning of \1?", r"what is meant by \1?"]),
    (r"^what is (the \w+ of .+)$", [r"what's \1", r"tell me \1", r"which is \1"]),
    (r"^where can i ", ["where do i ", "where could i ", "in which place can i "]),
    (r"^when will ", ["at what time will ", "how soon will "]),
    (r"^do i have to ", ["do i need to ", "must i ", "is it necessary to "]),
    (r"^do i need to ", ["do i have to ", "must i "]),
    (r"^i want to ", ["i would like to ", "i'd like to ", "i wish to "]),
    (r"^i need to ", ["i have to ", "i must "]),
    (r"^should i ", ["is it a good idea to ", "would it be wise to "]),
    (r"^are there any ", ["are there ", "do there exist any "]),
    (r"^is there a ", ["does there exist a ", "is there any "]),
]
_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "on",
        "at",
        "for",
        "from",
        "with",
        "by",
        "and",
        "or",
        "but",
        "if",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "have",
        "has",
        "had",
        "i",
        "you",
        "he",
        "she",
        "it",
        "we",
        "they",
        "my",
        "your",
        "his",
        "her",
        "its",
        "our",
        "their",
        "me",
        "him",
        "them",
        "us",
        "this",
        "that",
        "these",
        "those",
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "where",
        "when",
        "why",
        "how",
        "can",
        "could",
        "should",
        "would",
        "will",
        "may",
        "might",
        "must",
        "not",
        "no",
        "nor",
        "so",
        "than",
        "then",
        "there",
        "here",
        "as",
        "about",
        "into",
        "over",
        "under",
        "after",
        "before",
        "between",
        "through",
        "during",
        "without",
        "within",
        "up",
        "down",
        "out",
        "off",
        "again",
        "just",
        "only",
        "very",
        "too",
        "also",
        "any",
        "some",
        "all",
        "each",
        "every",
        "both",
        "more",
        "most",
        "less",
        "least",
        "few",
        "many",
        "much",
        "other",
        "another",
        "such",
        "own",
        "same",
        "get",
        "got",
        "need",
        "want",
        "use",
        "using",
        "one",
        "please",
        "what's",
    ]
)
_FILLERS = ["actually", "really", "exactly", "just", "basically"]
_CONDITIONS = [" in {country}", " on {day}", " after {event}", " before {event}", " without a {card}", " in {year}", " for {patients}", " with my {thing}",
               " on {os}", " for free", " by phone", " at night", " again", " for someone else", " for a business", " abroad", " if I am under 18", " for the first time",
               " without paying a fee", " in less than a week", " from another bank", " every month", " at the weekend"]  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def contract(rng: random.Random, text: str) -> str | None:
    """Contracts or expands one place."""
    low = text.lower()
    pairs = [
        (a, b) for a, b in _CONTRACTIONS + [(b, a) for a, b in _CONTRACTIONS] if re.search(rf"\b{re.escape(a)}\b", low)
    ]
    if not pairs:
        return None
    old, new = rng.choice(pairs)
    return _capital(re.sub(rf"\b{re.escape(old)}\b", new, text, count=1, flags=re.IGNORECASE))


def preamble(rng: random.Random, text: str) -> str | None:
    """A greeting before the question."""
    head = rng.choice(_PREAMBLES)
    return head + (text[0].lower() + text[1:] if not text.startswith(("I ", "I'")) and head[-2] != "." else text)


def closing(rng: random.Random, text: str) -> str | None:
    """A thank-you after the question."""
    return text + rng.choice(_CLOSINGS)


def casing(rng: random.Random, text: str) -> str | None:
    """Lower case, no final mark, or an extra one."""
    return rng.choice(
        (text.lower(), text.rstrip("?.! "), text.lower().rstrip("?.! "), text + "?", text.rstrip("?.! ") + " ?")
    )


def typo(rng: random.Random, text: str) -> str | None:
    """Two letters of a long word exchanged, one dropped or doubled."""
    words = list(re.finditer(r"[a-z]{5,}", text))
    if not words:
        return None
    word = rng.choice(words)
    i = rng.randrange(word.start() + 1, word.end() - 1)
    swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return rng.choice((swapped, text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:]))


def filler(rng: random.Random, text: str) -> str | None:
    """A word without weight after the first auxiliary."""
    return _once(
        rng,
        text,
        r"^((?:why |how |what |when |where )?(?:do|does|did|can|is|are|should|will) (?:i|you|it|we|they|my \w+)) ",
        rf"\1 {rng.choice(_FILLERS)} ",
    )


def rewrite(rng: random.Random, text: str) -> str | None:
    """Another way to begin the question."""
    low = text[0].lower() + text[1:]
    found = [(a, b) for a, b in _REWRITES if re.match(a, low, re.IGNORECASE)]
    if not found:
        return None
    pattern, options = rng.choice(found)
    new = re.sub(pattern, rng.choice(options), low, count=1, flags=re.IGNORECASE)
    return _capital(re.sub(r"\bto to\b", "to", new))


def synonym(rng: random.Random, text: str) -> str | None:
    """One word by a synonym."""
    return _replace(rng, text, SYNONYMS)


def reorder(rng: random.Random, text: str) -> str | None:
    """`a and b` as `b and a`, for single words."""
    found = [
        m
        for m in re.finditer(r"\b([\w'-]+) (and|or) ([\w'-]+)\b", text)
        if m[1].lower() not in _STOP and m[3].lower() not in _STOP
    ]
    if not found:
        return None
    m = rng.choice(found)
    return text[: m.start()] + f"{m[3]} {m[2]} {m[1]}" + text[m.end() :]


def front(_rng: random.Random, text: str) -> str | None:
    """A closing place, time or means put first."""
    m = re.match(
        r"^(.{12,}?) ((?:in|on|at|during|after|before|with|without|while|when|if|for) (?:[\w'-]+ ){0,3}[\w'-]+)\?$",
        text,
    )
    if not m or " and " in m[2] or m[2].split()[-1] in _STOP or len(m[1].split()) < 4:
        return None
    return _capital(f"{m[2]}, {m[1][0].lower()}{m[1][1:]}?")


def drop_article(rng: random.Random, text: str) -> str | None:
    """One article less."""
    return _once(rng, text, r" (?:the|a|an) ", " ")


KEEP: dict[str, Edit] = {
    "contract": contract, "preamble": preamble, "closing": closing, "casing": casing, "typo": typo, "filler": filler, "rewrite": rewrite,
    "synonym": synonym, "reorder": reorder, "front": front, "article": drop_article,
}  # fmt: skip


def negate(rng: random.Random, text: str) -> str | None:
    """A negation in, or out."""
    out = [(r"\b(do|does|did|has|have|is|are|was|were|should|would|could)n't\b", r"\1"), (r"\bcan't\b|\bcannot\b", "can"), (r"\bwon't\b", "will"),
           (r" not\b", ""), (r" never\b", ""), (r"\bwithout\b", "with")]  # fmt: skip
    for pattern, new in out:
        if re.search(pattern, text):
            return re.sub(pattern, new, text, count=1)
    into = [(r"\b(should|would|could|did|does|do|is|are|was|were|has|have) (i|you|he|she|it|we|they|my \w+|the \w+) ", r"\1 \2 not "),
            (r"\b(can) (i|you|we|my \w+) ", r"\1 \2 not "), (r"\b(is|are|was|were|should|can|will|has|have|does|do|did) (?=\w)", r"\1 not "),
            (r"\bI (need|want|have) ", r"I don't \1 "), (r"\bhow (?:do|can) i\b", "how do I not")]  # fmt: skip
    rng.shuffle(into)
    for pattern, new in into:
        if re.search(pattern, text, re.IGNORECASE):
            return re.sub(pattern, new, text, count=1, flags=re.IGNORECASE)
    return None


def antonym(rng: random.Random, text: str) -> str | None:
    """One word by its opposite."""
    return _replace(rng, text, ANTONYMS)


def number(rng: random.Random, text: str) -> str | None:
    """One number changed."""
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    m = rng.choice(found)
    value = int(m[0])
    new = rng.choice((value + 1, value * 10, max(0, value - 1), value + rng.randrange(2, 9), value * 2))
    return text[: m.start()] + str(new if new != value else value + 3) + text[m.end() :]


def wh_word(rng: random.Random, text: str) -> str | None:
    """Another question word."""
    m = re.match(r"(?i)^(how|why|when|where|who|what|which)\b", text)
    if not m:
        return None
    others = [w for w in ("How", "Why", "When", "Where") if w.lower() != m[1].lower()]
    return rng.choice(others) + text[m.end() :]


class SeedEdits:
    """Edits that need the corpus: a word changed for another of its kind, words exchanged, a condition added."""

    def __init__(self, seeds: list[str], values: Pools) -> None:
        self._values = values
        nouns: dict[str, int] = {}
        for text in seeds:
            for m in re.finditer(r"\b(?:the|a|an|my|your|this|any) ([a-z]{3,})\b", text.lower()):
                nouns[m[1]] = nouns.get(m[1], 0) + 1
        self._nouns = sorted(w for w, n in nouns.items() if n >= 4 and w not in _STOP and w not in ANTONYMS)
        self._noun_set = frozenset(self._nouns)

    def noun(self, rng: random.Random, text: str) -> str | None:
        """One noun by another that is no synonym."""
        found = [m for m in re.finditer(r"[a-z]{3,}", text) if m[0] in self._noun_set]
        if not found:
            return None
        m = rng.choice(found)
        new = rng.choice(self._nouns)
        if new in SYNONYMS.get(m[0], ()) or new == m[0] or new[:4] == m[0][:4]:
            return None
        return text[: m.start()] + new + text[m.end() :]

    def swap(self, rng: random.Random, text: str) -> str | None:
        """Two nouns exchanged that no `and`, `or`, `between` joins."""
        found = [m for m in re.finditer(r"[a-z]{3,}", text) if m[0] in self._noun_set]
        if len(found) < 2:
            return None
        a, b = sorted(rng.sample(found, 2), key=lambda m: m.start())
        between = text[a.end() : b.start()]
        if (
            a[0] == b[0]
            or len(between.split()) == 0
            or re.search(r"\b(and|or|between|vs|versus)\b|,", between)
            or "between" in text
        ):
            return None
        return text[: a.start()] + b[0] + between + a[0] + text[b.end() :]

    def condition(self, rng: random.Random, text: str) -> str | None:
        """A condition added at the end."""
        tail = rng.choice(_CONDITIONS)
        mark = text[-1] if text[-1] in "?.!" else ""
        filled = fill(rng, "x" + tail, draw(rng, self._values, slots_of(tail)), 0)[1:]
        return text.rstrip("?.! ") + filled + mark

    def all(self) -> dict[str, Edit]:
        """Every edit that changes what is asked."""
        return {
            "negate": negate, "antonym": antonym, "number": number, "wh": wh_word,
            "noun": self.noun, "swap": self.swap, "condition": self.condition,
        }  # fmt: skip


def keep(rng: random.Random, text: str, most: int = 3) -> str:
    """The text after one to `most` edits that keep what it asks."""
    for name in rng.sample(list(KEEP), rng.randint(1, most)):
        text = KEEP[name](rng, text) or text
    return text


def _replace(rng: random.Random, text: str, table: "dict[str, frozenset[str]]") -> str | None:
    found = [
        m
        for m in re.finditer(r"[A-Za-z][\w-]*", text)
        if m[0].lower() in table and m[0].lower() not in {"to", "in", "on", "for", "from", "not", "no"}
    ]
    if not found:
        return None
    m = rng.choice(found)
    new = rng.choice(sorted(table[m[0].lower()])).replace("-", " ")
    new = _capital(new) if m[0][0].isupper() else new
    return text[: m.start()] + new + text[m.end() :]


def _once(rng: random.Random, text: str, pattern: str, new: str) -> str | None:
    found = list(re.finditer(pattern, text, re.IGNORECASE))
    if not found:
        return None
    m = rng.choice(found)
    return text[: m.start()] + m.expand(new) + text[m.end() :]
