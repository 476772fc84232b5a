"""What a process that was killed has left in Redis is ended by its next start: at its row, or at nothing without one."""

import asyncio
import time

import pytest

from gateway.access.accounts import Refusal
from gateway.access.grants import Grant
from gateway.access.owner import kept_owner, next_owner
from gateway.access.redis_left import PAGES
from gateway.core.clock import SystemClock
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from gateway.database import DatabaseError, open_database
from gateway.ledger.journal import Journal
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import LedgerWriter, replay_abandoned
from tests.support.account_worlds import LEASE_S, RedisWorld, until
from tests.support.ledger import admission
from tests.support.redis_server import RedisServer

TOTAL = Budget("tenant:shop/total", "tenant:shop", "total", 10_000_000)
SHOP = "tenant:shop/total@0"
SLOT = Concurrency("key:ci", 3)
TOKENS = Rate("key:ci/tokens", "tokens", 100)
MONEY = Applies(budgets=(TOTAL,))


@pytest.fixture
def world(redis_world):
    return redis_world


async def reserve(accounts, id_, micro_usd=1_000, applies=MONEY, tokens=0, lease_s=LEASE_S):
    outcome = await accounts.reserve(id_, applies, micro_usd, tokens, time.time(), lease_s)
    assert isinstance(outcome, Grant)


async def left_keys(world):
    """What Redis keeps for leases of replicas, whatever their state."""
    keys = [key async for key in world.redis.scan_iter(f"{{{world.prefix}}}:*")]
    return [key for key in keys if key.split(":")[1] in ("lease", "leases", "owner")]


async def test_a_request_that_died_unsent_holds_nothing_once_its_gateway_is_back(world):
    applies = Applies((TOTAL,), (TOKENS,), (SLOT,))
    first = await world.client()
    for n in range(3):
        await reserve(first, f"r{n}", 1_000, applies, tokens=30)
    assert isinstance(await first.reserve("late", applies, 1, 30, time.time(), LEASE_S), Refusal)
    await world.crash()
    second = await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (0, 0)
    assert await left_keys(world) == []
    for n in range(3, 6):
        await reserve(second, f"r{n}", 1_000, applies, tokens=30)


async def test_a_request_that_has_a_row_is_committed_at_it_whether_the_end_was_sent_or_not(world):
    first = await world.client()
    for id_ in ("sent", "unsent", "crashed"):
        await reserve(first, id_)
    first.settle("sent", 300, 0, time.time())
    await world.arrive()
    await world.crash()
    world.rows |= {"sent": (300, 7), "unsent": (400, 7), "crashed": (1_000, 0)}
    await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (1_700, 0)


async def test_tokens_of_a_row_are_taken_from_its_rate(world):
    applies = Applies(rates=(TOKENS,))
    first = await world.client()
    await reserve(first, "a", 0, applies, tokens=100)
    await world.crash()
    world.rows["a"] = (0, 60)
    second = await world.start_again()
    await world.disowned()
    refused = await second.reserve("b", applies, 0, 90, time.time(), LEASE_S)
    assert 25 <= refused.level.remaining <= 50
    await reserve(second, "c", 0, applies, tokens=25)


@pytest.mark.parametrize(("row", "committed"), [(None, 0), ((250, 0), 250), ((1_000, 0), 1_000)])
async def test_a_lease_that_is_over_is_corrected_too(world, row, committed):
    await reserve(await world.client(), "a")
    await world.crash()
    await (await world.client(1)).refresh()
    await world.redis.zadd(f"{{{world.prefix}}}:leases", {"a": 0})
    await (await world.client(1)).refresh()
    assert await world.state(SHOP) == (1_000, 0)
    world.rows |= {} if row is None else {"a": row}
    await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (committed, 0)
    assert await left_keys(world) == []


async def test_what_the_new_start_and_other_replicas_hold_is_theirs(world):
    await reserve(await world.client(), "old", 1)
    await world.crash()
    await reserve(await world.client(1), "other", 20)
    second = await world.client()
    await reserve(second, "before", 300)
    await world.start_again()
    await reserve(second, "after", 4_000)
    await world.disowned()
    assert await world.state(SHOP) == (0, 4_320)


async def test_all_earlier_starts_are_ended(world):
    for n in range(4):
        await reserve(await world.client(), f"r{n}")
        await world.crash()
    await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (0, 0)


