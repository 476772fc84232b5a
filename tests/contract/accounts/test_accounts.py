"""What every store of accounts promises, on the embedded one and on a real Redis."""

import asyncio
from datetime import datetime

import pytest

from gateway.access.accounts import Refusal, Unavailable
from gateway.access.grants import Grant
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from tests.support.account_worlds import LEASE_S

TOTAL = Budget("tenant:shop/total", "tenant:shop", "total", 50_000)
WIDE = Budget("all/month", "all", "month", 1_000_000)
SHOP = "tenant:shop/total@0"


class Caller:
    """One replica of the world with short calls."""

    def __init__(self, world, accounts):
        self.world = world
        self.accounts = accounts

    async def reserve(self, id_, applies, micro_usd=1_000, tokens=0, lease_s=LEASE_S):
        return await self.accounts.reserve(id_, applies, micro_usd, tokens, self.world.now, lease_s)

    async def extend(self, id_, micro_usd):
        return await self.accounts.extend(id_, micro_usd, self.world.now, LEASE_S)

    async def settle(self, id_, micro_usd, tokens=0):
        self.accounts.settle(id_, micro_usd, tokens, self.world.now)
        await self.world.arrive()

    async def release(self, id_):
        self.accounts.release(id_, self.world.now)
        await self.world.arrive()


@pytest.fixture
async def caller(world):
    return Caller(world, await world.client())


def only(budget):
    return Applies(budgets=(budget,))


async def test_400_concurrent_requests_against_a_budget_for_50_admit_exactly_50(world):
    """From four replicas at once, where a store has several; their ends come at once as well."""
    callers = [Caller(world, await world.client(replica)) for replica in range(4)]
    outcomes = await asyncio.gather(*[callers[n % 4].reserve(f"r{n}", only(TOTAL)) for n in range(400)])
    granted = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Grant)]
    assert len(granted) == 50
    assert await world.state(SHOP) == (0, 50_000)
    await asyncio.gather(*[callers[n % 4].settle(f"r{n}", 1_000) for n in granted])
    assert await world.state(SHOP) == (50_000, 0)
    assert isinstance(await callers[0].reserve("late", only(TOTAL), 1), Refusal)


async def test_several_budgets_are_taken_together_or_not_at_all(world, caller):
    small = Budget("key:ci/day", "key:ci", "day", 1_500)
    applies = Applies(
        budgets=(WIDE, TOTAL, small), rates=(Rate("r", "requests", 10),), concurrency=(Concurrency("c", 9),)
    )
    first = await caller.reserve("a", applies)
    assert first.windows == ("all/month@1767225600", SHOP, "key:ci/day@1767225600")
    refused = await caller.reserve("b", applies)
    assert refused.spent.window.budget is small
    assert (refused.spent.committed, refused.spent.reserved) == (0, 1_000)
    assert [await world.state(window) for window in first.windows] == [(0, 1_000)] * 3
    await caller.release("a")
    again = await caller.reserve("c", applies)
    assert again.levels[0].remaining == 8


async def test_a_refusal_says_whether_waiting_helps(caller):
    await caller.reserve("a", only(TOTAL), 50_000)
    held = await caller.reserve("b", only(TOTAL))
    assert held.retry_after_s == 1.0
    await caller.settle("a", 50_000)
    spent = await caller.reserve("c", only(TOTAL))
    assert spent.retry_after_s is None
    assert spent.spent.remaining == 0


async def test_a_second_reserve_of_the_same_id_changes_nothing(world, caller):
    first = await caller.reserve("a", only(TOTAL))
    second = await caller.reserve("a", only(TOTAL), 2_000)
    assert second.windows == first.windows
    assert await world.state(SHOP) == (0, 1_000)


async def test_many_reserves_of_the_same_id_at_once_take_one(world, caller):
    outcomes = await asyncio.gather(*[caller.reserve("a", only(TOTAL)) for _ in range(20)])
    assert {outcome.windows for outcome in outcomes} == {(SHOP,)}
    assert await world.state(SHOP) == (0, 1_000)


