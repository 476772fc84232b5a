"""What only the Redis half does: leases across replicas, and a server that freezes, goes or forgets."""

import asyncio
import itertools

import pytest
import pytest_asyncio

from gateway.cache.entry import Selector
from gateway.cache.guarded import Guarded
from gateway.cache.redis import RedisAnswers
from gateway.cache.store import StoreError
from gateway.core.clock import SystemClock
from tests.support.cache_stores import MEBI, NOW, digest, entry
from tests.support.redis_server import RedisServer

EXACT = digest("a")
_serial = itertools.count()


@pytest_asyncio.fixture
async def replicas(redis_server):
    prefix = f"{{redis{next(_serial)}}}:"
    made = [RedisAnswers(redis_server.url, MEBI, prefix=prefix) for _ in range(2)]
    yield made
    for one in made:
        await one.aclose()


async def test_one_replica_at_a_time_has_the_lease(replicas):
    ours, theirs = replicas
    assert await ours.lease(EXACT, "us", 60)
    assert not await theirs.lease(EXACT, "them", 60)
    assert await theirs.lease(digest("b"), "them", 60)
    assert await ours.release(EXACT, "us")
    assert await theirs.lease(EXACT, "them", 60)


async def test_of_many_that_ask_at_once_one_gets_it(replicas):
    asked = [
        replica.lease(EXACT, f"{number} {replica is replicas[0]}", 60) for replica in replicas for number in range(20)
    ]
    assert sum(await asyncio.gather(*asked)) == 1


async def test_the_owner_may_renew_and_nobody_else_may_release(replicas):
    ours, theirs = replicas
    assert await ours.lease(EXACT, "us", 60)
    assert await ours.lease(EXACT, "us", 60)
    assert not await theirs.release(EXACT, "them")
    assert not await theirs.lease(EXACT, "them", 60)


async def test_a_lease_that_ran_out_is_free_and_no_longer_its_owners(replicas):
    ours, theirs = replicas
    assert await ours.lease(EXACT, "us", 0.001)
    while not await theirs.lease(EXACT, "them", 60):
        pass
    assert not await ours.release(EXACT, "us")
    assert not await ours.lease(EXACT, "us", 60)


async def test_what_one_replica_puts_or_deletes_the_other_sees(replicas):
    ours, theirs = replicas
    kept = entry("a")
    await ours.put(kept)
    assert await theirs.get(kept.exact, NOW) == kept
    assert await theirs.delete(Selector(tenant="acme")) == 1
    assert await ours.get(kept.exact, NOW) is None


async def test_many_keys_are_answered_in_their_order(replicas):
    for name in "ab":
        await replicas[0].put(entry(name))
    found = await replicas[0].many([digest("b"), digest("x"), digest("a")], NOW)
    assert [one and one.text for one in found] == ["b", None, "a"]


async def test_an_entry_of_another_version_is_an_error_and_can_be_replaced(replicas, redis_server):
    ours = replicas[0]
    await ours.put(entry("a"))
    await ours._redis.hset(f"{ours._prefix}x:{EXACT}", "b", b"\x81\xa1a\x01")
    with pytest.raises(StoreError):
        await ours.get(EXACT, NOW)
    await ours.put(entry("a"))
    assert await ours.get(EXACT, NOW) is not None


async def test_nothing_is_left_in_redis_when_the_last_answer_is_deleted(replicas):
    ours = replicas[0]
    for number in range(5):
        await ours.put(entry(str(number), tags=("faq", f"tag {number}"), scope=str(number)))
    await ours.delete(Selector(tenant="acme"))
    await ours.sweep(NOW + 2000)
    keys = {key.decode().removeprefix(ours._prefix) for key in await ours._redis.keys(ours._prefix + "*")}
    assert keys == {"count"}
    assert (await ours.stats()).bytes == 0


async def test_a_frozen_server_costs_the_deadline_and_answers_rightly_afterwards(tmp_path):
    with RedisServer(tmp_path) as server:
        answers = RedisAnswers(server.url, MEBI)
        guarded = Guarded(answers, SystemClock(), 0.05)
        await answers.put(entry("a"))
        await answers.put(entry("b"))
        server.freeze()
        for name in "ab":
            with pytest.raises(StoreError, match="50 ms"):
                await guarded.get(digest(name), NOW)
        server.thaw()
        for name in "baab":
            assert (await answers.get(digest(name), NOW)).text == name
        await answers.aclose()


async def test_a_server_that_is_gone_is_an_error_and_one_that_is_back_works(tmp_path):
    with RedisServer(tmp_path) as server:
        answers = RedisAnswers(server.url, MEBI)
        await answers.put(entry("a"))
        server.stop()
        with pytest.raises(StoreError):
            await answers.get(EXACT, NOW)
        with pytest.raises(StoreError):
            await answers.delete(Selector(tenant="acme"))
        server.start()
        assert await answers.get(EXACT, NOW) is None
        await answers.put(entry("a"))
        assert await answers.get(EXACT, NOW) is not None
        await answers.aclose()
