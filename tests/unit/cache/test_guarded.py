"""Deadlines and the breaker around a store; the stores here are small ones of the tests' own."""

import asyncio

import pytest

from gateway.cache.embedded import EmbeddedStore
from gateway.cache.entry import Selector
from gateway.cache.guarded import WRITES_AT_ONCE, Guarded
from gateway.cache.store import StoreError
from tests.support.cache_stores import MEBI, NOW, digest, entry, unit


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOW


class Faulty(EmbeddedStore):
    """Works, fails or never answers, as told."""

    def __init__(self) -> None:
        super().__init__(MEBI)
        self.mood = "works"
        self.asked = 0
        self.open = asyncio.Event()

    async def _suffer(self) -> None:
        self.asked += 1
        if self.mood == "fails":
            raise StoreError("away")
        if self.mood == "hangs":
            await self.open.wait()

    async def get(self, exact, now):
        await self._suffer()
        return await super().get(exact, now)

    async def nearest(self, scope, vector, limit, now):
        await self._suffer()
        return await super().nearest(scope, vector, limit, now)

    async def put(self, entry, vector):
        await self._suffer()
        await super().put(entry, vector)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
async def store():
    return Faulty()


@pytest.fixture
async def guarded(store, clock):
    return Guarded(store, clock, 0.01, rng=lambda: 0.0)


async def settled(guarded):
    """Until the writes under way have ended."""
    await guarded.delete(Selector())


async def test_a_working_store_is_passed_through(guarded):
    kept = entry("a")
    await guarded.put(kept, unit(1))
    await settled(guarded)
    assert await guarded.get(kept.exact, NOW) == kept
    assert [near.entry for near in await guarded.nearest(kept.scope, unit(1), 4, NOW)] == [kept]
    assert await guarded.find(kept.id) == kept
    assert (await guarded.stats()).entries == 1
    assert await guarded.sweep(NOW + 10_000) == 1
    assert (guarded.lookups, guarded.puts, guarded.failed, guarded.late) == (2, 1, 0, 0)


async def test_a_late_look_up_is_an_error_within_the_deadline(guarded, store):
    store.mood = "hangs"
    with pytest.raises(StoreError, match="within 10 ms"):
        await guarded.get(digest("a"), NOW)
    with pytest.raises(StoreError, match="within 10 ms"):
        await guarded.nearest(digest("scope"), unit(1), 4, NOW)
    assert guarded.late == 2


async def test_after_five_failures_the_store_is_left_alone_until_a_probe_works(guarded, store, clock):
    store.mood = "fails"
    for _ in range(5):
        with pytest.raises(StoreError, match="away"):
            await guarded.get(digest("a"), NOW)
    store.mood = "works"
    with pytest.raises(StoreError, match="a moment ago"):
        await guarded.get(digest("a"), NOW)
    await guarded.put(entry("a"), None)
    assert (store.asked, guarded.refused, guarded.puts_dropped) == (5, 1, 1)
    clock.now += 5.0
    assert await guarded.get(digest("a"), NOW) is None
    assert await guarded.get(digest("a"), NOW) is None
    assert store.asked == 7


async def test_one_call_probes_a_store_that_failed(guarded, store, clock):
    store.mood = "fails"
    for _ in range(5):
        with pytest.raises(StoreError):
            await guarded.get(digest("a"), NOW)
    clock.now += 5.0
    store.mood = "hangs"
    answers = await asyncio.gather(*(guarded.get(digest("a"), NOW) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, StoreError) for answer in answers)
    assert store.asked == 6


async def test_a_caller_that_leaves_says_nothing_about_the_store(guarded, store):
    store.mood = "hangs"
    for _ in range(10):
        look = asyncio.create_task(guarded.get(digest("a"), NOW))
        await asyncio.sleep(0)
        look.cancel()
        await asyncio.wait([look])
    store.mood = "works"
    assert await guarded.get(digest("a"), NOW) is None
    assert (guarded.late, guarded.failed) == (0, 0)


async def test_a_put_returns_before_the_store_has_it(guarded, store):
    store.mood = "hangs"
    await guarded.put(entry("a"), None)
    await asyncio.sleep(0)
    assert store.asked == 1
    store.open.set()
    await settled(guarded)
    assert await guarded.get(digest("a"), NOW) is not None


async def test_too_many_puts_at_once_are_dropped_and_counted(guarded, store):
    store.mood = "hangs"
    for number in range(WRITES_AT_ONCE + 3):
        await guarded.put(entry(str(number)), None)
    assert (guarded.puts, guarded.puts_dropped) == (WRITES_AT_ONCE, 3)
    store.open.set()
    await guarded.aclose()
    assert (await store.stats()).entries == WRITES_AT_ONCE


async def test_a_put_that_fails_or_hangs_is_counted_and_forgotten(store, clock):
    guarded = Guarded(store, clock, put_deadline_s=0.01)
    for store.mood in ("fails", "hangs"):
        await guarded.put(entry("a"), None)
        await settled(guarded)
    assert guarded.puts_failed == 2


async def test_a_delete_also_takes_the_puts_before_it(guarded, store):
    store.mood = "hangs"
    await guarded.put(entry("a"), unit(1))
    delete = asyncio.create_task(guarded.delete(Selector(tenant="acme")))
    await asyncio.sleep(0)
    store.open.set()
    assert await delete == 1
    assert await guarded.get(digest("a"), NOW) is None


async def test_a_defect_in_the_store_is_not_hidden(guarded, store):
    async def broken(exact, now):
        raise KeyError(exact)

    store.get = broken
    for _ in range(8):
        with pytest.raises(KeyError):
            await guarded.get(digest("a"), NOW)
