"""Finds the stored answer to the same question in other words, inside one scope, and judges how sure that is.

Encoder, store and verifier do the work; whether a score is good enough is the certificate's business. Fails open: what
is away, late or broken raises `StoreError` or returns nothing, and the request goes on without the cache.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import msgspec

from gateway.cache.entry import Entry
from gateway.cache.store import CacheStore, StoreError
from gateway.cache.verify.verifier import FLOOR, Pair, Verdict, VerifierError
from gateway.encoder.port import Encoder, EncoderError, Encoding

if TYPE_CHECKING:
    from gateway.cache.store import Vector

NEIGHBOURS = 3
"""So many of the nearest are verified: the nearest by cosine is not always the one that asks the same."""
ENCODE_DEADLINE_S = 0.05
VERIFY_DEADLINE_S = 0.05


class Match(msgspec.Struct, frozen=True):
    """The best neighbour and what the verifier thinks of it; `veto` is the guard that refused it."""

    entry: Entry
    similarity: float
    score: float
    veto: str | None = None


Verify = Callable[[Sequence[Pair]], Sequence[Verdict]]
"""A verdict of each pair. Synchronous: it is called in a thread. Raises `VerifierError`."""


class Semantic:
    """See the module. `models` names the versions of encoder and verifier: part of every scope and certificate."""

    def __init__(
        self, encoder: Encoder, store: CacheStore, verify: Verify, executor: Executor, verifier_version: str
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._verify = verify
        self._executor = executor
        self.models = f"{encoder.version}+{verifier_version}"
        self.versions = {"encoder": encoder.version, "verifier": verifier_version}

    async def encode(self, text: str) -> Encoding | None:
        """The text's encoding, `None` beyond the encoder's window. Raises `StoreError` when it is late or broken."""
        try:
            async with asyncio.timeout(ENCODE_DEADLINE_S):
                return await self._encoder.encode(text)
        except TimeoutError as exc:
            raise StoreError("the encoder is late") from exc
        except EncoderError as exc:
            raise StoreError(exc.message) from exc

    async def matches(self, scope: str, text: str, vector: "Vector", now: float) -> list[Match]:
        """The neighbours, the best by the verifier first; those that a guard refused come last."""
        near = [each for each in await self._store.nearest(scope, vector, NEIGHBOURS, now) if each.similarity >= FLOOR]
        pairs = [Pair(each.entry.text or "", text, each.similarity) for each in near]
        if not pairs:
            return []
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(VERIFY_DEADLINE_S):
                verdicts = await loop.run_in_executor(self._executor, self._verify, pairs)
        except TimeoutError as exc:
            raise StoreError("the verifier is late") from exc
        except VerifierError as exc:
            raise StoreError(exc.message) from exc
        matches = [
            Match(each.entry, each.similarity, verdict.score, verdict.veto)
            for each, verdict in zip(near, verdicts, strict=True)
        ]
        return sorted(matches, key=lambda match: (match.veto is None, match.score), reverse=True)
