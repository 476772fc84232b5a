"""RedisAccounts when Redis is frozen, gone, restarted or flushed: real servers, real signals."""

import asyncio
import time

import pytest

from gateway.access import redis_link
from gateway.access.accounts import Refusal, Unavailable
from gateway.access.grants import Grant
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from tests.support.account_worlds import LEASE_S, RedisWorld, until
from tests.support.redis_server import RedisServer

TOTAL = Budget("tenant:shop/total", "tenant:shop", "total", 10_000)
SHOP = "tenant:shop/total@0"
MONEY = Applies(budgets=(TOTAL,))
RATES = Applies(rates=(Rate("key:ci/requests", "requests", 10),))


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path) as running:
        yield running


@pytest.fixture
async def world(server):
    made = RedisWorld(server.url, "faults", deadline_s=0.25)
    yield made
    await made.close()


async def reserve(accounts, id_, applies=MONEY, micro_usd=1_000):
    return await accounts.reserve(id_, applies, micro_usd, 0, time.time(), LEASE_S)


async def unavailable_after_s(accounts, id_):
    began = time.perf_counter()
    with pytest.raises(Unavailable) as refused:
        await reserve(accounts, id_)
    assert refused.value.retry_after_s == 1.0
    return time.perf_counter() - began


async def answered(accounts, id_, micro_usd=1_000, applies=MONEY):
    """The first answer, once there is one again."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            return await reserve(accounts, id_, applies, micro_usd)
        except Unavailable:
            await asyncio.sleep(0.02)
            id_ += "'"
    raise AssertionError("never available again")


async def test_a_frozen_server_costs_one_deadline_then_nothing_and_is_back_when_it_is(world, server):
    accounts = await world.client()
    await reserve(accounts, "before")
    server.freeze()
    assert await unavailable_after_s(accounts, "first") < 0.35
    for n in range(4):
        await unavailable_after_s(accounts, f"more{n}")
    fast = sorted([await unavailable_after_s(accounts, f"fast{n}") for n in range(100)])
    assert fast[90] < 0.005
    assert fast[-1] < 0.35
    server.thaw()
    await answered(accounts, "after")
    await world.arrive()
    # What was sent to the frozen server ran after all, and was undone.
    assert await world.state(SHOP) == (0, 2_000)
    assert accounts.unavailable >= 105


async def test_a_burst_at_a_frozen_server_waits_one_deadline_together(world, server):
    took = []
    while not took or (min(took) >= 0.6 and len(took) < 3):  # a stall of the machine is not the accounts'
        n = len(took)
        accounts = await world.client(n)
        await reserve(accounts, f"before{n}")
        server.freeze()
        began = time.perf_counter()
        calls = [reserve(accounts, f"r{n}.{call}") for call in range(300)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        took.append(time.perf_counter() - began)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        server.thaw()
        assert isinstance(await answered(accounts, f"after{n}"), Grant)
    assert min(took) < 0.6
    await world.arrive()
    assert await world.state(SHOP) == (0, 2_000 * len(took))


async def test_a_closed_port_is_unavailable_at_once(world, server):
    accounts = await world.client()
    server.stop()
    assert max([await unavailable_after_s(accounts, f"r{n}") for n in range(20)]) < 0.35


async def test_rates_alone_go_on_at_this_replicas_share(world, server):
    accounts = await world.client(replicas=2)
    slots = Applies(concurrency=(Concurrency("key:ci", 2),))
    server.stop()
    outcomes = [await reserve(accounts, f"r{n}", RATES) for n in range(6)]
    assert [isinstance(outcome, Grant) for outcome in outcomes] == [True] * 5 + [False]
    assert outcomes[-1].level.rate.id == "key:ci/requests"
    assert 11 < outcomes[-1].retry_after_s <= 12
    assert isinstance(await reserve(accounts, "s1", slots), Grant)
    assert isinstance(await reserve(accounts, "s2", slots), Refusal)
    accounts.settle("s1", 0, 0, time.time())
    assert isinstance(await reserve(accounts, "s3", slots), Grant)
    assert accounts.alone == 9
    assert accounts.unavailable == 0


async def test_a_settle_while_it_is_down_arrives_after(world, server):
    accounts = await world.client()
    for n in range(5):
        await reserve(accounts, f"r{n}")
    server.freeze()
    for n in range(5):
        accounts.settle(f"r{n}", 600, 0, time.time())
        accounts.settle(f"r{n}", 600, 0, time.time())
    await until(lambda: accounts.waiting == 10, "sent to a frozen server")
    server.thaw()
    await world.arrive()
    assert await world.state(SHOP) == (3_000, 0)


async def test_closing_sends_what_waits(world, server):
    accounts = await world.client()
    await reserve(accounts, "a")
    accounts.settle("a", 300, 0, time.time())
    await accounts.aclose()
    assert await world.state(SHOP) == (300, 0)


async def test_closing_without_a_server_gives_up_and_says_so(world, server, caplog):
    accounts = await world.client()
    await reserve(accounts, "a")
    server.stop()
    accounts.settle("a", 300, 0, time.time())
    began = time.perf_counter()
    await accounts.aclose()
    assert time.perf_counter() - began < 2.5
    assert "1 ends of requests did not reach Redis" in caplog.text


async def test_with_a_share_a_replica_spends_its_part_of_what_was_left_and_tells_redis_later(world, server):
    accounts = await world.client(replicas=2, degraded_share=True)
    await reserve(accounts, "before", micro_usd=2_000)
    server.freeze()
    outcomes = [await reserve(accounts, f"r{n}") for n in range(6)]
    assert [isinstance(outcome, Grant) for outcome in outcomes] == [True] * 4 + [False, False]
    assert outcomes[0].windows == (SHOP,)
    accounts.settle("r0", 500, 0, time.time())
    accounts.settle("r1", 1_000, 0, time.time())
    assert isinstance(await reserve(accounts, "r6", micro_usd=500), Grant)
    server.thaw()
    await until(lambda: not accounts._stale, "own leases were never brought to Redis")
    assert isinstance(await reserve(accounts, "after", micro_usd=1), Grant)
    await world.arrive()
    assert sum(await world.state(SHOP)) == 1_500 + 2_000 + 2_000 + 500 + 1
    for id_ in ("r2", "r3", "r6", "after", "before"):
        accounts.settle(id_, 1, 0, time.time())
    await world.arrive()
    assert await world.state(SHOP) == (1_505, 0)


async def test_a_window_never_seen_has_no_share(world, server):
    accounts = await world.client(degraded_share=True)
    server.stop()
    await unavailable_after_s(accounts, "a")


async def test_after_a_flush_committed_and_reserved_are_the_truth(world, server):
    first, second = await world.client(0), await world.client(1)
    for n in range(3):
        await reserve(first, f"a{n}")
        await reserve(second, f"b{n}")
    first.settle("a0", 400, 0, time.time())
    second.settle("b0", 300, 0, time.time())
    await world.arrive()
    world.ledger[SHOP] = 700
    await world.flush()
    await answered(first, "c")
    assert await world.state(SHOP) == (700, 5_000)
    first.settle("a1", 1_000, 0, time.time())
    second.settle("b1", 900, 0, time.time())
    second.release("b2", time.time())
    await world.arrive()
    assert await world.state(SHOP) == (2_600, 2_000)
    assert isinstance(await reserve(second, "d", micro_usd=5_401), Refusal)
    assert isinstance(await reserve(second, "d", micro_usd=5_400), Grant)


async def test_a_replica_that_has_not_noticed_the_flush_counts_its_leases_before_its_next_reserve(world, server):
    accounts = await world.client()
    await reserve(accounts, "a", micro_usd=9_000)
    await world.redis.flushall()
    assert isinstance(await answered(accounts, "b", micro_usd=1_001), Refusal)
    assert isinstance(await answered(accounts, "c", micro_usd=1_000), Grant)


async def test_what_ended_while_redis_was_empty_is_counted_once(world, server):
    accounts = await world.client()
    await reserve(accounts, "in the truth")
    await reserve(accounts, "after the truth")
    await world.redis.flushall()
    accounts.settle("in the truth", 700, 0, time.time())
    world.ledger[SHOP] = 700
    await world.arrive()
    assert await world.state(SHOP) == (700, 1_000)
    for _ in range(3):
        accounts.settle("in the truth", 700, 0, time.time())
    accounts.settle("after the truth", 200, 0, time.time())
    await world.arrive()
    assert await world.state(SHOP) == (900, 0)


async def test_an_end_after_the_recount_commits_although_its_lease_was_lost(world, server):
    """The other replica counted anew before this one noticed anything."""
    slow, quick = await world.client(0), await world.client(1)
    await reserve(slow, "a")
    await reserve(quick, "q", micro_usd=1)
    await world.crash(0)  # only its background task and connection: the object below lives on
    await world.redis.flushall()
    await answered(quick, "b", micro_usd=1)
    revived = asyncio.create_task(slow.run())
    slow._link = type(slow._link)(server.url, time.monotonic, "{faults}:", 0.25)
    slow.settle("a", 600, 0, time.time())
    await until(lambda: slow.waiting == 0, "the end never arrived")
    assert await world.state(SHOP) == (600, 2)
    revived.cancel()
    with pytest.raises(asyncio.CancelledError):
        await revived
    await slow.aclose()


async def test_an_answer_of_the_ledger_from_before_a_flush_is_not_believed_after_it(world, server):
    """A slow ledger: what was committed and flushed since it was asked would be lost."""
    gate = asyncio.Event()
    truth = world.truth

    async def slow(windows):
        told = await truth(windows)
        await gate.wait()
        return told

    world.truth = slow
    first = await world.client(0)
    world.truth = truth
    second = await world.client(1)
    before = asyncio.create_task(reserve(first, "a", micro_usd=1))
    await until(lambda: world.asked == [SHOP], "the ledger was not asked")
    await reserve(second, "b")
    second.settle("b", 900, 0, time.time())
    await until(lambda: second.waiting == 0, "the end never arrived")
    world.ledger[SHOP] = 900
    await world.flush()
    after = asyncio.create_task(reserve(first, "c", micro_usd=9_100))
    for _ in range(3):
        await first.refresh()
    gate.set()
    assert {type(await before), type(await after)} == {Grant, Refusal}
    committed, reserved = await world.state(SHOP)
    assert committed == 900
    assert committed + reserved <= TOTAL.limit_micro_usd


async def test_while_redis_is_empty_budgets_wait_for_the_other_replicas(world, server):
    accounts = await world.client(cold_grace_s=0.3)
    began = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        await reserve(accounts, "a")
    assert 0 < refused.value.retry_after_s <= 0.3
    assert isinstance(await reserve(accounts, "r", RATES), Grant)
    await answered(accounts, "b")
    assert time.monotonic() - began >= 0.3
    again = Budget("tenant:shop/day", "tenant:shop", "day", 10_000)
    assert isinstance(await reserve(accounts, "c", Applies(budgets=(again,))), Grant)


async def test_a_restarted_server_gets_its_scripts_and_counters_again(world, server):
    accounts = await world.client()
    await reserve(accounts, "a")
    server.stop()
    await unavailable_after_s(accounts, "b")
    server.start()
    await answered(accounts, "c")
    await world.arrive()
    assert await world.state(SHOP) == (0, 2_000)


async def test_counters_that_a_restarted_server_had_saved_long_ago_are_not_believed(world, server):
    accounts = await world.client()
    await reserve(accounts, "a")
    await world.redis.save()
    accounts.settle("a", 1_000, 0, time.time())
    await reserve(accounts, "b", micro_usd=5_000)
    accounts.settle("b", 5_000, 0, time.time())
    await reserve(accounts, "open", micro_usd=3_000)
    await world.arrive()
    world.ledger[SHOP] = 6_000
    await world.redis.aclose()  # it connects anew below
    server.stop()
    server.start()
    assert await world.state(SHOP) == (0, 1_000), "the server has not kept anything: nothing is tested here"
    assert isinstance(await answered(accounts, "c", micro_usd=1_001), Refusal)
    assert isinstance(await answered(accounts, "d", micro_usd=1_000), Grant)
    assert await world.state(SHOP) == (6_000, 4_000)


async def test_scripts_that_are_lost_alone_change_nothing(world, server):
    accounts = await world.client()
    await reserve(accounts, "a")
    asked = len(world.asked)
    await world.redis.script_flush()
    assert isinstance(await reserve(accounts, "b"), Grant)
    assert await world.state(SHOP) == (0, 2_000)
    assert len(world.asked) == asked


@pytest.mark.parametrize(("policy", "warns"), [("volatile-lru", True), ("noeviction", False)])
async def test_a_server_that_may_drop_counters_is_an_error_in_the_log(world, server, caplog, policy, warns):
    await world.redis.config_set("maxmemory", "100mb")
    await world.redis.config_set("maxmemory-policy", policy)
    await (await world.client()).refresh()
    assert (f"maxmemory-policy noeviction, not {policy}" in caplog.text) == warns


async def test_connections_that_the_server_has_closed_are_made_anew(world, server):
    accounts = await world.client()
    await asyncio.gather(*[reserve(accounts, f"r{n}") for n in range(3)])
    for n in range(5):
        await world.redis.client_kill_filter(_type="normal", skipme=True)
        # Ends are queued and sent again, a reserve is not: its connection must be a good one.
        assert isinstance(await reserve(accounts, f"again{n}"), Grant)
    assert accounts.unavailable == 0


async def test_a_call_that_comes_as_the_last_lane_ends_is_answered(world, monkeypatch):
    """The one that was answered comes again at once, in the turn of the event loop in which its lane ends."""
    monkeypatch.setattr(redis_link, "LANES", 1)
    link = redis_link.Link(world.url, time.monotonic, "{lanes}:", 5.0)
    async with asyncio.timeout(5):
        for _ in range(3):
            assert (await link.call("policy", []))[0] == "done"
    await link.aclose()


async def test_one_end_that_must_wait_keeps_no_other_of_its_batch(world, server):
    other = Applies(budgets=(Budget("tenant:other/total", "tenant:other", "total", 10_000),))
    truth = world.truth

    async def knows_the_other_only(windows):
        if world.ledger_fails and SHOP in [window.id for window in windows]:
            raise OSError("no ledger")
        return [world.ledger.get(window.id, 0) for window in windows]

    world.truth = knows_the_other_only
    accounts = await world.client()
    world.truth = truth
    await reserve(accounts, "waits")
    await reserve(accounts, "goes", other)
    world.ledger_fails = True
    await world.redis.flushall()
    await answered(accounts, "c", applies=other)
    accounts.settle("waits", 600, 0, time.time())
    world.ledger[SHOP] = 600
    accounts.settle("goes", 700, 0, time.time())
    await until(lambda: accounts.waiting == 1, "one waits for the other")
    assert (await world.state("tenant:other/total@0"))[0] == 700
    world.ledger_fails = False
    await world.arrive()
    assert await world.state(SHOP) == (600, 0)


async def test_a_cancelled_reserve_holds_nothing(world, server):
    accounts = await world.client()
    await reserve(accounts, "a")
    tasks = [asyncio.create_task(reserve(accounts, f"r{n}")) for n in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await world.arrive()
    assert await world.state(SHOP) == (0, 1_000)


async def test_the_leases_of_a_dead_replica_end_by_another_ones_heartbeat(world, server):
    first, second = await world.client(0), await world.client(1)
    applies = Applies(budgets=(TOTAL,), concurrency=(Concurrency("c", 1),))
    await first.reserve("a", applies, 1_000, 0, time.time(), 0.05)
    await world.crash(0)

    deadline = time.monotonic() + 5
    while await world.state(SHOP) != (1_000, 0):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert isinstance(await reserve(second, "b", applies), Grant)
