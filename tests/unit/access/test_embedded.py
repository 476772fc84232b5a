"""What the store of one process answers without waiting, and what it forgets."""

import pytest

from gateway.access.accounts import Refusal, Unavailable
from gateway.access.embedded import FORGET_BUCKET_S, EmbeddedAccounts
from gateway.access.grants import Grant
from gateway.core.limits import Applies, Budget, Concurrency, Rate

NOW = 1_800_000_000.0
BUDGET = Budget("all/total", "all", "total", 100)


@pytest.fixture
def accounts():
    async def nothing(windows):
        return [0] * len(windows)

    return EmbeddedAccounts(nothing)


def at_once(accounts, id_, applies, micro_usd=10, tokens=0, now=NOW):
    return accounts.reserve_at_once(id_, applies, micro_usd, tokens, now, 60.0)


async def test_a_window_that_the_ledger_has_not_told_of_is_not_answered_at_once_and_nothing_is_taken(accounts):
    applies = Applies((BUDGET,), (Rate("r", "requests", 1),), (Concurrency("c", 1),))
    assert at_once(accounts, "a", applies) is None
    assert isinstance(await accounts.reserve("b", applies, 10, 0, NOW, 60.0), Grant)
    assert [(spent.committed, spent.reserved) for spent in accounts.snapshot(NOW)] == [(0, 10)]


async def test_what_is_known_is_answered_at_once_and_as_a_reserve_would(accounts):
    applies = Applies((BUDGET,))
    granted = await accounts.reserve("a", applies, 60, 0, NOW, 60.0)
    assert at_once(accounts, "a", applies, 60) is granted
    refused = at_once(accounts, "b", applies, 41)
    assert isinstance(refused, Refusal)
    assert refused.spent.reserved == 60
    assert isinstance(at_once(accounts, "c", applies, 40), Grant)
    accounts.settle("a", 0, 0, NOW)
    assert isinstance(at_once(accounts, "d", applies, 60), Grant)


async def test_a_lease_that_is_over_is_not_given_again(accounts):
    applies = Applies((BUDGET,))
    await accounts.reserve("a", applies, 10, 0, NOW, 60.0)
    with pytest.raises(Unavailable):
        at_once(accounts, "a", applies, now=NOW + 60)
    assert [(spent.committed, spent.reserved) for spent in accounts.snapshot(NOW)] == [(10, 0)]


async def test_a_lease_ends_at_its_time_whatever_was_reserved_before_it(accounts):
    applies = Applies((BUDGET,))
    for id_, lease_s in (("long", 600.0), ("short", 1.0), ("middle", 60.0)):
        await accounts.reserve(id_, applies, 10, 0, NOW, lease_s)
    for now, state in ((0.9, (0, 30)), (1.0, (10, 20)), (59.0, (10, 20)), (60.0, (20, 10)), (600.0, (30, 0))):
        accounts.sweep(NOW + now)
        assert [(spent.committed, spent.reserved) for spent in accounts.snapshot(NOW)] == [state]


async def test_a_bucket_is_kept_while_it_is_used_and_forgotten_long_after(accounts):
    for number in range(100):
        await accounts.reserve(f"a{number}", Applies(rates=(Rate(f"r{number}", "requests", 600),)), 0, 0, NOW, 60.0)
    assert len(accounts._buckets) == 100
    later = NOW + FORGET_BUCKET_S + 1
    for number in range(100):
        await accounts.reserve(f"b{number}", Applies(rates=(Rate(f"s{number}", "requests", 600),)), 0, 0, later, 60.0)
    assert len(accounts._buckets) == 100
    assert all(id_.startswith("s") for id_ in accounts._buckets)


async def test_who_holds_a_forgotten_bucket_counts_in_the_new_one(accounts):
    one, other = (Applies(rates=(Rate("r", "requests", 2),)) for _ in range(2))
    await accounts.reserve("a", one, 0, 0, NOW, 60.0)
    later = NOW + FORGET_BUCKET_S + 1
    await accounts.reserve("b", Applies(rates=(Rate("s", "requests", 2),)), 0, 0, later, 60.0)
    assert "r" not in accounts._buckets
    assert (await accounts.reserve("c", other, 0, 0, later, 60.0)).levels[0].remaining == 1
    assert at_once(accounts, "d", one, 0, now=later).levels[0].remaining == 0
    assert isinstance(at_once(accounts, "e", other, 0, now=later), Refusal)


async def test_slots_of_scopes_that_nobody_uses_any_more_are_forgotten(accounts, monkeypatch):
    monkeypatch.setattr("gateway.access.embedded._MOST_BOUND", 10)
    for number in range(35):
        await accounts.reserve(f"a{number}", Applies(concurrency=(Concurrency(f"c{number}", 1),)), 0, 0, NOW, 60.0)
        if number != 3:
            accounts.settle(f"a{number}", 0, 0, NOW)
    assert len(accounts._slots) <= 12
    assert isinstance(
        await accounts.reserve("late", Applies(concurrency=(Concurrency("c3", 1),)), 0, 0, NOW, 60.0), Refusal
    )
