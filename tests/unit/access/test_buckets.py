"""What a rate still admits, and when it admits more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.buckets import Bucket, level_of, wait_s
from gateway.core.limits import Rate


def test_a_bucket_is_full_at_first_and_refills_continuously_up_to_its_size():
    bucket = Bucket(60, 100.0)
    bucket.level -= 60
    assert bucket.refill(100.5) == 0.5
    assert bucket.refill(110.0) == 10.0
    assert bucket.refill(1_000.0) == 60.0


def test_a_clock_that_steps_back_refills_nothing_and_stops_nothing():
    bucket = Bucket(60, 1_000.0)
    bucket.level = 5.0
    assert bucket.refill(400.0) == 5.0
    assert bucket.refill(401.0) == 6.0


def test_a_clock_that_steps_ahead_fills_the_bucket_once():
    bucket = Bucket(60, 0.0)
    bucket.level = 0.0
    assert bucket.refill(1e9) == 60.0


def test_a_smaller_rate_holds_at_once():
    bucket = Bucket(60, 0.0)
    bucket.per_minute = 6
    assert bucket.refill(0.0) == 6.0


def test_what_an_estimate_took_too_much_comes_back_and_never_more_than_fits():
    bucket = Bucket(10, 0.0)
    bucket.level = 2.0
    bucket.give_back(5, 0.0)
    assert bucket.level == 7.0
    bucket.give_back(100, 0.0)
    assert bucket.level == 10.0
    bucket.give_back(-25, 0.0)
    assert bucket.level == -15.0


@pytest.mark.parametrize(
    ("level", "cost", "seconds"), [(10.0, 10, 0.0), (4.0, 10, 36.0), (-5.0, 1, 36.0), (10.0, 25, 0.0), (9.0, 25, 6.0)]
)
def test_the_wait_is_until_the_level_reaches_the_cost_or_the_whole_bucket(level, cost, seconds):
    assert wait_s(level, cost, 10) == pytest.approx(seconds)


@given(
    per_minute=st.integers(1, 10_000_000),
    taken=st.floats(0, 1e8),
    cost=st.integers(1, 20_000_000),
    at_s=st.floats(1.7e9, 1.9e9),
)
def test_who_waits_as_long_as_told_gets_in(per_minute, taken, cost, at_s):
    bucket = Bucket(per_minute, at_s)
    bucket.level -= taken
    told_s = wait_s(bucket.level, cost, per_minute)
    # Unix time as a float steps by 0.24 microseconds: a caller's clock has gone at least one of them further.
    assert wait_s(bucket.refill(at_s + told_s + 5e-7), cost, per_minute) == 0.0


def test_debt_is_shown_as_nothing_left():
    level = level_of(Rate("r", "tokens", 10), -5.0)
    assert (level.remaining, level.full_in_s) == (0, 90.0)
    assert level_of(Rate("r", "tokens", 10), 2.9999999).remaining == 3
