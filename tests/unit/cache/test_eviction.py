"""What is kept when there is no room."""

from random import Random

from gateway.cache.embedded import EmbeddedStore
from gateway.cache.eviction import value_per_byte
from gateway.core.exchange import Usage
from tests.support.cache_stores import MEBI, NOW, digest, entry, unit


def test_what_saves_more_per_second_and_byte_is_worth_more():
    worth = value_per_byte(entry("a", cost_micro_usd=100), 1, 60.0, 1000)
    assert value_per_byte(entry("a", cost_micro_usd=1000), 1, 60.0, 1000) > worth
    assert value_per_byte(entry("a", cost_micro_usd=100), 9, 60.0, 1000) > worth
    assert value_per_byte(entry("a", cost_micro_usd=100), 1, 600.0, 1000) < worth
    assert value_per_byte(entry("a", cost_micro_usd=100), 1, 60.0, 9000) < worth


def test_an_unknown_price_is_not_a_price_of_zero():
    free, unknown = entry("a", cost_micro_usd=0), entry("a", cost_micro_usd=None, usage=Usage(output=500))
    assert value_per_byte(unknown, 0, 1.0, 1000) > value_per_byte(free, 0, 1.0, 1000)


def test_a_clock_that_steps_back_makes_nothing_priceless():
    assert value_per_byte(entry("a"), 0, -50.0, 1000) == value_per_byte(entry("a"), 0, 0.0, 1000)


async def fill(store, count, **members):
    for number in range(count):
        await store.put(entry(f"filler {number}", body=b"x" * 5000, stored_s=NOW + 10, **members), None)


async def test_an_answer_that_is_often_served_outlives_the_others():
    store = EmbeddedStore(MEBI // 4)
    loved = entry("loved")
    await store.put(loved, unit(1))
    for _ in range(200):
        store.touch(loved.id)
    store.touch("unknown")
    await fill(store, 300)
    assert await store.get(loved.exact, NOW) is not None
    assert store.evicted > 200


async def test_an_answer_that_is_only_looked_at_does_not():
    store = EmbeddedStore(MEBI // 4)
    looked_at = entry("a")
    await store.put(looked_at, unit(1))
    for _ in range(200):
        await store.get(looked_at.exact, NOW)
        await store.nearest(looked_at.scope, unit(1), 1, NOW)
        await store.find(looked_at.id)
    await fill(store, 300)
    assert await store.get(looked_at.exact, NOW) is None


async def test_the_expired_go_first_and_are_no_loss():
    store = EmbeddedStore(MEBI // 4, rng=Random(0).randrange)
    await fill(store, 40, expires_s=NOW + 11)
    before = store.evicted
    for number in range(20):
        await store.put(entry(f"new {number}", body=b"x" * 5000, stored_s=NOW + 20), None)
    assert store.evicted == before
    assert [number for number in range(20) if not await store.get(digest(f"new {number}"), NOW)] == []


async def test_the_worth_may_be_the_operators_own():
    store = EmbeddedStore(MEBI // 4, value=lambda one, served, age_s, size: float(one.text.endswith("7")))
    for number in range(200):
        await store.put(entry(f"{number}", body=b"x" * 5000), None)
    kept = [number for number in range(200) if await store.get(digest(str(number)), NOW)]
    assert sum(number % 10 == 7 for number in kept) > 15
