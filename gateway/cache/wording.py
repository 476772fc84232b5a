"""Which user texts may not be answered from another request's answer, judged by their words alone.

A text is refused when its right answer depends on when or by whom it is asked, or is an act and not an answer. The
rules err towards refusing: a refusal costs one upstream call.
"""

import unicodedata
from typing import Literal

from gateway.cache import words

Personal = Literal["refuse", "generic", "allow"]
"""Texts in the first person. `refuse`: none. `generic`: those that ask how something is done or what is possible
("how do I", "can I", "what happens if my ..."), not those about the state of the one who asks ("where is my order").
`allow`: all."""

MAX_CHARS = 2_000
"""Text that is sure not to fit 256 tokens. The encoder says so exactly; this keeps the judging short."""

REASONS = {
    "empty": "no letter and no digit",
    "short": "one word, or under four characters without spaces: it means what the turns before it mean",
    "long": "more characters than the encoder's window has tokens for",
    "script": "mixed alphabets in a word, invisible characters, or a script that the encoder was not trained on",
    "code": "a code block, or lines that look like code",
    "volatile": "the answer changes by itself: today, latest, prices, weather, news, scores",
    "side_effect": "it orders an act: send, pay, delete, cancel, book",
    "personal": "about the state of the one who asks",
}
"""Every reason that `refuse_text` gives."""


def refuse_text(
    text: str,
    *,
    user_scoped: bool = False,
    personal: Personal = "generic",
    any_script: bool = False,
    max_chars: int = MAX_CHARS,
) -> str | None:
    """Why an answer to `text` may not be shared between similar requests (a key of `REASONS`), else `None`.

    `user_scoped`: answers are shared with the same user only, so the first person is no reason. `any_script` is for an
    encoder that was trained on more than the Latin script, `max_chars` for one with another window.
    """
    if len(text) > max_chars:
        return "long"
    folded = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    letters = [c for c in folded if c.isalpha()]
    if not letters and not any(c.isdigit() for c in folded):
        return "empty"
    if words.INVISIBLE.search(text) or words.MIXED.search(folded) or not (any_script or _mostly_latin(letters)):
        return "script"
    if (_mostly_latin(letters) and len(folded.split()) < 2) or len(folded.strip()) < 4:
        return "short"
    if words.CODE.search(folded):
        return "code"
    lower = " ".join(folded.lower().split())
    if words.VOLATILE.search(lower):
        return "volatile"
    if _orders(folded):
        return "side_effect"
    if user_scoped or personal == "allow" or not _first_person(folded):
        return None
    return "personal" if personal == "refuse" or _own_state(lower) else None


def _first_person(text: str) -> bool:
    said = (text if text.isupper() else words.ACRONYM.sub(" ", text)).lower()
    said = words.ORDINAL_I.sub(" ", words.COURTESY.sub(" ", said))
    if words.FIRST_PERSON.search(said):
        return True
    return not words.ENGLISH.search(said) and bool(words.FIRST_PERSON_ELSEWHERE.search(said))


def _mostly_latin(letters: list[str]) -> bool:
    latin = sum(c < "\u0250" or "\u1e00" <= c < "\u1f00" for c in letters)
    return 2 * latin >= len(letters)


def _orders(text: str) -> bool:
    for raw in words.SENTENCE.split(text.lower()):
        sentence = " ".join(raw.split()).lstrip("-*•>\"'(0123456789.) ")
        if words.IMPERATIVE.search(sentence) or words.IMPERATIVE_ELSEWHERE.search(sentence):
            return True
        if not words.HOW_TO.search(sentence) and words.AND_THEN.search(sentence):
            return True
    return False


def _own_state(lower: str) -> bool:
    """Whether a text in the first person is about its author's state: unless it asks how or whether one can."""
    if not words.HOW_TO.search(lower):
        return True
    return bool(words.OWN_STATE.search(lower)) and not words.HOW_FIRST.search(lower)
