"""Decides what a simulated model says: tokens, sentences, log-probabilities and vectors, all from hashes."""

import hashlib
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

_PIECE = re.compile(r"\s*(?:\w{1,12}|[^\w\s])|\s+")
_WORD = re.compile(r"\w+")
_OPENERS = (
    "This is a simulated answer from {model}.",
    "{model} is a simulation: no language model read this.",
    "Simulated by {model}, so take no facts from it.",
    "Here is what {model}, a simulation, has to say.",
)
_ELABORATIONS = (
    "A language model would now explain {a} and relate it to {b}.",
    "The part about {a} deserves an example, which a simulation cannot give.",
    "First comes {a}, then {b}; both words are taken from the question.",
    "To go deeper into {b}, point this route at a model that is not simulated.",
    "Between {a} and {b} there is room for a longer answer than this one.",
    "Every sentence here follows from a hash of the request, {a} included.",
)
_NEVER = -9999.0


class Dice:
    """Deterministic draws: the same parts and the same label give the same number, on every machine."""

    def __init__(self, *parts: bytes) -> None:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        self._key = digest.digest()

    def hex(self, label: str) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(self._key + label.encode("utf-8", "replace")).hexdigest()

    def unit(self, label: str) -> float:
        """A float in [0, 1)."""
        return int(self.hex(label)[:13], 16) / 16**13

    def pick(self, options: Sequence[str], label: str) -> str:
        """One of `options`."""
        return options[int(self.unit(label) * len(options))]


def pieces(text: str) -> list[str]:
    """`text` as tokens that join back to it: a word of up to 12 letters or one sign, with the space before it."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Tokens of `text`, as `pieces` would cut it."""
    return sum(1 for _ in _PIECE.finditer(text))


def content_text(content: Any) -> str:
    """The text of a message's `content`: a string, or the text parts of a list; anything else is empty."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))


def reply(model: str, size: str, question: str, dice: Dice) -> str:
    """What the model says to `question`: one or two sentences when small, about twice as many when large."""
    words = question.split()
    shown = " ".join(words[: 14 if size == "small" else 28])
    more = " ..." if len(shown) < len(" ".join(words)) else ""
    asked = f'You asked: "{shown}{more}"' if words else "You sent no text."
    sentences = [dice.pick(_OPENERS, "opener").format(model=model), asked]
    if size == "large":
        topics = sorted({word.lower() for word in _WORD.findall(question[:2000]) if len(word) > 3}) or ["nothing"]
        ranked = sorted(_ELABORATIONS, key=dice.unit)
        for k, sentence in enumerate(ranked[:3]):
            sentences.append(sentence.format(a=dice.pick(topics, f"a{k}"), b=dice.pick(topics, f"b{k}")))
    return " ".join(sentences)


def logprobs(tokens: Sequence[str], top: int, dice: Dice) -> list[tuple[str, float, list[tuple[str, float]]]]:
    """For each token: itself, its natural-log probability (-2 to 0), and the `top` likeliest, best first.

    The alternatives are the token in other spellings, so that they stay readable; a seventh and later one have
    probability 0, written -9999 as OpenAI does.
    """
    out = []
    for k, token in enumerate(tokens):
        first = round(-2.0 * dice.unit(f"logprob {k}") ** 3, 6)
        ranked = dict.fromkeys((token, token.upper(), token.capitalize(), token.title(), token + "s", token + "_"))
        others = [*ranked, *(f"{token}_{i}" for i in range(top))][:top]
        rest = 1.0 - math.exp(first)
        scores = [first] + [round(math.log(rest / 2.0**i), 6) if rest > 0 and i < 7 else _NEVER for i in range(1, top)]
        scores = [min(first, score) for score in scores]
        out.append((token, first, list(zip(others, scores, strict=False))))
    return out


def vector(text: str, dimensions: int) -> list[float]:
    """float32[dimensions], unit norm: a hashed bag of words, so texts that share words have a positive cosine.

    Source: feature hashing with signs (Weinberger et al., 2009).
    """
    out = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        draw = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "big")
        out[(draw >> 1) % dimensions] += 1.0 if draw & 1 else -1.0
    norm = math.sqrt(sum(x * x for x in out))
    if norm == 0:  # opposite words cancelled each other
        return [1.0] + [0.0] * (dimensions - 1)
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(x / norm for x in out))))
