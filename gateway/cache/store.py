"""The port of the cache's stores: answers by exact key, and by nearest vector inside one scope.

A store never decides whether an answer may be served. It may lose entries at any time, never mix two scopes, and
never return one that has expired. Every failure is a `StoreError`, which the stages take for a miss.
"""

from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.cache.entry import Entry, Selector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class StoreError(Exception):
    """The store is away, late or broken; the look-up is a miss, the answer is not kept."""


class Neighbour(msgspec.Struct, frozen=True):
    """An entry near the asked text; `similarity` is the cosine in [-1, 1]."""

    entry: Entry
    similarity: float


class StoreStats(msgspec.Struct, frozen=True):
    """What is held now, and what was evicted for room since the start."""

    entries: int
    bytes: int
    scopes: int
    evicted: int


class CacheStore(Protocol):
    """Where answers are kept. `now` is Unix seconds; vectors are `float32[d]` of unit norm."""

    async def get(self, exact: str, now: float) -> Entry | None:
        """The answer to exactly this request."""
        ...

    async def nearest(self, scope: str, vector: "Vector", limit: int, now: float) -> list[Neighbour]:
        """At most `limit` entries of this scope, the most similar first."""
        ...

    async def put(self, entry: Entry, vector: "Vector | None") -> None:
        """Keeps an answer; one with the same exact key is replaced. Without a vector only its exact key finds it."""
        ...

    def touch(self, id_: str) -> None:
        """This entry was served: eviction should know. Nothing waits; an unknown id is no error."""
        ...

    async def find(self, id_: str) -> Entry | None:
        """An entry by its id, expired or not yet swept."""
        ...

    async def delete(self, selector: Selector) -> int:
        """How many entries matched and are gone, from every look-up at once."""
        ...

    async def stats(self) -> StoreStats:
        """Counted, not estimated, where the store is embedded."""
        ...

    async def sweep(self, now: float) -> int:
        """How many expired entries were removed."""
        ...

    async def aclose(self) -> None:
        """What was put before is durable, where the store is."""
        ...
