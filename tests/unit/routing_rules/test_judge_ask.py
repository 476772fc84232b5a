"""What a judge is asked, what its rating costs whom, and what happens without one."""

import asyncio

import pytest

from gateway.policy.limits import MoneyRules
from gateway.pricing.book import ModelPrice, Tier
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.decide import Threshold
from gateway.routing.judge_ask import MOST_REMEMBERED, Judge
from gateway.routing.reading import read_request
from gateway.routing.scorer import open_scorer
from tests.support.judging import NEVER, Upstreams, arrived, rules
from tests.support.keys import HandClock
from tests.support.policies import caller

SCORER = open_scorer(embed=False)
PRICE = ModelPrice((Tier(2_000_000, 2_000_000),))
INSIDE = {"x-farthing-sensitive": "true"}


def judge_of(upstreams, price=PRICE, clock=None, money=None):
    rng = iter(range(10**6))
    return Judge(
        upstreams, clock or HandClock(), lambda: next(rng) % 2 / 2, lambda *_: price, lambda _: money or MoneyRules()
    )


async def settled(each, upstreams, threshold=0.5, judge=None, certificate="c", scorer=SCORER):
    """The exchange after both halves and its own call."""
    stage = Choose(lambda: scorer, lambda: None, lambda _: Threshold(threshold, certificate), StrongCaps())
    stage.judge = judge or judge_of(upstreams)
    between = []

    async def admitted(exchange):
        between.append(exchange.plan)
        return await stage.judged(exchange, upstreams)

    await stage(each, admitted)
    return each, between[0]


@pytest.mark.parametrize(("rating", "target"), [(1, "weak"), (3, "weak"), (4, "strong"), (5, "strong")])
async def test_the_rating_is_the_score(rating, target):
    upstreams = Upstreams(judge=f'{{"difficulty": {rating}}}')
    each, _ = await settled(arrived(rules()), upstreams)
    assert (each.choice.target, each.choice.why, each.choice.tier) == (target, "score", "judge")
    assert each.choice.score == (rating - 1) / 4
    assert each.choice.scorer == "j", "the model, as a certificate names it"
    assert upstreams.names == ["judge", {"weak": "small", "strong": "big"}[target]]
    assert each.plan.reasons[1:4] == (f"choice={target}", "why=score", "tier=judge")


async def test_what_it_costs_is_the_requests_own_cost():
    each, _ = await settled(arrived(rules()), Upstreams(judge='{"difficulty": 1}'))
    assert [(a.target, a.own, a.cost_micro_usd) for a in each.attempts] == [("judge", True, 10), ("small", False, 10)]
    assert each.cost_micro_usd == 20


async def test_admission_sees_a_plan_that_can_go_either_way():
    _, plan = await settled(arrived(rules()), Upstreams(judge='{"difficulty": 5}'))
    assert [target.name for target in plan.targets] == ["small", "big"]


async def test_the_judge_is_asked_once_for_the_same_text_of_a_tenant():
    upstreams = Upstreams(judge='{"difficulty": 1}')
    judge, policy = judge_of(upstreams), rules()
    first, _ = await settled(arrived(policy), upstreams, judge=judge)
    again, _ = await settled(arrived(policy), upstreams, judge=judge)
    assert again.choice == first.choice
    assert again.cost_micro_usd == 10
    other = arrived(policy)
    other.identity = caller("lab")
    await settled(other, upstreams, judge=judge)
    await settled(arrived(policy, "goodbye"), upstreams, judge=judge)
    assert upstreams.names.count("judge") == 3
    assert judge.results == {("r", "rated"): 3, ("r", "remembered"): 1}


async def test_only_so_many_texts_are_remembered():
    upstreams = Upstreams(judge='{"difficulty": 1}')
    judge, policy = judge_of(upstreams), rules()
    for n in range(MOST_REMEMBERED + 5):
        await judge.rate(arrived(policy), policy.routes[0].classify, f"text {n}")
    assert len(judge._ratings) == MOST_REMEMBERED


@pytest.mark.parametrize(
    ("answer", "result"),
    [(None, "failed"), ("very hard", "unread"), ('{"difficulty": 9}', "unread"), (NEVER, "late")],
)
@pytest.mark.parametrize("certificate", ["c", None])
async def test_without_a_rating_everything_goes_to_the_strong_target_and_says_so(answer, result, certificate):
    upstreams = Upstreams(judge=answer)
    judge = judge_of(upstreams)
    each, _ = await settled(arrived(rules()), upstreams, 9.0, judge, certificate)
    assert (each.choice.target, each.choice.why, each.choice.tier) == ("strong", "judge_unavailable", "light")
    assert each.choice.score == SCORER.score(read_request(each.call), each.identity).score
    assert each.choice.scorer == SCORER.light.version
    assert each.scored.late, "nothing is learnt from it"
    assert judge.results == {("r", result): 1}