@pytest.mark.parametrize("charged", [0, 400, 1_000, 1_700])
async def test_settle_commits_what_was_charged_and_only_once(world, caller, charged):
    await caller.reserve("a", only(TOTAL))
    for _ in range(3):
        await caller.settle("a", charged)
        await caller.release("a")
    assert await world.state(SHOP) == (charged, 0)


async def test_release_commits_nothing_and_only_once(world, caller):
    await caller.reserve("a", only(TOTAL))
    await caller.release("a")
    await caller.release("a")
    await caller.settle("a", 900)
    assert await world.state(SHOP) == (0, 0)


async def test_ends_of_unknown_ids_change_nothing(world, caller):
    await caller.reserve("a", only(TOTAL))
    await caller.settle("nobody", 900)
    await caller.release("nobody")
    assert await world.state(SHOP) == (0, 1_000)


async def test_extend_reserves_more_under_the_same_lease(world, caller):
    await caller.reserve("a", Applies(budgets=(WIDE, TOTAL)), 10_000)
    assert await caller.extend("a", 40_000)
    assert await world.state(SHOP) == (0, 50_000)
    assert not await caller.extend("a", 1)
    assert await caller.extend("a", 0)
    assert await world.state("all/month@1767225600") == (0, 50_000)
    await caller.settle("a", 45_000)
    assert await world.state(SHOP) == (45_000, 0)


async def test_extend_without_a_lease_is_refused(world, caller):
    assert not await caller.extend("nobody", 1)
    await caller.reserve("a", only(TOTAL))
    await world.lapse()
    assert not await caller.extend("a", 1)


async def test_a_renewed_lease_is_not_over(world, caller):
    await caller.reserve("a", only(TOTAL))
    assert await caller.accounts.extend("a", 0, world.now, 10 * LEASE_S)
    await world.lapse()
    assert await world.state(SHOP) == (0, 1_000)


async def test_a_lease_that_is_over_is_committed_at_its_reservation_and_its_slot_is_free(world, caller):
    applies = Applies(budgets=(TOTAL,), concurrency=(Concurrency("c", 1),))
    await caller.reserve("a", applies)
    assert (await caller.reserve("b", applies)).concurrency == Concurrency("c", 1)
    await world.lapse()
    assert await world.state(SHOP) == (1_000, 0)
    assert isinstance(await caller.reserve("b", applies), Grant)
    other = Caller(world, await world.client(world.replicas - 1))
    with pytest.raises(Unavailable):
        await other.reserve("a", applies)


@pytest.mark.parametrize("charged", [0, 300, 1_000, 1_300])
async def test_a_settle_after_the_lease_corrects_the_amount_and_only_once(world, caller, charged):
    await caller.reserve("a", only(TOTAL))
    await world.lapse()
    await caller.settle("a", charged)
    await caller.settle("a", charged)
    assert await world.state(SHOP) == (charged, 0)


async def test_slots_admit_as_many_as_are_free(caller):
    applies = Applies(concurrency=(Concurrency("key:ci", 2),))
    assert isinstance(await caller.reserve("a", applies), Grant)
    assert isinstance(await caller.reserve("b", applies), Grant)
    refused = await caller.reserve("c", applies)
    assert refused.concurrency.id == "key:ci"
    assert refused.retry_after_s == 1.0
    await caller.settle("a", 0)
    assert isinstance(await caller.reserve("c", applies), Grant)


async def test_a_rate_of_requests_refills_with_time(world, caller):
    rate = Rate("key:ci/requests", "requests", 6)
    for n in range(6):
        granted = await caller.reserve(f"r{n}", Applies(rates=(rate,)))
        assert granted.levels[0].remaining == 5 - n
    refused = await caller.reserve("late", Applies(rates=(rate,)))
    assert refused.level.rate == rate
    assert refused.level.remaining == 0
    assert 9 < refused.retry_after_s <= 10
    await world.pass_time(refused.retry_after_s)
    assert isinstance(await caller.reserve("late", Applies(rates=(rate,))), Grant)
    assert isinstance(await caller.reserve("later", Applies(rates=(rate,))), Refusal)


