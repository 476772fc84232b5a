"""Reads the structure of a request as fixed numbers, from which heads predict what the stronger model would add.

Pure and quick (docs/routing.md has the figures): the text is capped at `CAP` characters, head and tail, and only
linear scans are made of it. Never raises: what has another type than the API says counts as absent. Knows no model,
threshold, store or clock.
"""

import re
from collections.abc import Iterable, Sequence
from math import log1p
from typing import Final, NamedTuple

from gateway.core.exchange import Call
from gateway.routing import lexicon
from gateway.routing.reading import Request, read_request

VERSION: Final = 1
"""Changes whenever a number would: heads name the version that they were fitted on."""
HEAD, TAIL = 2_000, 1_200
CAP: Final = HEAD + TAIL
"""Characters of a text that are looked at; its length is counted in full."""
_LINES = 64
_MOST_TOKENS = 1_000_000
_SAMPLE = 512
_FOREIGN = 10


class Features(NamedTuple):
    """All features, in the order of the heads' weights. Counts are log(1 + n), shares are in [0, 1].

    From `characters` to `numeric_options` of the last user text, its lengths without the answer options of a multiple
    choice; from `turns` on of the request around it.
    """

    characters: float
    words: float
    sentences: float
    lines: float
    sentence_length: float
    """Words of a sentence."""
    word_length: float
    long_words: float
    """Share of the different words that have nine letters or more."""
    vocabulary: float
    """Different words, over the root of all."""
    function_words: float
    """Share of the different words that any English text has."""
    numbers: float
    different_numbers: float
    digits: float
    """Share of the characters."""
    long_numbers: float
    years: float
    number_words: float
    quantity_words: float
    units: float
    money: float
    operators: float
    latex: float
    variables: float
    """Different single letters that are no words."""
    maths_words: float
    condition_words: float
    science_words: float
    medicine_words: float
    law_words: float
    economy_words: float
    humanity_words: float
    computing_words: float
    code: float
    markup: float
    format_words: float
    questions: float
    """Question marks."""
    asks_number: float
    asks_fact: float
    asks_reason: float
    asks_which: float
    asks_what: float
    asks_closed: float
    asks_how: float
    orders: float
    """An imperative begins the text or its last sentence."""
    unfinished: float
    """A blank to fill in, or no mark ends the text."""
    negations: float
    statements: float
    """Numbered statements to be judged together: Roman numerals, `Statement 1`."""
    parts: float
    """Lines that begin with a number, a letter or a bullet."""
    ordering_words: float
    commas: float
    quotes: float
    brackets: float
    names: float
    """Capitals after a space, of all words."""
    acronyms: float
    last_sentence: float
    """Its share of the text: the rest is context."""
    foreign_characters: float
    """Share of the characters that are not ASCII."""
    east_asian: float
    other_scripts: float
    """Neither Latin nor East Asian."""
    foreign_words: float
    options: float
    option_length: float
    numeric_options: float
    """Share of the options that are numbers."""
    turns: float
    system_characters: float
    history_characters: float
    tools: float
    tool_turns: float
    images: float
    structured: float
    """An answer in JSON is asked for: 1 in any form, 2 by schema."""
    requested_tokens: float
    reasoning_effort: float


_FROM, _UPPER, _LOWER = bytes(range(256)), range(65, 91), range(97, 123)
_WORDS = bytes(c if c in _LOWER else c + 32 if c in _UPPER else 32 for c in _FROM)
_DIGITS = bytes(c if 48 <= c < 58 else 32 for c in _FROM)
_CASES = bytes(85 if c in _UPPER else 32 if c in b" \t\r\n" else 46 for c in _FROM)
_FIRST_OPTION = re.compile(r"\n[ \t]*\(?[Aa][.):][ \t]")
_OPTION = re.compile(r"\n[ \t]*\(?[A-Ja-j][.):][ \t]")
_ANSWER = re.compile(r"\n[ \t]*(?:the )?(?:correct )?answer[ \t]*:?[ \t]*$", re.IGNORECASE)
_PART = re.compile(r"[ \t]*(?:[-*\u2022][ \t]|\(?(?:\d{1,2}|[A-Za-z]|[ivxIVX]{1,4})[.):][ \t])")
_SENTENCE_END = re.compile("[.!?](?=\\s|$)|[\u3002\uff01\uff1f\u061f\u0964]")
_EAST = "\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_EAST_ASIAN = re.compile(f"[{_EAST}]")
_ANY_WORD = re.compile(rf"[^\W\d_{_EAST}]+|[{_EAST}](?<=\w)")
_LATIN = re.compile("[\u0080-\u024f\u1e00-\u1eff\u2000-\u2bff]")
_ROMAN = (b" ii", b"statement ", b"(i)")
_NUMBERS_ASKED = (b"how many", b"how much", b"how long", b"how far", b"how old", b"calculate", b"compute", b"value of")
_CODE = (b"```", b"def ", b"return ", b"import ", b"();", b"==", b"self.", b"{\n", b">>>", b"select ")
_MARKUP = (b"**", b"\n#", b" | ", b"</", b"\\begin", b"](")