async def test_a_late_rating_is_paid_for_and_said_to_be_late():
    each, _ = await settled(arrived(rules()), Upstreams(judge=NEVER))
    assert [(a.target, a.error, a.own) for a in each.attempts] == [
        ("judge", "upstream_timeout", True),
        ("big", None, False),
    ]
    assert each.cost_micro_usd == 20


async def test_a_judge_that_is_late_again_and_again_is_left_alone_for_a_while():
    upstreams, clock, policy = Upstreams(judge=NEVER), HandClock(), rules()
    judge = judge_of(upstreams, clock=clock)
    for n in range(30):
        await judge.rate(arrived(policy), policy.routes[0].classify, f"text {n}")
        if judge.results["r", "resting"]:
            break
    assert judge.results["r", "resting"] == 1
    assert judge.results["r", "late"] < 25
    upstreams.says["judge"] = '{"difficulty": 2}'
    clock.advance(60)
    assert await judge.rate(arrived(policy), policy.routes[0].classify, "later") == 2


async def test_a_sensitive_request_is_shown_to_no_judge_outside():
    policy = rules(strong="inside")
    upstreams = Upstreams(judge='{"difficulty": 1}')
    judge = judge_of(upstreams)
    each, _ = await settled(arrived(policy, headers=INSIDE), upstreams, judge=judge)
    assert upstreams.names == ["inside"]
    assert (each.choice.why, judge.results["r", "sensitive"]) == ("judge_unavailable", 1)


async def test_a_sensitive_request_is_shown_to_a_judge_inside_under_the_same_mark():
    upstreams = Upstreams(inside='{"difficulty": 1}')
    each, _ = await settled(arrived(rules(judge="inside", strong="inside"), headers=INSIDE), upstreams)
    assert upstreams.names == ["inside", "small"]
    assert upstreams.asked[0].plan.sensitive == "header"
    assert each.choice.why == "score"


@pytest.mark.parametrize(("room", "asked"), [(True, ["judge", "small"]), (False, ["big"])])
async def test_the_judge_is_paid_from_the_requests_budgets_or_not_asked(room, asked):
    reserved = []

    async def more(_, micro_usd):
        reserved.append(micro_usd)
        return room

    each, upstreams = arrived(rules()), Upstreams(judge='{"difficulty": 1}')
    each.more = more
    await settled(each, upstreams)
    assert upstreams.names == asked
    assert reserved[0] > 0


async def test_a_judge_of_unknown_price_is_not_asked_where_budgets_refuse_it():
    async def more(*_):
        raise AssertionError("nothing may be reserved")

    each, upstreams = arrived(rules()), Upstreams()
    each.more = more
    judge = judge_of(upstreams, price=None)
    await settled(each, upstreams, judge=judge)
    assert (upstreams.names, judge.results["r", "unfunded"]) == (["big"], 1)


async def test_nothing_is_rated_where_no_threshold_would_use_it():
    upstreams = Upstreams(judge='{"difficulty": 1}')
    each, _ = await settled(arrived(rules()), upstreams, None)
    assert (upstreams.names, each.choice.why, each.choice.score) == (["big"], "uncertified", None)


async def test_but_for_the_requests_that_are_compared():
    upstreams = Upstreams(judge='{"difficulty": 1}')
    each, _ = await settled(arrived(rules("tier: judge, compare: 100%")), upstreams, None)
    assert (upstreams.names, each.choice.why, each.choice.score) == (["judge", "big"], "uncertified", 0.0)


async def test_what_the_caller_asks_for_is_not_rated():
    for model, target in (("auto:cheap", "small"), ("auto:best", "big")):
        upstreams = Upstreams()
        await settled(arrived(rules(), model=model), upstreams)
        assert upstreams.names == [target]


async def test_a_caller_who_leaves_pays_for_the_rating_under_way():
    each, upstreams = arrived(rules()), Upstreams(judge=NEVER)
    task = asyncio.create_task(settled(each, upstreams, judge=judge_of(upstreams)))
    async with asyncio.timeout(5):
        while not upstreams.asked:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [(a.target, a.error, a.own) for a in each.attempts] == [("judge", "client_disconnect", True)]