async def test_a_rate_of_tokens_gets_back_what_the_estimate_took_too_much(caller):
    applies = Applies(rates=(Rate("key:ci/tokens", "tokens", 10),))
    await caller.reserve("a", applies, tokens=8)
    refused = await caller.reserve("b", applies, tokens=8)
    assert 30 < refused.retry_after_s <= 36
    await caller.settle("a", 0, tokens=2)
    assert (await caller.reserve("b", applies, tokens=8)).levels[0].remaining == 0
    await caller.settle("b", 0, tokens=20)
    in_debt = await caller.reserve("c", applies, tokens=1)
    assert in_debt.level.remaining == 0
    assert 70 < in_debt.retry_after_s <= 78


async def test_a_released_request_gives_its_tokens_back_and_never_more_than_the_bucket_holds(world, caller):
    applies = Applies(rates=(Rate("key:ci/tokens", "tokens", 10),))
    await caller.reserve("a", applies, tokens=10)
    await world.pass_time(60)
    await caller.release("a")
    assert (await caller.reserve("b", applies, tokens=10)).levels[0].remaining == 0
    assert isinstance(await caller.reserve("c", applies, tokens=1), Refusal)


async def test_a_request_above_the_whole_bucket_needs_it_full_and_leaves_it_in_debt(world, caller):
    applies = Applies(rates=(Rate("key:ci/tokens", "tokens", 10),))
    assert isinstance(await caller.reserve("a", applies, tokens=1), Grant)
    refused = await caller.reserve("big", applies, tokens=25)
    assert 0 < refused.retry_after_s <= 6
    await world.pass_time(refused.retry_after_s)
    assert isinstance(await caller.reserve("big", applies, tokens=25), Grant)
    assert 90 < (await caller.reserve("b", applies, tokens=1)).retry_after_s <= 96


async def test_a_refused_request_takes_nothing_from_rates(caller):
    applies = Applies(rates=(Rate("a", "requests", 2), Rate("b", "requests", 1)))
    assert (await caller.reserve("1", applies)).levels[0].remaining == 1
    for n in range(5):
        assert (await caller.reserve(f"x{n}", applies)).level.rate.id == "b"
    assert isinstance(await caller.reserve("2", Applies(rates=applies.rates[:1])), Grant)


async def test_money_is_named_before_rates_and_slots(caller):
    applies = Applies((Budget("b", "all", "total", 0),), (Rate("r", "requests", 1),), (Concurrency("c", 0),))
    refused = await caller.reserve("a", applies)
    assert (refused.spent.window.id, refused.level, refused.concurrency) == ("b@0", None, None)


async def test_the_ledger_is_asked_once_for_a_window_however_many_come(world, caller):
    world.ledger[SHOP] = 48_000
    outcomes = await asyncio.gather(*[caller.reserve(f"r{n}", only(TOTAL)) for n in range(50)])
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 2
    assert world.asked == [SHOP]


async def test_a_ledger_that_does_not_answer_closes_the_budget_until_it_does(world, caller, caplog):
    world.ledger_fails = True
    with pytest.raises(Unavailable) as refused:
        await caller.reserve("a", only(TOTAL))
    assert refused.value.retry_after_s == 1.0
    assert isinstance(await caller.reserve("b", Applies(concurrency=(Concurrency("c", 1),))), Grant)
    world.ledger_fails = False
    assert isinstance(await caller.reserve("a", only(TOTAL)), Grant)


async def test_a_caller_who_leaves_does_not_take_the_others_answer_away(world, caller):
    first = asyncio.create_task(caller.reserve("a", only(TOTAL)))
    second = asyncio.create_task(caller.reserve("b", only(TOTAL)))
    while not world.asked:
        await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Grant)
    with pytest.raises(asyncio.CancelledError):
        await first
    await world.arrive()
    assert await world.state(SHOP) == (0, 1_000)


