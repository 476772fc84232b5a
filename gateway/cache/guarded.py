"""A store behind deadlines and a breaker: a look-up is answered soon or is a `StoreError`; writing delays nobody.

Fails open: what is late, broken or behind an open breaker counts as a miss for the stages. Writes go on in the
background; too many at once are dropped, for a cache may forget. Deletes are waited for and see every put before them.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.cache.entry import Entry, Selector
from gateway.cache.store import CacheStore, Neighbour, StoreError, StoreStats
from gateway.core.clock import Clock
from gateway.dispatch.breaker import Breaker

if TYPE_CHECKING:
    from gateway.cache.store import Vector

log = logging.getLogger("farthing.cache")

DEADLINE_S = 0.05
PUT_DEADLINE_S = 5.0
ADMIN_DEADLINE_S = 60.0
WRITES_AT_ONCE = 64

T = TypeVar("T")


class Guarded:
    """See `CacheStore`; every failure is a `StoreError`. The plain attributes are its counters."""

    def __init__(
        self,
        store: CacheStore,
        clock: Clock,
        deadline_s: float = DEADLINE_S,
        *,
        put_deadline_s: float = PUT_DEADLINE_S,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`deadline_s` is for each look-up; `rng` (in [0, 1)) spreads the breaker's probes."""
        self._store = store
        self._clock = clock
        self._deadline_s = deadline_s
        self._put_deadline_s = put_deadline_s
        self._writes: set[asyncio.Task[None]] = set()
        self.breaker = Breaker(rng)
        self.lookups = 0
        self.late = 0
        """Look-ups that were over their deadline."""
        self.failed = 0
        """Look-ups that the store could not answer."""
        self.refused = 0
        """Look-ups that were not tried: the breaker was open."""
        self.puts = 0
        self.puts_dropped = 0
        """Not tried: too many were under way, or the breaker was open."""
        self.puts_failed = 0

    async def get(self, exact: str, now: float) -> Entry | None:
        """See `CacheStore`."""
        return await self._look(self._store.get(exact, now))

    async def nearest(self, scope: str, vector: "Vector", limit: int, now: float) -> list[Neighbour]:
        """See `CacheStore`."""
        return await self._look(self._store.nearest(scope, vector, limit, now))

    async def put(self, entry: Entry, vector: "Vector | None") -> None:
        """Returns at once; the entry is kept soon, or is not."""
        if len(self._writes) >= WRITES_AT_ONCE or not self.breaker.allow(self._clock.monotonic()):
            self.puts_dropped += 1
            return
        self.puts += 1
        task = asyncio.create_task(self._put(entry, vector))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def touch(self, id_: str) -> None:
        """See `CacheStore`."""
        self._store.touch(id_)

    async def find(self, id_: str) -> Entry | None:
        """See `CacheStore`. An administrator's call: a longer deadline, and no breaker."""
        return await self._administer(self._store.find(id_))

    async def delete(self, selector: Selector) -> int:
        """See `CacheStore`. What was put before is deleted too; an administrator's call."""
        await self._written()
        return await self._administer(self._store.delete(selector))

    async def stats(self) -> StoreStats:
        """See `CacheStore`. An administrator's call."""
        return await self._administer(self._store.stats())

    async def sweep(self, now: float) -> int:
        """See `CacheStore`. An administrator's call."""
        return await self._administer(self._store.sweep(now))

    async def aclose(self) -> None:
        """Waits for the writes under way, then closes the store."""
        await self._written()
        await self._store.aclose()

    async def _look(self, call: Coroutine[Any, Any, T]) -> T:
        clock, breaker = self._clock, self.breaker
        self.lookups += 1
        permit = breaker.try_acquire(clock.monotonic())
        if not permit:
            call.close()
            self.refused += 1
            raise StoreError("the cache's store failed a moment ago")
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await call
        except TimeoutError:
            self.late += 1
            breaker.on_failure(clock.monotonic(), permit, "timeout")
            raise StoreError(f"the cache's store did not answer within {self._deadline_s * 1000:g} ms") from None
        except StoreError:
            self.failed += 1
            breaker.on_failure(clock.monotonic(), permit, "connect")
            raise
        except BaseException:  # the caller has left, or a defect: neither says anything of the store
            breaker.on_abandoned(clock.monotonic(), permit)
            raise
        breaker.on_success(clock.monotonic(), permit)
        return answer

    async def _put(self, entry: Entry, vector: "Vector | None") -> None:
        try:
            async with asyncio.timeout(self._put_deadline_s):
                await self._store.put(entry, vector)
        except (StoreError, TimeoutError) as exc:
            self.puts_failed += 1
            log.debug("an answer was not cached: %s", exc or "too late")

    async def _administer(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(ADMIN_DEADLINE_S):
                return await call
        except TimeoutError:
            raise StoreError(f"the cache's store did not answer within {ADMIN_DEADLINE_S:g} s") from None

    async def _written(self) -> None:
        """Until every write under way has ended."""
        if self._writes:
            await asyncio.wait(set(self._writes))