async def test_a_start_that_was_heard_of_lately_may_live_and_is_left_alone(world):
    """Its journal folder was copied, or a command of it is under way: what it holds is not given away."""
    await reserve(await world.client(), "a")
    await (await world.client()).refresh()
    await world.crash()
    second = await world.start_again(later=False)
    for _ in range(3):
        await second.refresh()
    assert await world.state(SHOP) == (0, 1_000)
    await world.disowned()  # three seconds later
    assert await world.state(SHOP) == (0, 0)


async def test_more_than_one_turn_takes_is_ended_in_several(world):
    number = 64 * PAGES + 70
    first = await world.client()
    await asyncio.gather(*[reserve(first, f"r{n:04}", 10) for n in range(number)])
    await world.crash()
    world.rows |= {f"r{n:04}": (4, 0) for n in range(0, number, 2)}
    await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (number // 2 * 4, 0)
    assert await left_keys(world) == []


async def test_nothing_is_ended_while_the_ledger_cannot_tell(world, caplog):
    await reserve(await world.client(), "a")
    await world.crash()
    world.ledger_fails = True
    second = await world.start_again()
    for _ in range(3):
        with pytest.raises(OSError, match="no ledger"):
            await second.refresh()
    assert await world.state(SHOP) == (0, 1_000)
    world.rows["a"] = (700, 0)
    world.ledger_fails = False
    await world.disowned()
    assert await world.state(SHOP) == (700, 0)


async def test_redis_that_is_away_at_the_start_is_asked_when_it_is_back(tmp_path):
    with RedisServer(tmp_path) as server:
        world = RedisWorld(server.url, "away", deadline_s=0.25)
        await reserve(await world.client(), "unsent")
        await reserve(await world.client(), "stored")
        await world.crash()
        world.rows["stored"] = (300, 0)
        await world.redis.delete("{away}:alive:replica-0")
        server.freeze()
        second = await world.start_again(later=False)
        second.settle("nobody", 0, 0, time.time())
        await until(lambda: second._link._fuse._failures > 1, "the server was not asked")
        assert second._left
        server.thaw()
        await world.disowned()
        await reserve(second, "new", 5)
        assert await world.state(SHOP) == (300, 5)
        await world.close()


async def test_a_flush_after_the_crash_leaves_nothing_to_end(world):
    await reserve(await world.client(), "a")
    await world.crash()
    await world.redis.flushall()
    world.ledger[SHOP] = 600
    world.rows["a"] = (600, 0)
    second = await world.start_again()
    await world.disowned()
    await reserve(second, "b")
    assert await world.state(SHOP) == (600, 1_000)


async def test_leases_that_were_brought_back_after_a_flush_are_ended_as_well(world):
    first = await world.client()
    for id_ in ("unsent", "stored"):
        await reserve(first, id_)
    await world.flush()
    assert await world.state(SHOP) == (0, 2_000)
    await world.crash()
    world.rows["stored"] = (400, 0)  # stored by the replay, after the window was counted
    await world.start_again()
    await world.disowned()
    assert await world.state(SHOP) == (400, 0)


async def test_a_window_that_nobody_has_counted_since_a_flush_is_ended_once_somebody_has(world):
    """Killed between bringing its leases back and counting their windows; others are not held up by that."""
    other = Budget("key:ci/total", "key:ci", "total", 10_000)
    first = await world.client()
    for n in range(70):
        await reserve(first, f"a{n}", 10)
    await reserve(first, "z", 1_000, Applies(budgets=(other,)))
    await world.flush()
    await world.crash()
    await world.redis.hdel(f"{{{world.prefix}}}:window:{SHOP}", "c", "t", "m", "by")
    world.rows |= {f"a{n}": (7, 0) for n in range(70)}
    world.ledger[SHOP] = 70 * 7
    second = await world.start_again()

    async def held(window):
        return (await world.state(window))[1]

    while await held("key:ci/total@0"):
        await second.refresh()
    assert await held(SHOP) == 700
    await reserve(second, "new", 5)  # somebody asks, and the rows are in the answer
    await world.disowned()
    assert await world.state(SHOP) == (490, 5)


# The owner's name, and the journal it belongs to.


def test_each_start_on_a_folder_is_the_next_one_of_the_same_owner(tmp_path):
    assert kept_owner(tmp_path) is None
    first = next_owner(tmp_path, 1_000.0)
    again = next_owner(tmp_path, 900.0)  # the clock was set back
    later = next_owner(tmp_path, 2_000.0)
    assert first.name == again.name == later.name
    assert first.start < again.start < later.start == 2_000_000
    assert kept_owner(tmp_path) == later
    (tmp_path / "owner").write_text("nonsense")
    assert kept_owner(tmp_path) is None
    assert next_owner(tmp_path, 3_000.0).name != first.name


def test_a_start_that_cannot_be_written_down_is_another_one_all_the_same(tmp_path):
    first = next_owner(tmp_path, 1_000.0)
    (tmp_path / "owner.new").mkdir()
    second = next_owner(tmp_path, 1_001.0)
    third = next_owner(tmp_path, 1_002.0)
    assert first.name == second.name == third.name
    assert first.start < second.start < third.start


async def test_a_folder_whose_gateway_is_gone_is_stored_and_disowned_by_another(world, tmp_path):
    """Also where no request of it came as far as the journal; and when it is back after all, its new leases stay."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db")
    store = LedgerStore(database)
    store.migrate()
    world._starts[0] = 4
    first = await world.client()
    for name in ("gone-1", "gone-2"):
        (tmp_path / name).mkdir()
    journal = Journal(tmp_path / "gone-1")
    (tmp_path / "gone-1" / "owner").write_text(f"{1:016x} 5\n")
    world.owner = lambda replica: kept_owner(tmp_path / f"gone-{replica + 1}")
    first._owner = world.owner(0)
    writer = LedgerWriter(journal, store, SystemClock())
    writer.replay()
    known = admission(1)
    await reserve(first, known.request_id, known.reserved_micro_usd)
    await reserve(first, "unsent", 1_000)
    writer.admit(known)
    journal.shut()  # as the end of a process does: the lock is free, nothing else is tidied up
    (tmp_path / "gone-2" / "lock").touch()
    (tmp_path / "gone-2" / "owner").write_text(f"{2:016x} 9\n")
    second = await world.client(1)
    second._owner = world.owner(1)
    await reserve(second, "unsent too", 2_000)
    for replica in (0, 1):
        await world.crash(replica)
        await world.redis.delete(f"{{{world.prefix}}}:alive:{world.owner(replica).name}")
    own = await world.client(2)

    def disown(folder):
        gone = kept_owner(folder)
        own.disown(gone._replace(start=gone.start + 1), store.charged)

    replay_abandoned(tmp_path, store, SystemClock(), disown)
    back = next_owner(tmp_path / "gone-1", time.time())
    assert back.name == f"{1:016x}"
    first = await world.client(0)
    first._owner = back
    await reserve(first, "new", 50)
    await world.disowned(2)
    assert await world.state(SHOP) == (known.reserved_micro_usd, 50)
    database.close()


async def test_rows_that_are_stored_late_are_waited_for(world, tmp_path):
    """The ledger is away when the gateway starts: leases wait until it has all that the journal knows."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db")
    store = LedgerStore(database)
    store.migrate()
    (tmp_path / "journal").mkdir()
    journal = Journal(tmp_path / "journal")
    writer = LedgerWriter(journal, store, SystemClock())
    writer.replay()
    known = admission(1)
    await reserve(await world.client(), known.request_id, known.reserved_micro_usd)
    writer.admit(known)
    journal.shut()
    await world.crash()
    again = LedgerWriter(Journal(tmp_path / "journal"), _Away(store), SystemClock())
    with pytest.raises(DatabaseError):
        again.replay()
    assert not again.has_stored(0)
    again._store = store
    again.start()
    await until(lambda: again.has_stored(0), "the journal is not replayed")
    assert await store.charged([known.request_id]) == {known.request_id: (known.reserved_micro_usd, 0)}
    assert again.drain(5)
    database.close()


class _Away:
    def __init__(self, store):
        self._store = store

    def insert(self, charges):
        raise DatabaseError("away")


async def test_what_an_owner_left_is_forgotten_two_days_after_it_or_its_last_lease(world):
    key = f"{{{world.prefix}}}:owner:replica-0"
    first, second = await world.client(0), await world.client(1)
    await reserve(first, "a", lease_s=0.05)
    await first.refresh()
    assert 172_000 < await world.redis.ttl(key) <= 172_800
    await world.crash(0)
    await world.redis.persist(key)  # as if the process had died before its first heartbeat
    await until_over(world, second)
    assert 172_000 < await world.redis.ttl(key) <= 172_800


async def until_over(world, accounts):
    deadline = time.monotonic() + 5
    while await world.redis.zcard(f"{{{world.prefix}}}:leases"):
        assert time.monotonic() < deadline, "the lease is never over"
        await accounts.refresh()
