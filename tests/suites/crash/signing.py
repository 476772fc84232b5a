"""What a caller asks of the stub and what the stub answers: every word of a completion is made from tenant and nonce.

One word is one token. A word is as long as two tokens by the gateway's rule of four characters, so an estimate of what
was delivered covers what the stub had generated in the meantime. Prices are whole micro-dollars per token.
"""

import hashlib
import hmac
import re
from typing import NamedTuple

SECRET = b"the stub's own secret: nobody else can make its words"
INPUT_MICRO, OUTPUT_MICRO = 3, 11
_WORD = 7
_PROMPT = re.compile(r"tenant (\S+) nonce (\S+) words (\d+) first (\d+) pace (\d+) ")


class Ask(NamedTuple):
    """One completion: `first_ms` until its first word, `pace_ms` between two."""

    tenant: str
    nonce: str
    words: int
    first_ms: int
    pace_ms: int

    def prompt(self) -> str:
        """The user message. Its words are the prompt tokens."""
        return (
            f"tenant {self.tenant} nonce {self.nonce} words {self.words} first {self.first_ms} pace {self.pace_ms} "
            "please sign everything"
        )

    def micro_usd(self, words: int) -> int:
        """What the stub charges for `words` of it."""
        return prompt_tokens(self.prompt()) * INPUT_MICRO + words * OUTPUT_MICRO


def read_prompt(text: str) -> Ask | None:
    """The inverse of `Ask.prompt`; `None` for any other text."""
    found = _PROMPT.match(text)
    return Ask(found[1], found[2], int(found[3]), int(found[4]), int(found[5])) if found else None


def prompt_tokens(text: str) -> int:
    return len(text.split())


def completion(tenant: str, nonce: str, count: int) -> list[str]:
    """The words, each with its space; the first tells whose they are."""
    mac = hmac.digest(SECRET, f"{tenant} {nonce}".encode(), "sha256")
    stream = hashlib.shake_256(mac).hexdigest(_WORD * count // 2 + 1)
    words = [stream[at : at + _WORD] + " " for at in range(0, _WORD * count, _WORD)]
    words[0] = f"{tenant}/{nonce}/{mac.hex()[:16]} "
    return words


def whole(ask: Ask) -> str:
    return "".join(completion(ask.tenant, ask.nonce, ask.words))
