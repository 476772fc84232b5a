"""Which replica is next, and when health stops being believed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call, Pool
from gateway.dispatch.breaker import Breaker
from gateway.pool.balance import PoolState, Replica, RoundRobin

CALL = Call("chat", "openai", "POST", "/v1/chat/completions", b"", [], b"{}")


def pool(n: int) -> PoolState:
    urls = tuple(f"http://replica-{i}" for i in range(n))
    replicas = tuple(Replica(url, Breaker(lambda: 0.0)) for url in urls)
    return PoolState(Pool("p", urls), replicas, RoundRobin())


def shut(replica: Replica, now: float = 0.0) -> None:
    replica.breaker.on_failure(now, replica.breaker.try_acquire(now), "auth")


def eject(replica: Replica) -> None:
    replica.observe("refused")
    replica.observe("refused")


def chosen(state: PoolState, calls: int, now: float = 0.0) -> list[int]:
    return [state.replicas.index(state.choose(CALL, now)) for _ in range(calls)]


def test_round_robin_takes_turns_in_the_pools_order():
    assert chosen(pool(3), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_an_ejected_replica_is_passed_over_and_gets_one_call_on_its_return_not_a_burst():
    state = pool(3)
    eject(state.replicas[1])
    assert chosen(state, 4) == [0, 2, 0, 2]
    state.replicas[1].observe(None)
    assert chosen(state, 6) == [1, 0, 2, 1, 0, 2]


@given(st.integers(1, 8), st.integers(1, 100))
def test_loads_differ_by_at_most_one(replicas, calls):
    counts = Counter(chosen(pool(replicas), calls))
    assert max(counts.values()) - min(counts[i] for i in range(replicas)) <= 1


def test_two_failed_probes_eject_and_one_good_one_readmits():
    replica = pool(1).replicas[0]
    assert replica.healthy, "unknown is healthy"
    replica.observe("timeout")
    assert replica.healthy
    replica.observe("timeout")
    assert not replica.healthy
    assert replica.health_error == "timeout"
    replica.observe(None)
    assert (replica.healthy, replica.health_error) == (True, None)


def test_only_failures_in_a_row_eject():
    replica = pool(1).replicas[0]
    for error in ("timeout", None, "timeout", None, "timeout"):
        replica.observe(error)
    assert replica.healthy


@pytest.mark.parametrize(
    ("size", "dead", "panic"), [(4, 2, False), (4, 3, True), (1, 1, True), (3, 1, False), (2, 1, False)]
)
def test_health_is_ignored_when_less_than_half_are_healthy(size, dead, panic):
    state = pool(size)
    for replica in state.replicas[:dead]:
        eject(replica)
    assert state.panic is panic
    assert set(chosen(state, size)) == set(range(0 if panic else dead, size))


def test_breakers_are_obeyed_in_panic_too():
    state = pool(3)
    for replica in state.replicas:
        eject(replica)
    shut(state.replicas[0])
    assert chosen(state, 4) == [1, 2, 1, 2]


def test_no_replica_is_chosen_when_all_breakers_are_open():
    state = pool(2)
    shut(state.replicas[0], 0.0)
    shut(state.replicas[1], 2.0)
    assert state.choose(CALL, 3.0) is None
    assert state.ready_in(3.0) == 2.0
    assert not state.has_sibling(3.0, ())
    assert chosen(state, 1, now=5.0) == [0]
    assert state.ready_in(5.0) == 0.0


def test_an_empty_pool_is_never_ready():
    state = pool(0)
    assert state.choose(CALL, 0.0) is None
    assert state.ready_in(0.0) == float("inf")


def test_a_pool_is_as_ready_as_the_replicas_that_may_be_used():
    state = pool(2)
    eject(state.replicas[0])
    shut(state.replicas[1])
    assert state.ready_in(1.0) == 4.0
    assert state.choose(CALL, 1.0) is None


def test_a_retry_prefers_replicas_that_were_not_tried_and_else_takes_any():
    state = pool(3)
    first = state.choose(CALL, 0.0)
    second = state.choose(CALL, 0.0, [first])
    third = state.choose(CALL, 0.0, [first, second])
    assert {first, second, third} == set(state.replicas)
    assert state.has_sibling(0.0, [first, second])
    assert not state.has_sibling(0.0, list(state.replicas))
    assert state.choose(CALL, 0.0, list(state.replicas)) in state.replicas


def test_another_rule_can_take_the_place_of_round_robin():
    class FewestInFlight:
        def choose(self, replicas, call):
            return min(replicas, key=lambda r: r.in_flight, default=None)

    state = pool(2)
    state.balancer = FewestInFlight()
    state.replicas[0].in_flight = 3
    assert chosen(state, 2) == [1, 1]
