"""What a rate still admits, and when it admits more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.buckets import Bucket, wait_s
from gateway.access.grants import Shown
from gateway.core.limits import Rate


def left(bucket: Bucket, now: float, per_minute: int | None = None) -> float:
    """Units that are there."""
    per_minute = per_minute or bucket.per_minute
    return per_minute - bucket.refill(per_minute, now) / bucket.unit_s


def take(bucket: Bucket, units: float) -> None:
    bucket.lack_s += units * bucket.unit_s


def test_a_bucket_is_full_at_first_and_refills_continuously_up_to_its_size():
    bucket = Bucket(60, 100.0)
    assert left(bucket, 100.0) == 60.0
    take(bucket, 60)
    assert left(bucket, 100.5) == 0.5
    assert left(bucket, 110.0) == 10.0
    assert left(bucket, 1_000.0) == 60.0


def test_a_clock_that_steps_back_refills_nothing_and_stops_nothing():
    bucket = Bucket(60, 1_000.0)
    take(bucket, 55)
    assert left(bucket, 400.0) == 5.0
    assert left(bucket, 401.0) == 6.0


def test_a_clock_that_steps_ahead_fills_the_bucket_once():
    bucket = Bucket(60, 0.0)
    take(bucket, 60)
    assert left(bucket, 1e9) == 60.0


def test_a_smaller_rate_holds_at_once():
    assert left(Bucket(60, 0.0), 0.0, per_minute=6) == 6.0


def test_a_greater_rate_keeps_the_units_that_are_there_and_refills_faster():
    bucket = Bucket(60, 0.0)
    take(bucket, 50)
    assert left(bucket, 0.0, per_minute=600) == pytest.approx(10.0)
    assert left(bucket, 1.0) == pytest.approx(20.0)


def test_what_an_estimate_took_too_much_comes_back_and_never_more_than_fits():
    bucket = Bucket(10, 0.0)
    take(bucket, 8)
    bucket.give_back(5, 0.0)
    assert left(bucket, 0.0) == 7.0
    bucket.give_back(100, 0.0)
    assert left(bucket, 0.0) == 10.0
    bucket.give_back(-25, 0.0)
    assert left(bucket, 0.0) == -15.0


def test_what_was_used_beyond_the_estimate_counts_from_when_it_is_known():
    bucket = Bucket(10, 0.0)
    take(bucket, 1)
    bucket.give_back(-5, 60.0)
    assert left(bucket, 60.0) == 5.0


@pytest.mark.parametrize(
    ("units", "cost", "seconds"), [(10.0, 10, 0.0), (4.0, 10, 36.0), (-5.0, 1, 36.0), (10.0, 25, 0.0), (9.0, 25, 6.0)]
)
def test_the_wait_is_until_there_are_as_many_units_as_the_cost_or_the_whole_bucket(units, cost, seconds):
    assert wait_s((10 - units) * 6, cost * 6) == pytest.approx(seconds)


@given(
    per_minute=st.integers(1, 10_000_000),
    taken=st.floats(0, 1e8),
    cost=st.integers(1, 20_000_000),
    at_s=st.floats(1.7e9, 1.9e9),
)
def test_who_waits_as_long_as_told_gets_in(per_minute, taken, cost, at_s):
    bucket = Bucket(per_minute, at_s)
    take(bucket, taken)
    cost_s = cost * bucket.unit_s
    told_s = wait_s(bucket.lack_s, cost_s)
    # Unix time as a float steps by 0.24 microseconds: a caller's clock has gone at least one of them further.
    assert wait_s(bucket.refill(per_minute, at_s + told_s + 5e-7), cost_s) == 0.0


@pytest.mark.parametrize(("lack_s", "remaining"), [(90.0, 0), (42.0000001, 3), (0.0, 10)])
def test_what_is_left_is_shown_in_whole_units_and_debt_as_nothing(lack_s, remaining):
    bucket = Bucket(10, 0.0)
    bucket.lack_s = lack_s
    level = bucket.level(Shown(Rate("r", "tokens", 10)))
    assert (level.remaining, level.full_in_s) == (remaining, lack_s)
