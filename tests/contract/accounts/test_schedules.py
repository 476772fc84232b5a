"""Random schedules of everything that can happen to leases, against a model that is a few dictionaries.

After each step every window holds exactly what the model says, so `committed + reserved <= limit` except where a
settle above its reservation made it pass the limit, and then by exactly that; and nothing is refused that has room.
"""

import itertools
import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.access.grants import Grant
from gateway.core.limits import Applies, Budget, Concurrency
from tests.support.account_worlds import LEASE_S, EmbeddedWorld, RedisWorld, until
from tests.support.loop_thread import LoopThread

BUDGETS = (
    Budget("tenant:shop/month", "tenant:shop", "month", 5_000),
    Budget("key:ci/day", "key:ci", "day", 3_000),
    Budget("all/total", "all", "total", 8_000),
)
WINDOWS = ("tenant:shop/month@1767225600", "key:ci/day@1767225600", "all/total@0")
SLOT = Concurrency("key:ci", 4)
APPLIES = (
    Applies(BUDGETS[:1]),
    Applies(BUDGETS[1:], concurrency=(SLOT,)),
    Applies(BUDGETS, concurrency=(SLOT,)),
)
CLOCKS_APART_S = 0.02
AMOUNTS = st.integers(0, 2_500)
PICKS = st.integers(0, 10_000)

_serial = itertools.count()


class Row:
    """What the model knows of a request. `open` holds its reservation; `over` was committed at it, and may be settled
    yet; `dead` is as `over` or `open`, but its process has crashed: the ledger closed it at its reservation."""

    def __init__(self, replica, applies, amount):
        self.replica = replica
        self.windows = [WINDOWS[BUDGETS.index(budget)] for budget in applies.budgets]
        self.limits = {window: BUDGETS[WINDOWS.index(window)].limit_micro_usd for window in self.windows}
        self.slot = bool(applies.concurrency)
        self.amount = amount
        self.state = "open"
        self.holds_slot = self.slot