def text_features(prompt: object) -> Features:
    """The features of a request that is this one user text and nothing else."""
    return request_features(Request(prompt if type(prompt) is str else "", turns=1))


def call_features(call: Call) -> Features:
    """The features of a parsed request of any endpoint; of `None` bodies those of an empty text."""
    return request_features(read_request(call))


def request_features(request: Request) -> Features:
    """The features of what was read; each finite and within +-20."""
    around = (
        request.turns,
        request.system_characters,
        request.history_characters,
        request.tools,
        request.tool_turns,
        request.images,
    )
    return Features._make(
        (
            *_text(request.text),
            *[log1p(max(count, 0)) for count in around],
            float(request.structured),
            log1p(min(max(request.requested_tokens, 0), _MOST_TOKENS)),
            request.reasoning_effort,
        )
    )


def _text(text: str) -> tuple[float, ...]:
    length = len(text)
    text = capped(text)
    stem, options = stem_and_options(text)
    length -= len(text) - len(stem)
    raw = text.encode("ascii", "ignore")
    stem_raw = raw if stem is text else stem.encode("ascii", "ignore")
    words = raw.translate(_WORDS).split()
    stem_words = words if stem is text else stem_raw.translate(_WORDS).split()
    different = set(words)
    stem_different = different if stem is text else set(stem_words)
    return (
        *_lengths(stem, length, _any_words(stem, stem_raw) or stem_words),
        *_content(raw, different),
        *_form(stem, stem_raw, stem_words, stem_different),
        *_languages(text, raw, different),
        *_choices(options),
    )


def _any_words(stem: str, raw: bytes) -> list[str]:
    """The words of a text of which a tenth is not ASCII, an East Asian character being one; of others none."""
    return _ANY_WORD.findall(stem) if _FOREIGN * (len(stem) - len(raw)) > len(stem) else []


def _lengths(stem: str, length: int, words: Sequence[str | bytes]) -> Iterable[float]:
    count, different = len(words), set(words)
    sentences = len(_SENTENCE_END.findall(stem)) or 1
    spread = max(len(different), 1)
    return (
        log1p(length),
        log1p(count),
        log1p(sentences),
        log1p(stem.count("\n")),
        log1p(count / sentences),
        min(sum(map(len, words)) / max(count, 1), 20.0),
        len([word for word in different if len(word) > 8]) / spread,
        min(len(different) / max(count, 1) ** 0.5, 20.0),
        len(different & lexicon.FUNCTION) / spread,
    )


def _content(text: bytes, different: set[bytes]) -> Iterable[float]:
    numbers = text.translate(_DIGITS).split()
    count = text.count
    lower = text.lower()
    return (
        log1p(len(numbers)),
        log1p(len(set(numbers))),
        sum(map(len, numbers)) / max(len(text), 1),
        log1p(len([n for n in numbers if len(n) > 2])),
        log1p(len([n for n in numbers if len(n) == 4 and n[0] in b"12"])),
        log1p(len(different & lexicon.NUMBER)),
        log1p(len(different & lexicon.QUANTITY)),
        log1p(len(different & lexicon.UNIT)),
        log1p(count(b"%") + count(b"$") * (count(b"\\") == 0)),
        log1p(count(b"=") + count(b"+") + count(b"^") + count(b"*") + count(b"/") + count(b"<") + count(b">")),
        log1p(count(b"\\")),
        log1p(len([word for word in different if len(word) == 1 and word not in b"ais"])),
        *[log1p(len(different & words)) for words in _TOPICS],
        log1p(sum([lower.count(mark) for mark in _CODE])),
        log1p(sum([count(mark) for mark in _MARKUP])),
        log1p(len(different & lexicon.FORMAT)),
    )


