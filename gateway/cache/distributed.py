"""The cache's store of many replicas: answers in Redis, vectors in Qdrant, behind the one port.

Redis is the truth: a point whose answer is gone, expired, or of another scope is not returned, so a delete takes effect
when Redis has it, whatever Qdrant still holds. Fails open: either one's failure is a `StoreError`; exact look-ups need
Redis alone. Knows neither protocol.
"""

from typing import TYPE_CHECKING

from gateway.cache.entry import Entry, Selector
from gateway.cache.store import Neighbour, StoreStats

if TYPE_CHECKING:
    from gateway.cache.qdrant import QdrantVectors
    from gateway.cache.redis import RedisAnswers
    from gateway.cache.store import Vector

SPARE = 4
"""Points asked for beside the limit, in the place of those whose answers are gone."""


class DistributedStore:
    """See `CacheStore`."""

    def __init__(self, answers: "RedisAnswers", vectors: "QdrantVectors") -> None:
        self.answers = answers
        self.vectors = vectors

    async def get(self, exact: str, now: float) -> Entry | None:
        """See `CacheStore`. One round trip."""
        return await self.answers.get(exact, now)

    async def nearest(self, scope: str, vector: "Vector", limit: int, now: float) -> list[Neighbour]:
        """See `CacheStore`. One round trip to each."""
        near = await self.vectors.nearest(scope, vector, limit + SPARE, now)
        if not near:
            return []
        entries = await self.answers.many([point.exact for point in near], now)
        found = [
            Neighbour(entry, min(1.0, max(-1.0, point.similarity)))
            for point, entry in zip(near, entries, strict=True)
            if entry is not None and entry.scope == scope
        ]
        return found[:limit]

    async def put(self, entry: Entry, vector: "Vector | None") -> None:
        """See `CacheStore`. The answer comes first: it is of use without its vector."""
        await self.answers.put(entry)
        if vector is None:
            await self.vectors.forget(entry.exact)
        else:
            await self.vectors.put(entry, vector)

    def touch(self, id_: str) -> None:
        """Nothing: Redis gives up what expires soonest, whoever used it."""

    async def find(self, id_: str) -> Entry | None:
        """See `CacheStore`."""
        return await self.answers.find(id_)

    async def delete(self, selector: Selector) -> int:
        """See `CacheStore`. Raises `StoreError` when only Qdrant failed, too: no look-up returns the answers then."""
        removed = await self.answers.delete(selector)
        await self.vectors.delete(selector)
        return removed

    async def stats(self) -> StoreStats:
        """See `CacheStore`, of the answers."""
        return await self.answers.stats()

    async def sweep(self, now: float) -> int:
        """See `CacheStore`."""
        swept = await self.answers.sweep(now)
        await self.vectors.sweep(now)
        return swept

    async def aclose(self) -> None:
        """Closes both."""
        await self.answers.aclose()
        await self.vectors.aclose()