class Schedules(RuleBasedStateMachine):
    """The rules for both stores; a subclass makes the world and has the event loop."""

    runner: LoopThread

    def make_world(self):
        raise NotImplementedError

    def __init__(self):
        super().__init__()
        self.rows = {}
        self.over_limit = dict.fromkeys(WINDOWS, 0)
        self.ids = itertools.count()

    @initialize()
    def begin(self):
        self.world = self.runner.run(self.made())

    async def made(self):
        return self.make_world()

    def teardown(self):
        if hasattr(self, "world"):
            self.runner.run(self.end())

    async def end(self):
        try:
            await self.world.lapse()
            truth = [(self.total(window), 0) for window in WINDOWS]
            assert await self.states() == truth, "the end is not the truth"
        finally:
            await self.world.close()

    # The model.

    def total(self, window):
        return sum(row.amount for row in self.rows.values() if window in row.windows)

    def write_ledger(self):
        for window in WINDOWS:
            closed = [row for row in self.rows.values() if row.state in ("ended", "dead") and window in row.windows]
            self.world.ledger[window] = sum(row.amount for row in closed)

    def pick(self, number, *states):
        """A request in one of `states`; its owner is alive unless it is dead."""
        found = [id_ for id_, row in self.rows.items() if row.state in states]
        return found[number % len(found)] if found else None

    def charge(self, row, amount):
        for window in row.windows:
            if amount > row.amount and self.total(window) + amount - row.amount > row.limits[window]:
                # The only way past a limit: what the answer cost was more than what was reserved for it.
                self.over_limit[window] = self.total(window) + amount - row.amount
        row.amount = amount
        row.state = "ended"
        row.holds_slot = False

    # What happens.

    @rule(replica=st.integers(0, 1), which=st.integers(0, 2), micro_usd=AMOUNTS)
    def reserve(self, replica, which, micro_usd):
        self.runner.run(self.reserved(replica % self.world.replicas, APPLIES[which], micro_usd))

    async def reserved(self, replica, applies, micro_usd):
        id_ = f"r{next(self.ids)}"
        row = Row(replica, applies, micro_usd)
        full = [window for window in row.windows if self.total(window) + micro_usd > row.limits[window]]
        slots = sum(other.holds_slot for other in self.rows.values())
        client = await self.world.client(replica)
        outcome = await client.reserve(id_, applies, micro_usd, 0, self.world.now, LEASE_S)
        if isinstance(outcome, Grant):
            assert not full, "granted without room"
            assert not row.slot or slots < SLOT.most, "granted without a slot"
            assert list(outcome.windows) == row.windows
            used = {window: self.total(window) + micro_usd for window in row.windows}
            told = {spent.window.id: spent.committed + spent.reserved for spent in outcome.spent}
            assert told.items() <= used.items()
            assert {window for window in used if used[window] >= 0.8 * row.limits[window]} <= told.keys()
            self.rows[id_] = row
        elif outcome.spent is not None:
            assert outcome.spent.window.id == full[0], "refused although there is room"
        else:
            assert outcome.concurrency == SLOT
            assert slots >= SLOT.most, "refused although there is a slot"
            assert not full

    @rule(number=PICKS, micro_usd=AMOUNTS)
    def reserve_again(self, number, micro_usd):
        self.runner.run(self.reserved_again(self.pick(number, "open"), micro_usd))

    async def reserved_again(self, id_, micro_usd):
        if id_ is not None:
            row = self.rows[id_]
            client = await self.world.client(row.replica)
            outcome = await client.reserve(id_, APPLIES[0], micro_usd, 0, self.world.now, LEASE_S)
            assert list(outcome.windows) == row.windows

    @rule(number=PICKS, micro_usd=AMOUNTS)
    def extend(self, number, micro_usd):
        self.runner.run(self.extended(self.pick(number, "open"), micro_usd))

    async def extended(self, id_, micro_usd):
        if id_ is not None:
            row = self.rows[id_]
            room = all(self.total(window) + micro_usd <= row.limits[window] for window in row.windows)
            client = await self.world.client(row.replica)
            assert await client.extend(id_, micro_usd, self.world.now, LEASE_S) == (room or micro_usd == 0)
            row.amount += micro_usd if room else 0

    @rule(number=PICKS, charged=AMOUNTS, times=st.integers(1, 2))
    def settle(self, number, charged, times):
        self.runner.run(self.settled(self.pick(number, "open", "over"), charged, times))

    async def settled(self, id_, charged, times):
        if id_ is not None:
            client = await self.world.client(self.rows[id_].replica)
            self.charge(self.rows[id_], charged)
            self.write_ledger()
            for _ in range(times):
                client.settle(id_, charged, 0, self.world.now)
            await self.world.arrive()

    @rule(number=PICKS)
    def release(self, number):
        self.runner.run(self.settled_at_nothing(self.pick(number, "open", "over")))

    async def settled_at_nothing(self, id_):
        if id_ is not None:
            client = await self.world.client(self.rows[id_].replica)
            self.charge(self.rows[id_], 0)
            self.write_ledger()
            client.release(id_, self.world.now)
            await self.world.arrive()

    @rule(number=PICKS, replica=st.integers(0, 1), charged=AMOUNTS)
    def end_again(self, number, replica, charged):
        """By any replica: nothing happens."""
        self.runner.run(self.ended_again(self.pick(number, "ended"), replica % self.world.replicas, charged))

    async def ended_again(self, id_, replica, charged):
        if id_ is not None:
            client = await self.world.client(replica)
            client.settle(id_, charged, 0, self.world.now)
            client.release(id_, self.world.now)
            await self.world.arrive()

    @rule()
    def lapse(self):
        """Every lease is over."""
        self.runner.run(self.world.lapse())
        for row in self.rows.values():
            row.holds_slot = False
            if row.state == "open":
                row.state = "over"

    @rule(replica=st.integers(0, 1))
    def crash(self, replica):
        """A client object is thrown away; the ledger closes what it had open at its reservation."""
        replica %= self.world.replicas
        for row in self.rows.values():
            if row.replica == replica and row.state in ("open", "over"):
                row.state = "dead"
                row.holds_slot = row.holds_slot and self.leases_outlive_processes
        self.write_ledger()
        self.runner.run(self.world.crash(replica))

    leases_outlive_processes = False

    @invariant()
    def the_store_says_what_the_model_says(self):
        if hasattr(self, "world"):
            states = self.runner.run(self.states())
            for window, budget, (committed, reserved) in zip(WINDOWS, BUDGETS, states, strict=True):
                assert committed + reserved == self.total(window)
                assert committed + reserved <= max(budget.limit_micro_usd, self.over_limit[window])

    async def states(self):
        return [await self.world.state(window) for window in WINDOWS]