async def test_a_new_period_begins_at_nothing_and_a_clock_that_steps_back_finds_the_old_one(world, caller):
    day = Budget("key:ci/day", "key:ci", "day", 1_000)
    assert isinstance(await caller.reserve("a", only(day)), Grant)
    world.now += 86_400
    tomorrow = await caller.reserve("b", only(day))
    assert tomorrow.windows == ("key:ci/day@1767312000",)
    world.now -= 3_600
    assert isinstance(await caller.reserve("c", only(day)), Refusal)
    await caller.settle("a", 1_000)
    assert isinstance(await caller.reserve("c", only(day)), Refusal)
    world.now += 3_600
    assert isinstance(await caller.reserve("d", only(day)), Refusal)


BOUNDARIES = {
    "the end of a month": ("month", "UTC", "2026-03-01T00:00Z"),
    "the end of a leap February": ("month", "UTC", "2028-03-01T00:00Z"),
    "the end of a year": ("month", "Europe/Berlin", "2026-12-31T23:00Z"),
    "a week that begins on Monday": ("week", "UTC", "2026-11-23T00:00Z"),
    "the end of a day of 23 hours": ("day", "Europe/Berlin", "2026-03-29T22:00Z"),
    "the end of a day of 25 hours": ("day", "Europe/Berlin", "2026-10-25T23:00Z"),
    "a midnight that is skipped": ("day", "America/Santiago", "2026-09-06T04:00Z"),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_period_ends_at_its_instant_and_not_before_or_twice(world, caller, boundary):
    period, zone, instant = BOUNDARIES[boundary]
    ends_s = datetime.fromisoformat(instant).timestamp()
    budget = Budget(f"tenant:shop/{period}", "tenant:shop", period, 1_000, timezone=zone)
    world.now = ends_s - 0.001
    old = await caller.reserve("a", only(budget))
    assert isinstance(await caller.reserve("b", only(budget), 1), Refusal)
    world.now = ends_s
    new = await caller.reserve("c", only(budget), 600)
    assert new.windows == (f"tenant:shop/{period}@{int(ends_s)}",) != old.windows
    await caller.settle("a", 1_000)  # its answer ends in the new period, its money belongs to the old one
    assert (await caller.reserve("d", only(budget), 400)).spent[0].reserved == 1_000
    for step_s, id_ in ((-3_600, "e"), (+7_200, "f"), (-3_600, "g")):  # the clock is set back, ahead, and right again
        world.now += step_s
        assert isinstance(await caller.reserve(id_, only(budget), 1), Refusal)


async def test_a_changed_limit_holds_at_once(caller):
    await caller.reserve("a", only(TOTAL), 50_000)
    raised = Budget(TOTAL.id, TOTAL.scope, TOTAL.period, 51_000)
    granted = await caller.reserve("b", only(raised))
    assert granted.spent[0].remaining == 0
    assert isinstance(await caller.reserve("c", only(TOTAL), 1), Refusal)


async def test_the_snapshot_shows_the_windows_that_are_open(world, caller):
    day = Budget("key:ci/day", "key:ci", "day", 9_000)
    await caller.reserve("a", Applies(budgets=(day, TOTAL)))
    shown = {spent.window.id: (spent.committed, spent.reserved) for spent in caller.accounts.snapshot(world.now)}
    assert shown == {"key:ci/day@1767225600": (0, 1_000), SHOP: (0, 1_000)}
    tomorrow = caller.accounts.snapshot(world.now + 86_400)
    assert [spent.window.id for spent in tomorrow] == [SHOP]


async def test_a_crash_loses_no_money(world, caller):
    """What was settled is in the ledger; what was open is closed there at its reservation."""
    await caller.reserve("a", only(TOTAL))
    await caller.reserve("b", only(TOTAL), 2_000)
    await caller.settle("a", 700)
    world.ledger[SHOP] = 2_700
    await world.crash()
    after = Caller(world, await world.client())
    assert isinstance(await after.reserve("c", only(TOTAL), 47_301), Refusal)
    assert isinstance(await after.reserve("c", only(TOTAL), 47_300), Grant)
    await world.lapse()
    assert await world.state(SHOP) == (50_000, 0)
