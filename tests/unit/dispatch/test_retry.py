"""What follows a failed attempt: every table and every short history."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Plan, Retries, Target
from gateway.dispatch import verdict as v
from gateway.dispatch.breaker import Breaker
from gateway.dispatch.retry import AttemptOutcome, Failover, GiveUp, RetryBudget, Try, Wait, backoff_s
from gateway.dispatch.verdict import Action, classify, report

EXAMPLES = {
    "400": classify(400),
    "401": classify(401),
    "404": classify(404),
    "429": classify(429),
    "500": classify(500),
    "501": classify(501),
    "connect": classify(None, "connect"),
    "first_token": classify(None, "timeout_first_token"),
    "total": classify(None, "timeout_total"),
}


def target(name: str, attempts: int = 2, ratio: float = 0.2) -> Target:
    return Target(name, "openai_compatible", retries=Retries(attempts, ratio))


def plan(*attempts: int) -> Plan:
    return Plan("r", tuple(target(f"t{i}", n) for i, n in enumerate(attempts)))


def always(_: Target) -> float:
    return 0.0


def failover(p: Plan, ready_in=always, budget: RetryBudget | None = None, random: float = 0.5) -> Failover:
    return Failover(p, budget or RetryBudget(), ready_in, lambda: random)


def after(f: Failover, name: str, *, retry_after_s=None, siblings=False, remaining_s=600.0):
    return f.after(AttemptOutcome(EXAMPLES[name], retry_after_s, siblings), 0.0, remaining_s)


def test_the_first_target_is_tried_first():
    assert failover(plan(2, 2)).first(0.0) == Try(0)


def test_targets_that_are_not_ready_are_passed_by_for_free():
    budget = RetryBudget(floor_per_s=0)
    waits = {"t0": 4.0, "t1": 1.0, "t2": 0.0}
    f = failover(plan(2, 2, 2), lambda t: waits[t.name], budget)
    assert f.first(0.0) == Try(2)


def test_no_ready_target_at_all_gives_up_without_an_attempt():
    assert failover(plan(2, 2), lambda _: 1.0).first(0.0) == GiveUp(None, "unavailable")


@pytest.mark.parametrize("name", ["400", "total"])
def test_a_final_outcome_is_relayed_at_once(name):
    f = failover(plan(2, 2))
    f.first(0.0)
    assert after(f, name) == GiveUp(0, "final")


@pytest.mark.parametrize("name", ["429", "500", "connect"])
def test_a_passing_fault_is_retried_on_the_same_target_after_a_pause_then_elsewhere(name):
    f = failover(plan(2, 2))
    f.first(0.0)
    assert after(f, name) == Wait(0.125, 0)
    assert after(f, name) == Try(1)
    assert after(f, name) == Wait(0.125, 1)
    assert after(f, name) == GiveUp(3, "exhausted")


@pytest.mark.parametrize("name", ["401", "404", "501", "first_token"])
def test_what_a_pause_would_not_mend_goes_elsewhere_at_once(name):
    f = failover(plan(2, 2))
    f.first(0.0)
    assert after(f, name) == Try(1)
    assert after(f, name) == GiveUp(1, "exhausted")


@pytest.mark.parametrize(("name", "step"), [("first_token", Try(0)), ("429", Try(0)), ("401", Try(1)), ("404", Try(1))])
def test_another_replica_of_the_target_is_asked_at_once_when_one_replica_may_be_at_fault(name, step):
    f = failover(plan(2, 2))
    f.first(0.0)
    assert after(f, name, siblings=True, retry_after_s=60.0) == step


@pytest.mark.parametrize(
    ("targets", "retry_after_s", "remaining_s", "step"),
    [
        (2, 3.0, 600.0, Wait(3.135, 0)),
        (2, 5.0, 600.0, Wait(5.135, 0)),
        (2, 5.1, 600.0, Try(1)),
        (2, 3.0, 3.0, Try(1)),
        (1, 5.1, 600.0, Wait(5.235, 0)),
        (1, 10.0, 600.0, Wait(10.135, 0)),
        (1, 10.1, 600.0, GiveUp(0, "exhausted")),
        (1, 3.0, 3.0, GiveUp(0, "exhausted")),
        (1, 0.0, 600.0, Wait(0.135, 0)),
    ],
)
def test_retry_after_is_waited_out_only_if_it_is_short(targets, retry_after_s, remaining_s, step):
    f = failover(plan(*[2] * targets))
    f.first(0.0)
    got = after(f, "429", retry_after_s=retry_after_s, remaining_s=remaining_s)
    if isinstance(step, Wait):
        assert isinstance(got, Wait)
        assert (got.seconds, got.target) == (pytest.approx(step.seconds), step.target)
    else:
        assert got == step


def test_a_target_that_cools_for_what_it_asked_is_ready_when_the_wait_is_over():
    now, breaker = 0.1, Breaker(lambda: 0.0)
    f = Failover(plan(2), RetryBudget(), lambda _: breaker.ready_in(now), lambda: 0.0)
    f.first(now)
    report(breaker, breaker.try_acquire(now), EXAMPLES["429"], now, 2.3)
    step = f.after(AttemptOutcome(EXAMPLES["429"], 2.3), now, 600.0)
    assert isinstance(step, Wait)
    assert breaker.try_acquire(now + step.seconds)


def test_a_target_whose_breaker_just_opened_is_not_waited_for():
    waits = {"t0": 0.0, "t1": 0.0}
    f = failover(plan(2, 2), lambda t: waits[t.name])
    f.first(0.0)
    waits["t0"] = 5.0
    assert after(f, "500") == Try(1)


def test_a_target_that_closed_during_the_wait_is_skipped():
    f = failover(plan(2, 2))
    f.first(0.0)
    assert isinstance(after(f, "500"), Wait)
    assert f.skip() == Try(1)
    assert f.skip() == GiveUp(0, "exhausted")


def test_nothing_follows_when_the_deadline_is_over():
    f = failover(plan(2, 2))
    f.first(0.0)
    assert after(f, "500", remaining_s=0.0) == GiveUp(0, "deadline")


def test_an_empty_budget_ends_retries_and_failovers_alike():
    for name in ("500", "401"):
        f = failover(plan(2, 2), budget=RetryBudget(floor_per_s=0))
        f.first(0.0)
        assert after(f, name) == GiveUp(0, "budget")


def test_the_budget_is_the_failed_targets_own():
    budget = RetryBudget(floor_per_s=0)
    for _ in range(9):
        budget.deposit(0.0)
    p = Plan("r", (target("generous", 1, 1.0), target("mean", 2, 0.0)))
    f = failover(p, budget=budget)
    f.first(0.0)
    assert after(f, "500") == Try(1)
    assert after(f, "500") == GiveUp(1, "budget")


@pytest.mark.parametrize(
    ("outcomes", "relayed"),
    [
        (("429", "500"), 0),
        (("500", "429"), 1),
        (("connect", "404"), 0),
        (("404", "404"), 1),
        (("404", "401"), 1),
        (("500", "connect"), 0),
        (("401", "500"), 1),
        (("401", "first_token"), 1),
        (("401", "400"), 1),
        (("500", "500"), 1),
    ],
)
def test_the_outcome_that_tells_the_caller_most_is_relayed(outcomes, relayed):
    f = failover(plan(1, 1))
    f.first(0.0)
    assert after(f, outcomes[0]) == Try(1)
    step = after(f, outcomes[1])
    assert isinstance(step, GiveUp)
    assert step.relay == relayed


def histories(depth: int):
    return itertools.product(EXAMPLES, (False, True), repeat=depth)


@pytest.mark.parametrize("attempts", [(1,), (2,), (1, 1), (2, 1), (1, 2), (1, 1, 1)])
def test_every_history_ends_in_time_and_in_order(attempts):
    """All outcomes, with and without siblings, at every step: tries stay within the plan and never go back."""
    p = plan(*attempts)
    depth = sum(attempts)
    for history in histories(depth):
        f = failover(p)
        step = f.first(0.0)
        tries, last, seen = [0] * len(attempts), 0, []
        for name, siblings in zip(history[::2], history[1::2], strict=True):
            if isinstance(step, GiveUp):
                break
            assert step.target >= last
            last = step.target
            tries[last] += 1
            seen.append(EXAMPLES[name])
            step = after(f, name, siblings=siblings)
            if seen[-1].action is Action.FINAL:
                assert step == GiveUp(len(seen) - 1, "final")
        assert isinstance(step, GiveUp)
        assert all(n <= most for n, most in zip(tries, attempts, strict=True))
        if step.reason != "final":
            assert seen[step.relay].rank == max(x.rank for x in seen)


def test_steps_for_plans_longer_than_the_prepared_ones():
    f = failover(plan(*[1] * 20), lambda t: float(t.name != "t18"))
    assert f.first(0.0) == Try(18)


def test_backoff_is_fully_jittered_and_capped():
    assert [backoff_s(n, 0.999999, None) for n in (1, 2, 3, 6, 99)] == pytest.approx([0.25, 0.5, 1, 8, 8], rel=1e-5)
    assert backoff_s(5, 0.0, None) == 0.0


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e6))
def test_backoff_is_never_sooner_than_asked(retry, random, hint):
    wait = backoff_s(retry, random, hint)
    assert wait > hint if hint is not None else 0.0 <= wait <= 8.0


def test_a_pause_of_nothing_is_a_try():
    f = failover(plan(2), random=0.0)
    f.first(0.0)
    assert after(f, "500") == Try(0)


def test_without_traffic_the_floor_allows_a_burst_and_then_its_rate():
    budget = RetryBudget(floor_per_s=2.0, ttl_s=10.0)
    assert [budget.withdraw(100.0, 0.2) for _ in range(21)] == [True] * 20 + [False]
    assert not budget.withdraw(109.9, 0.2)
    assert budget.withdraw(110.0, 0.2)


def test_deposits_expire():
    budget = RetryBudget(floor_per_s=0.0, ttl_s=10.0)
    for _ in range(10):
        budget.deposit(100.0)
    assert budget.withdraw(109.0, 0.2)
    assert not budget.withdraw(110.0, 0.2)


@given(
    st.lists(st.tuples(st.sampled_from((0.0, 0.0, 0.01, 0.3, 2.0, 15.0)), st.booleans()), max_size=200),
    st.sampled_from((0.0, 0.1, 0.2, 1.0)),
    st.sampled_from((0.0, 0.5, 1.0)),
)
def test_retries_never_exceed_the_ratio_plus_the_floor_in_any_window(events, ratio, floor):
    """In any run of seconds: the calls of it and of one ttl before, times ratio, plus the floor per ttl begun."""
    budget = RetryBudget(floor_per_s=floor, ttl_s=10.0)
    now, calls, retries = 1000.0, [], []
    for step, is_call in events:
        now += step
        if is_call:
            budget.deposit(now)
            calls.append(int(now))
        elif budget.withdraw(now, ratio):
            retries.append(int(now))
    for first, last in itertools.combinations_with_replacement(sorted(set(retries)), 2):
        made = sum(first <= second <= last for second in retries)
        asked = sum(first - 10 < second <= last for second in calls)
        assert made <= ratio * asked + floor * 10.0 * -(-(last - first + 1) // 10) + 1e-9


def test_a_verdict_outside_the_examples_is_not_forgotten():
    """Every verdict of the module is exercised above, so that a new one must be added here."""
    kinds = {x for x in vars(v).values() if isinstance(x, v.Verdict)} | set(v._BY_KIND.values())
    covered = set(EXAMPLES.values()) | {classify(s) for s in (302, 402, 403)} | {classify(None, "broken")}
    assert kinds == covered