class EmbeddedSchedules(Schedules):
    """One process; a crash begins anew from the ledger."""

    def make_world(self):
        return EmbeddedWorld()


class RedisSchedules(Schedules):
    """Two replicas on a real server, which may be flushed."""

    url = ""
    leases_outlive_processes = True

    def make_world(self):
        return RedisWorld(self.url, f"schedule{next(_serial)}")

    @rule(replica=st.integers(0, 1), unsent=st.integers(0, 255), charged=AMOUNTS)
    def start_again(self, replica, unsent, charged):
        """A replica dies and is back: some requests had a row, some died before the journal knew them."""
        self.runner.run(self.started_again(replica, unsent, charged))

    async def started_again(self, replica, unsent, charged):
        await self.world.crash(replica)
        left = [(id_, row) for id_, row in self.rows.items() if row.replica == replica and row.state != "ended"]
        for number, (id_, row) in enumerate(left):
            if row.state != "dead":  # of an earlier crash: its row is in the ledger
                self.charge(row, 0 if unsent >> number % 8 & 1 else min(charged, row.amount))
            row.state, row.holds_slot = "ended", False
            if row.amount:
                self.world.rows[id_] = (row.amount, 0)
        self.write_ledger()
        await self.world.start_again(replica)
        await self.world.disowned(replica)

    @rule(number=PICKS, charged=AMOUNTS)
    def flush(self, number, charged):
        """Redis forgets everything; perhaps a request ends before anybody notices."""
        self.runner.run(self.flushed(self.pick(number, "open", "over") if number % 2 else None, charged))

    async def flushed(self, id_, charged):
        clients = [await self.world.client(replica) for replica in range(2)]
        await self.world.redis.flushall()
        if id_ is not None:
            row = self.rows[id_]
            self.charge(row, charged)
            self.write_ledger()
            clients[row.replica].settle(id_, charged, 0, self.world.now)
            # Another replica counts what ended as long ago as their clocks may be apart, and nothing that is younger.
            ended_s = time.monotonic()
            await until(lambda: time.monotonic() > ended_s + CLOCKS_APART_S, "time stands still")
        for client in clients:
            await client.refresh()
        await self.world.arrive()
        for row in self.rows.values():
            if row.state == "over":
                # Still open for its owner, who brings it back as what it was.
                row.state, row.holds_slot = "open", row.slot
            elif row.state == "dead":
                row.holds_slot = False


def schedules(few):
    """`few` schedules, or as many as the profile of the command line asks for."""
    asked = settings().max_examples
    return settings(max_examples=asked if asked > 100 else few, stateful_step_count=30, deadline=None)


def test_embedded_schedules():
    with LoopThread() as loop:

        class OnThisLoop(EmbeddedSchedules):
            runner = loop

        run_state_machine_as_test(OnThisLoop, settings=schedules(60))


def test_redis_schedules(redis_server):
    with LoopThread() as loop:

        class OnThisServer(RedisSchedules):
            runner = loop
            url = redis_server.url

        run_state_machine_as_test(OnThisServer, settings=schedules(20))
