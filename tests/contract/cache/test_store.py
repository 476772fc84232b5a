"""What every store of the cache does, on real backends."""

import asyncio

import numpy as np
import pytest

from gateway.cache.entry import Selector
from tests.support.cache_stores import DIMENSION, IMITATION, MEBI, NOW, digest, entry, unit, units

pytestmark = [pytest.mark.filterwarnings(line) for line in IMITATION]
SCOPE = digest("scope")


async def names(store, vector, scope=SCOPE, limit=10, now=NOW):
    return [near.entry.text for near in await store.nearest(scope, vector, limit, now)]


async def test_an_answer_is_found_by_its_exact_key_and_by_its_id_as_it_was_put(store):
    kept = entry("a", tags=("faq", "de"), cost_micro_usd=None, body=b"\x00\xff{}")
    await store.put(kept, unit(1))
    assert await store.get(kept.exact, NOW) == kept
    assert await store.find(kept.id) == kept
    assert (await store.nearest(SCOPE, unit(1), 1, NOW))[0].entry == kept


async def test_what_was_not_put_is_not_found(store):
    assert await store.get(digest("a"), NOW) is None
    assert await store.find("0" * 32) is None
    assert await store.nearest(SCOPE, unit(1), 4, NOW) == []


async def test_neighbours_come_in_the_order_of_their_cosines_as_brute_force_has_them(store):
    rows = units(60, DIMENSION)
    await asyncio.gather(*(store.put(entry(str(number)), row) for number, row in enumerate(rows)))
    for query in units(5, DIMENSION, seed=1):
        expected = rows @ query
        found = await store.nearest(SCOPE, query, 7, NOW)
        assert [near.entry.text for near in found] == [str(number) for number in np.argsort(-expected)[:7]]
        assert [near.similarity for near in found] == pytest.approx(np.sort(expected)[::-1][:7].tolist(), abs=1e-3)


async def test_fewer_neighbours_than_asked_for_are_all_returned(store):
    await store.put(entry("a"), unit(1))
    await store.put(entry("b"), unit(0, 1))
    assert await names(store, unit(1, 0.1), limit=9) == ["a", "b"]
    assert await names(store, unit(1, 0.1), limit=1) == ["a"]


async def test_the_same_vector_in_another_scope_is_never_a_neighbour(store):
    await store.put(entry("theirs", scope="other"), unit(1))
    assert await names(store, unit(1)) == []
    await store.put(entry("ours"), unit(0, 1))
    assert await names(store, unit(1)) == ["ours"]


async def test_many_nearer_ones_in_another_scope_do_not_take_the_places_of_our_own(store):
    for number in range(12):
        await store.put(entry(f"theirs {number}", scope="other"), unit(1, number / 100))
    await store.put(entry("ours"), unit(0, 1))
    assert await names(store, unit(1), limit=1) == ["ours"]


async def test_nothing_is_returned_from_the_second_it_expires(store):
    await store.put(entry("a", expires_s=NOW + 60), unit(1))
    assert await store.get(digest("a"), NOW + 59.9) is not None
    assert await names(store, unit(1), now=NOW + 59.9) == ["a"]
    assert await store.get(digest("a"), NOW + 60) is None
    assert await names(store, unit(1), now=NOW + 60) == []


async def test_the_expired_do_not_take_the_places_of_the_living(store):
    for number in range(6):
        await store.put(entry(f"old {number}", expires_s=NOW + 10), unit(1, number / 100))
    await store.put(entry("living"), unit(1, 1))
    assert await names(store, unit(1), limit=2, now=NOW + 20) == ["living"]


async def test_an_answer_without_a_vector_is_found_by_its_exact_key_alone(store):
    await store.put(entry("a"), None)
    assert await store.get(digest("a"), NOW) is not None
    assert await names(store, unit(1)) == []


async def test_the_same_exact_key_replaces(store):
    first, second = entry("a", tags=("old",)), entry("a", tags=("new",))
    await store.put(first, unit(1))
    await store.put(second, unit(0, 1))
    assert (await store.get(digest("a"), NOW)).id == second.id
    assert await store.find(first.id) is None
    assert [near.entry.id for near in await store.nearest(SCOPE, unit(1), 4, NOW)] == [second.id]
    assert (await store.stats()).entries == 1
    assert await store.delete(Selector(tag="old")) == 0
    assert await store.get(digest("a"), NOW) is not None


async def test_a_replacement_without_a_vector_is_no_neighbour(store):
    await store.put(entry("a"), unit(1))
    await store.put(entry("a"), None)
    assert await names(store, unit(1)) == []


SELECTORS = [
    (Selector(tenant="acme"), {"a", "b", "c"}),
    (Selector(tag="faq"), {"a", "d"}),
    (Selector(route="chat"), {"a", "b", "d"}),
    (Selector(exact=digest("b")), {"b"}),
    (Selector(id="d" * 32), {"d"}),
    (Selector(tenant="acme", tag="faq"), {"a"}),
    (Selector(tenant="other", exact=digest("a")), set()),
    (Selector(tenant="acme", id="d" * 32), set()),
    (Selector(tag="fa"), set()),
    (Selector(tenant="nobody"), set()),
    (Selector(), set()),
]


