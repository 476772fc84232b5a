"""How busy replayed traffic keeps pools, and how full it makes budgets."""

import pytest

from gateway.core.exchange import Pool, Usage
from gateway.simulate.capacity import PoolLoads
from gateway.simulate.conditions import judge, parse
from tests.support.simulations import BEGIN_S, compared, seen

HOUR_S = 3600
NOON_S = BEGIN_S - BEGIN_S % 86_400 + 12 * HOUR_S
POOL = Pool("p", ("http://a", "http://b"), gpu_hour_usd="2", input_tokens_per_s=1000, output_tokens_per_s=100)
POOLS = """
pools: {p: {replicas: ["http://a:1", "http://b:1"], gpu_hour_usd: $2, input_tokens_per_s: 1000, output_tokens_per_s: 100}}
"""
CHAT = "routes: [{name: chat, match: {models: [auto]}, target: mine}]\n"
MINE = "  mine: {pool: p, model: m}\n"


def test_work_is_a_share_of_what_all_replicas_do_in_the_hour():
    loads = PoolLoads()
    for at_s in (NOON_S, NOON_S + 10, NOON_S + 2 * HOUR_S):
        loads.add(POOL, Usage(360_000, output=0), at_s)  # 360 s of the 7,200 s that two replicas have in an hour
    (use,) = loads.use({"p": POOL}, NOON_S, NOON_S + 2 * HOUR_S)
    assert (use.requests, use.replicas, use.busiest_s) == (3, 2, int(NOON_S))
    assert use.busiest == pytest.approx(0.1)
    assert use.mean == pytest.approx(0.05)


def test_what_the_prompt_cache_holds_is_no_work():
    loads = PoolLoads()
    loads.add(POOL, Usage(0, cache_read=500_000, output=72_000), NOON_S)
    (use,) = loads.use({"p": POOL}, NOON_S, NOON_S)
    assert use.busiest == pytest.approx(0.1)


def test_a_pool_that_nothing_goes_to_is_idle_and_one_without_rates_is_unknown():
    bare = Pool("bare", ("http://a",))
    loads = PoolLoads()
    loads.add(bare, Usage(10), NOON_S)
    idle, unknown = loads.use({"p": POOL, "bare": bare}, NOON_S, NOON_S)
    assert (idle.mean, idle.busiest, idle.requests) == (0.0, 0.0, 0)
    assert (unknown.mean, unknown.busiest, unknown.requests) == (None, None, 1)


def test_unknown_tokens_leave_the_use_unknown_and_are_counted():
    loads = PoolLoads()
    loads.add(POOL, None, NOON_S)
    (use,) = loads.use({"p": POOL}, NOON_S, NOON_S)
    assert (use.unknown, use.busiest) == (1, None)


def test_a_replay_measures_the_fullest_pool():
    traffic = [seen(time=NOON_S, usage={"uncached_input": 720_000, "output": 0}) for _ in range(9)]
    tally = compared(traffic, MINE + POOLS + CHAT, None)
    assert tally.pools[0].busiest == pytest.approx(0.9)
    (condition,) = parse("pool>80%")
    assert judge(condition, tally.measured()["pool"]).status == "fires"
    (condition,) = parse("pool>95%")
    assert judge(condition, tally.measured()["pool"]).status == "holds"


def test_a_pool_without_rates_fails_what_is_asked_of_it():
    rateless = POOLS.replace(", input_tokens_per_s: 1000, output_tokens_per_s: 100", "")
    tally = compared([seen()], MINE + rateless + CHAT, None)
    assert tally.measured()["pool"] is None
    idle = compared([seen()], MINE + rateless + CHAT.replace("target: mine", "target: fast"), None)
    assert idle.measured()["pool"].value == 0


def test_budgets_tell_their_fullest_window_and_the_soft_limits_that_it_passed():
    text = CHAT.replace("target: mine", "target: fast") + (
        'budgets: [{scope: "tenant:shop", limit: $0.0004/day, soft: [25%, 50%, 90%]}, {scope: all, limit: $1/month}]\n'
    )
    days = [0, 0, 0, 0, 1]
    tally = compared([seen(tenant="shop", time=NOON_S + day * 86_400) for day in days], text, None)
    shop, everybody = tally.budgets
    assert (shop.budget.id, shop.fullest, shop.windows, shop.refused) == ("tenant:shop/day", 360, 2, 1)
    assert shop.passed == ((0.25, 2), (0.5, 1), (0.9, 1))
    assert (everybody.budget.id, everybody.fullest, everybody.refused) == ("all/month", 480, 0)


def test_a_budget_that_refuses_everything_is_told_as_well():
    text = CHAT.replace("target: mine", "target: fast") + "budgets: [{scope: all, limit: $0.000001/day}]\n"
    (use,) = compared([seen()], text, None).budgets
    assert (use.fullest, use.windows, use.refused) == (0, 0, 1)
