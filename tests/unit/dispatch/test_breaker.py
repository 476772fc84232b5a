"""When a breaker opens, how it probes, and that it can neither be stuck nor let two probes out."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.dispatch.breaker import (
    COOL_CAP_S,
    OPEN_BASE_S,
    OPEN_CAP_S,
    PROBE_LEASE_S,
    TRANSITIONS,
    Breaker,
    BreakerRegistry,
    Event,
    State,
)

FAILURES = ("connect", "timeout", "status", "broken")


def no_jitter() -> float:
    return 0.0


def breaker() -> Breaker:
    return Breaker(no_jitter)


def opened(now: float = 0.0) -> Breaker:
    b = breaker()
    b.on_failure(now, b.try_acquire(now), "auth")
    return b


def test_a_new_breaker_admits():
    b = breaker()
    assert b.allow(0.0)
    assert b.try_acquire(0.0)
    assert b.ready_in(0.0) == 0.0
    assert b.state(0.0) is State.CLOSED


@pytest.mark.parametrize("kind", FAILURES)
def test_five_failures_in_a_row_open_it(kind):
    b = breaker()
    for _ in range(4):
        b.on_failure(0.0, b.try_acquire(0.0), kind)
    assert b.state(0.0) is State.CLOSED
    b.on_failure(0.0, b.try_acquire(0.0), kind)
    assert b.state(0.0) is State.OPEN
    assert not b.allow(0.0)
    assert b.try_acquire(0.0) == 0


def test_a_success_in_between_starts_the_count_again():
    b = breaker()
    for _ in range(3):
        for _ in range(4):
            b.on_failure(0.0, b.try_acquire(0.0), "status")
        b.on_success(0.0, b.try_acquire(0.0))
    assert b.state(0.0) is State.CLOSED


def test_half_of_twenty_calls_within_ten_seconds_opens_it():
    b = breaker()
    for i in range(10):
        assert b.state(i / 2) is State.CLOSED
        b.on_success(i / 2, b.try_acquire(i / 2))
        b.on_failure(i / 2, b.try_acquire(i / 2), "status")
    assert b.state(5.0) is State.OPEN


def test_half_of_nineteen_calls_does_not():
    b = breaker()
    for _ in range(9):
        b.on_success(0.0, b.try_acquire(0.0))
        b.on_failure(0.0, b.try_acquire(0.0), "status")
    b.on_failure(0.0, b.try_acquire(0.0), "status")
    assert b.state(0.0) is State.CLOSED


def test_the_same_rate_spread_over_a_minute_does_not():
    b = breaker()
    for i in range(30):
        b.on_success(2.0 * i, b.try_acquire(2.0 * i))
        b.on_failure(2.0 * i, b.try_acquire(2.0 * i), "status")
    assert b.state(60.0) is State.CLOSED


def test_failures_from_before_the_opening_do_not_count_again_after_it():
    b = breaker()
    for _ in range(10):
        b.on_success(0.0, b.try_acquire(0.0))
        b.on_failure(0.0, b.try_acquire(0.0), "status")
    b.on_success(5.0, b.try_acquire(5.0))
    b.on_failure(5.0, b.try_acquire(5.0), "status")
    assert b.state(5.0) is State.CLOSED


def test_one_refusal_of_our_credentials_opens_it():
    assert opened().state(0.0) is State.OPEN


def test_open_time_doubles_up_to_thirty_seconds_and_starts_again_after_a_success():
    b = opened()
    seen, now = [b.retry_at], b.retry_at
    for _ in range(5):
        b.on_failure(now, b.try_acquire(now), "status")
        seen.append(b.retry_at - now)
        now = b.retry_at
    assert seen == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0]
    b.on_success(now, b.try_acquire(now))
    b.on_failure(now, b.try_acquire(now), "auth")
    assert b.retry_at - now == OPEN_BASE_S


def test_jitter_only_shortens_the_open_time():
    b = Breaker(lambda: 0.5, jitter=0.2)
    b.on_failure(0.0, b.try_acquire(0.0), "auth")
    assert b.retry_at == pytest.approx(4.5)


def test_half_open_admits_one_probe_and_its_success_closes():
    b = opened()
    probe = b.try_acquire(5.0)
    assert probe
    assert b.state(5.0) is State.HALF_OPEN
    assert b.try_acquire(5.1) == 0
    b.on_success(5.2, probe)
    assert b.state(5.2) is State.CLOSED
    assert b.try_acquire(5.2)


def test_a_failed_probe_opens_it_again_at_once():
    b = opened()
    b.on_failure(5.0, b.try_acquire(5.0), "timeout")
    assert b.state(5.0) is State.OPEN
    assert b.retry_at == 15.0


def test_a_probe_whose_caller_left_frees_its_place_and_proves_nothing():
    b = opened()
    b.on_abandoned(6.0, b.try_acquire(5.0))
    assert b.state(6.0) is State.OPEN
    assert b.try_acquire(6.0)
    assert b.state(6.0) is State.HALF_OPEN


def test_an_abandoned_ordinary_call_changes_nothing():
    b = breaker()
    b.on_abandoned(1.0, b.try_acquire(0.0))
    assert b.state(1.0) is State.CLOSED
    assert b.retry_at == float("-inf")


def test_the_first_byte_of_a_probe_lets_the_others_in_before_its_stream_ends():
    b = opened()
    probe = b.try_acquire(5.0)
    b.on_first_byte(probe)
    assert b.try_acquire(5.5)
    b.on_success(60.0, probe)
    assert b.state(60.0) is State.CLOSED


def test_answers_that_begin_and_never_end_keep_lengthening_the_open_time():
    b = opened()
    b.on_first_byte(b.try_acquire(5.0))
    for _ in range(5):
        permit = b.try_acquire(6.0)
        b.on_first_byte(permit)
        b.on_failure(6.0, permit, "broken")
    assert b.retry_at == 16.0


def test_a_probe_that_stays_silent_past_its_lease_does_not_block_the_next():
    b = opened()
    lost = b.try_acquire(5.0)
    assert b.try_acquire(5.0 + PROBE_LEASE_S - 0.1) == 0
    assert b.try_acquire(5.0 + PROBE_LEASE_S)
    b.on_abandoned(36.0, lost)
    assert b.try_acquire(36.0) == 0, "the newer probe is still out"
    b.on_success(37.0, lost)
    assert b.state(37.0) is State.CLOSED


def test_results_of_calls_from_before_the_opening_are_ignored():
    b = breaker()
    straggler = b.try_acquire(0.0)
    b.on_failure(0.0, b.try_acquire(0.0), "auth")
    retry_at = b.retry_at
    b.on_success(1.0, straggler)
    b.on_failure(1.0, straggler, "connect")
    b.on_cool(1.0, straggler, 40.0)
    b.on_first_byte(straggler)
    b.on_abandoned(1.0, straggler)
    assert (b.state(1.0), b.retry_at) == (State.OPEN, retry_at)


def test_retry_after_cools_without_counting_as_failure():
    b = breaker()
    for _ in range(50):
        b.on_cool(0.0, b.try_acquire(0.0) or 1, 7.0)
    assert b.state(6.9) is State.COOLING
    assert not b.allow(6.9)
    assert b.ready_in(5.0) == 2.0
    assert b.state(7.0) is State.CLOSED
    assert b.try_acquire(7.0)
    assert b.try_acquire(7.0), "no probe: cooling is no fault"


def test_the_longest_asked_for_quiet_holds_and_successes_of_others_do_not_end_it():
    b = breaker()
    other = b.try_acquire(0.0)
    b.on_cool(0.0, b.try_acquire(0.0), 9.0)
    b.on_cool(0.0, other, 3.0)
    b.on_success(1.0, other)
    assert b.retry_at == 9.0


def test_a_retry_after_of_a_day_is_asked_about_every_minute():
    b = breaker()
    b.on_cool(10.0, b.try_acquire(10.0), 86_400.0)
    assert b.retry_at == 10.0 + COOL_CAP_S


def test_a_probe_answered_with_429_closes_and_cools():
    b = opened()
    b.on_cool(5.0, b.try_acquire(5.0), 8.0)
    assert b.state(5.0) is State.COOLING
    assert b.state(8.0) is State.CLOSED


def test_every_state_can_return_to_closed():
    assert set(TRANSITIONS) == {State.CLOSED, State.OPEN, State.HALF_OPEN}
    for events in TRANSITIONS.values():
        assert events[Event.ALIVE] is State.CLOSED
        assert events[Event.TRIP] is State.OPEN


def test_the_registry_returns_the_same_breaker_for_a_name_until_no_policy_names_it():
    registry = BreakerRegistry(no_jitter)
    first, other = registry.get("a"), registry.get("b")
    assert registry.get("a") is first is not other
    registry.retain({"a"})
    assert registry.get("a") is first
    assert registry.get("b") is not other
    assert dict(registry.items()) == {"a": first, "b": registry.get("b")}


class Machine(RuleBasedStateMachine):
    """Any order of calls, reports and silences. `era` counts the openings that the model has seen."""

    def __init__(self):
        super().__init__()
        self.b = Breaker(lambda: 0.3)
        self.now = 1000.0
        self.era = 0
        self.held: list[tuple[int, int]] = []
        self.probe: tuple[int, float] | None = None  # permit and time of the one probe that may be out

    @rule(seconds=st.sampled_from((0.0, 0.1, 1.0, 4.9, 5.0, 31.0)))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 6))
    def call(self, count):
        for _ in range(count):
            closed = self.b.state(self.now) is State.CLOSED
            permit = self.b.try_acquire(self.now)
            if not permit:
                assert not self.b.allow(self.now) or not closed
                continue
            self.held.append((permit, self.era))
            if not closed:
                assert self.probe is None or self.now - self.probe[1] >= PROBE_LEASE_S, "two probes out"
                self.probe = (permit, self.now)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        result=st.sampled_from(("success", "first_byte", "failure", "failure", "auth", "cool", "abandoned")),
    )
    def report(self, data, result):
        permit, era = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        before = (self.b.state(self.now), self.b.retry_at)
        match result:
            case "success":
                self.b.on_success(self.now, permit)
            case "first_byte":
                self.b.on_first_byte(permit)
                self.held.append((permit, era))
            case "failure":
                self.b.on_failure(self.now, permit, "status")
            case "auth":
                self.b.on_failure(self.now, permit, "auth")
            case "cool":
                self.b.on_cool(self.now, permit, self.now + data.draw(st.sampled_from((0.0, 3.0, 9e9))))
            case "abandoned":
                self.b.on_abandoned(self.now, permit)
        after = (self.b.state(self.now), self.b.retry_at)
        current = era == self.era
        if not current:
            assert after == before, "a call from before the opening was believed"
            return
        if result in ("success", "first_byte", "cool") and before[0] is not State.COOLING:
            assert after[0] is (State.CLOSED if result != "cool" or self.b.allow(self.now) else State.COOLING)
        if after[0] is State.OPEN and result in ("failure", "auth"):
            self.era += 1
            self.probe = None
        if after[0] in (State.CLOSED, State.COOLING) or (self.probe and self.probe[0] == permit):
            self.probe = None

    @invariant()
    def is_never_shut_for_long(self):
        wait = self.b.ready_in(self.now)
        state = self.b.state(self.now)
        assert wait <= {State.CLOSED: 0, State.COOLING: COOL_CAP_S}.get(state, OPEN_CAP_S) + 1e-6
        assert self.b.allow(self.now + wait + 1e-6)

    @invariant()
    def allow_and_state_agree(self):
        if self.b.state(self.now) is State.CLOSED:
            assert self.b.allow(self.now)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
