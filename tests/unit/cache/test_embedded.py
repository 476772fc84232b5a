"""The store in this process beyond its contract: big scopes, worker threads, turns for others."""

import asyncio

import pytest

from gateway.cache import embedded
from gateway.cache.embedded import EmbeddedStore
from gateway.cache.entry import Selector
from gateway.cache.matrix import EXACT_ROWS
from gateway.cache.store import StoreError
from tests.support.cache_stores import MEBI, NOW, digest, entry, unit, units

SCOPE = digest("scope")


async def test_a_scope_that_is_scanned_in_a_thread_answers_the_same(monkeypatch):
    rows = units(EXACT_ROWS + 200, 64)
    store = EmbeddedStore(64 * MEBI)
    for number, row in enumerate(rows):
        await store.put(entry(str(number)), row)
    here = await store.nearest(SCOPE, rows[3], 4, NOW)
    monkeypatch.setattr(embedded, "THREAD_ROWS", EXACT_ROWS)
    assert await store.nearest(SCOPE, rows[3], 4, NOW) == here
    assert here[0].entry.text == "3"
    await store.aclose()


@pytest.mark.parametrize(("selector", "left"), [(Selector(tenant="other"), {"acme"}), (Selector(route="chat"), set())])
async def test_what_is_deleted_during_a_scan_in_a_thread_is_not_returned(monkeypatch, selector, left):
    monkeypatch.setattr(embedded, "THREAD_ROWS", EXACT_ROWS)
    rows = units(EXACT_ROWS + 200, 64)
    store = EmbeddedStore(64 * MEBI)
    for number, row in enumerate(rows):
        await store.put(entry(str(number), tenant="other" if number % 2 else "acme"), row)
    look = asyncio.create_task(store.nearest(SCOPE, rows[3], 4, NOW))
    await asyncio.sleep(0)  # the scan has begun
    await store.delete(selector)
    assert {near.entry.tenant for near in await look} == left
    await store.aclose()


async def test_a_large_delete_hides_all_at_once_and_lets_others_run():
    store = EmbeddedStore(64 * MEBI)
    for number in range(3 * embedded.SLICE):
        await store.put(entry(str(number)), unit(1, number))
    delete = asyncio.create_task(store.delete(Selector(tenant="acme")))
    await asyncio.sleep(0)
    assert not delete.done()
    assert (await store.stats()).entries > 0
    assert await store.nearest(SCOPE, unit(1), 4, NOW) == []
    assert [number for number in range(3 * embedded.SLICE) if await store.get(digest(str(number)), NOW)] == []
    late = entry("5")
    await store.put(late, unit(1))
    assert await delete == 3 * embedded.SLICE
    assert await store.get(late.exact, NOW) == late
    assert (await store.stats()).entries == 1


async def test_the_same_id_again_replaces():
    store = EmbeddedStore(MEBI)
    await store.put(entry("a", id="1" * 32), unit(1))
    await store.put(entry("b", id="1" * 32), unit(1))
    assert await store.get(digest("a"), NOW) is None
    assert (await store.find("1" * 32)).text == "b"


async def test_vectors_of_two_encoders_in_one_scope_are_refused_and_never_compared():
    store = EmbeddedStore(MEBI)
    await store.put(entry("a"), unit(1))
    with pytest.raises(StoreError):
        await store.put(entry("b"), unit(1, dimension=16))
    assert await store.nearest(SCOPE, unit(1, dimension=16), 4, NOW) == []
    assert (await store.stats()).entries == 1