@pytest.mark.parametrize(("selector", "meant"), SELECTORS, ids=str)
async def test_what_a_selector_matches_is_deleted_and_nothing_else(store, selector, meant):
    await store.put(entry("a", tags=("faq", "de")), unit(1))
    await store.put(entry("b", tags=("faqs",)), unit(1, 0.1))
    await store.put(entry("c", route="code"), unit(1, 0.2))
    await store.put(entry("d", tenant="other", tags=("faq",), id="d" * 32), unit(1, 0.3))
    assert await store.delete(selector) == len(meant)
    left = {"a", "b", "c", "d"} - meant
    assert set(await names(store, unit(1))) == left
    assert {name for name in "abcd" if await store.get(digest(name), NOW)} == left
    assert await store.delete(selector) == 0
    assert (await store.stats()).entries == len(left)


async def test_all_of_it_can_be_deleted(store):
    for name, members in (("a", {"tenant": "acme"}), ("b", {"tenant": "other", "scope": digest("scope 2")})):
        await store.put(entry(name, **members), unit(1))
    assert await store.delete(Selector()) == 0
    assert await store.delete(Selector(all=True)) == 2
    assert (await store.stats()).entries == 0
    assert await names(store, unit(1)) == []


async def test_what_is_put_after_a_delete_stays(store):
    await store.put(entry("a"), unit(1))
    await store.delete(Selector(tenant="acme"))
    await store.put(entry("a"), unit(1))
    assert await store.get(digest("a"), NOW) is not None
    assert await names(store, unit(1)) == ["a"]


async def test_a_deleted_answer_cannot_be_found_by_its_id(store):
    kept = entry("a")
    await store.put(kept, unit(1))
    await store.delete(Selector(id=kept.id))
    assert await store.find(kept.id) is None


async def test_hundreds_of_answers_are_deleted_together(store):
    for number in range(205):
        await store.put(entry(str(number)), unit(1, number))
    await store.put(entry("other", tenant="other"), unit(1))
    assert await store.delete(Selector(tenant="acme")) == 205
    assert await names(store, unit(1)) == ["other"]


async def test_sweeping_removes_the_expired_and_counts_them(store):
    await store.put(entry("short", expires_s=NOW + 10), unit(1))
    await store.put(entry("shorter", expires_s=NOW + 5), None)
    await store.put(entry("long"), unit(1))
    assert await store.sweep(NOW + 10) == 2
    assert await store.sweep(NOW + 10) == 0
    stats = await store.stats()
    assert (stats.entries, stats.scopes) == (1, 1)
    assert await names(store, unit(1), now=NOW + 10) == ["long"]


async def test_puts_looks_and_deletes_may_overlap(store):
    rows = units(40, DIMENSION)
    entries = [entry(str(number % 20), tenant=f"tenant {number % 2}") for number in range(40)]

    async def look():
        for query in rows[:10]:
            for near in await store.nearest(SCOPE, query, 4, NOW):
                assert near.entry.scope == SCOPE
            await store.get(digest("3"), NOW)

    puts = [store.put(one, row) for one, row in zip(entries, rows, strict=True)]
    await asyncio.gather(*puts[:20], look(), store.delete(Selector(tenant="tenant 1")), look(), *puts[20:])
    await store.delete(Selector(tenant="tenant 1"))
    assert set(await names(store, rows[0], limit=40)) == {str(number) for number in range(0, 20, 2)}
    assert (await store.stats()).entries == 10


async def test_bytes_stay_within_the_bound_and_what_went_is_counted(world):
    store = await world.open(MEBI // 4)
    try:
        for number in range(120):
            await store.put(entry(str(number), body=b"x" * 5000), unit(1, number / 100))
            assert (await store.stats()).bytes <= MEBI // 4
        stats = await store.stats()
        assert stats.entries > 20
        assert stats.evicted == 120 - stats.entries
        assert len(await store.nearest(SCOPE, unit(1), 200, NOW)) == stats.entries
    finally:
        await store.aclose()


async def test_an_answer_larger_than_the_whole_store_is_not_kept(world):
    store = await world.open(MEBI // 4)
    try:
        await store.put(entry("a"), unit(1))
        await store.put(entry("a", body=b"x" * MEBI), unit(1))
        assert await store.get(digest("a"), NOW) is None
        assert await names(store, unit(1)) == []
    finally:
        await store.aclose()


async def test_bytes_return_to_zero_with_the_last_entry(store):
    for number in range(30):
        await store.put(entry(str(number % 20), scope=str(number % 2)), unit(1, number))
    assert (await store.stats()).entries == 20
    await store.delete(Selector(tenant="acme"))
    stats = await store.stats()
    assert (stats.entries, stats.bytes) == (0, 0)


async def test_a_restart_keeps_what_was_put_and_not_what_was_deleted_or_replaced(world):
    if not world.durable:
        pytest.skip("keeps nothing on purpose")
    store = await world.open()
    kept, gone = entry("kept", tags=("faq",)), entry("gone", tenant="other")
    for one in (kept, gone, entry("replaced"), entry("exact only")):
        await store.put(one, None if one.text == "exact only" else unit(1))
    latest = entry("replaced")
    await store.put(latest, unit(0, 1))
    await store.delete(Selector(tenant="other"))
    await store.aclose()
    store = await world.open()
    try:
        assert await store.get(kept.exact, NOW) == kept
        assert await store.get(gone.exact, NOW) is None
        assert await store.find(gone.id) is None
        assert (await store.get(digest("replaced"), NOW)).id == latest.id
        assert await store.get(digest("exact only"), NOW) is not None
        assert await names(store, unit(1)) == ["kept", "replaced"]
        assert await store.delete(Selector(tag="faq")) == 1
    finally:
        await store.aclose()