_TOPICS = (
    lexicon.MATHS, lexicon.CONDITION, lexicon.SCIENCE, lexicon.MEDICINE, lexicon.LAW, lexicon.ECONOMY,
    lexicon.HUMANITY, lexicon.COMPUTING,
)  # fmt: skip


def _form(stem: str, raw: bytes, words: list[bytes], everything: set[bytes]) -> Iterable[float]:
    stripped = stem.rstrip()
    last = _last_sentence(stripped)
    asked = last.encode("ascii", "ignore")
    lower = asked.lower()
    asks = asked.translate(_WORDS).split()
    different = set(asks)
    everything_lower = raw.lower()
    ends = stripped[-1:] in ".!?:)\"'`]}"
    cases = raw.translate(_CASES)
    lines = stem.split("\n", _LINES)[:_LINES]
    leading = {*asks[:1], *words[:1]}
    count = max(len(words), 1)
    characters = max(len(stem), 1)
    return (
        log1p(stem.count("?")),
        float(any(mark in lower for mark in _NUMBERS_ASKED)),
        float(bool(different & lexicon.ASKS_FACT)),
        float(bool(different & lexicon.ASKS_REASON)),
        float(b"which" in different),
        float(b"what" in different),
        float(bool(leading & lexicon.ASKS_CLOSED)),
        float(b"how" in different),
        float(bool(leading & lexicon.ORDERS)),
        float("__" in stem or not ends),
        log1p(len(everything & lexicon.NEGATION)),
        log1p(sum([everything_lower.count(mark) for mark in _ROMAN])),
        log1p(len([1 for line in lines if _PART.match(line)])),
        log1p(len(everything & lexicon.ORDERED)),
        stem.count(",") / count,
        log1p(stem.count('"') + stem.count("\u201c")),
        log1p(stem.count("(") + stem.count("[") + stem.count("{")),
        cases.count(b" U") / count,
        log1p(cases.count(b"UU")),
        len(last) / characters,
    )


def _last_sentence(stripped: str) -> str:
    """From the end of the last sentence but one: at most the last 600 characters."""
    tail = stripped[-600:]
    ends = [found.end() for found in _SENTENCE_END.finditer(tail, 0, max(len(tail) - 1, 0))]
    start = max(ends[-1] if ends else 0, tail.rfind("\n", 0, max(len(tail) - 1, 0)) + 1)
    return tail[start:].strip()


def _languages(text: str, raw: bytes, words: set[bytes]) -> Iterable[float]:
    foreign = len(text) - len(raw)
    latin = len(words & lexicon.FOREIGN) / max(len(words), 1)
    if not foreign:
        return 0.0, 0.0, 0.0, latin
    sample = text if len(text) < _SAMPLE else text[:_SAMPLE]
    seen = max(len(sample) - len(sample.encode("ascii", "ignore")), 1)
    east = len(_EAST_ASIAN.findall(sample))
    other = max(seen - east - len(_LATIN.findall(sample)), 0)
    share = foreign / len(text)
    return share, share * east / seen, share * min(other / seen, 1.0), latin


def capped(text: str) -> str:
    """The part of a text that is looked at."""
    return text if len(text) <= CAP else f"{text[:HEAD]}\n{text[-TAIL:]}"


def stem_and_options(text: str) -> tuple[str, list[str]]:
    """The text before the answer options of a multiple choice, and the options; all of it and none elsewhere."""
    first = _FIRST_OPTION.search(text)
    if first is None:
        return text, []
    options = _OPTION.split(_ANSWER.sub("", text[first.start() :]))[1:]
    return (text[: first.start()], options) if len(options) > 1 else (text, [])


def _choices(options: list[str]) -> Iterable[float]:
    count = len(options)
    if not count:
        return 0.0, 0.0, 0.0
    numeric = len([1 for option in options if option[:40].strip(" $-+.(\\").strip()[:1].isdigit()])
    return log1p(count), log1p(sum(map(len, options)) / count), numeric / count
