"""Which period of a budget a moment falls into: month ends, changes of the clocks, steps of the clock."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.windows import Windows, window_of
from gateway.core.limits import Budget

HOUR_S = 3600


def budget(period, timezone="UTC", limit=1_000):
    return Budget(f"all/{period}", "all", period, limit, timezone=timezone)


def unix(text, timezone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).timestamp()


@pytest.mark.parametrize(
    ("period", "moment", "starts", "ends"),
    [
        ("day", "2026-12-31T23:59:59.999", "2026-12-31", "2027-01-01"),
        ("day", "2027-01-01T00:00:00", "2027-01-01", "2027-01-02"),
        ("week", "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        ("week", "2026-12-31T12:00:00", "2026-12-28", "2027-01-04"),
        ("month", "2026-01-31T23:59:59.999", "2026-01-01", "2026-02-01"),
        ("month", "2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
        ("month", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-04-30T23:59:59", "2026-04-01", "2026-05-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2027-01-01T00:00:00", "2027-01-01", "2027-02-01"),
    ],
)
def test_periods_begin_at_midnight_and_end_where_the_next_begins(period, moment, starts, ends):
    window = window_of(budget(period), unix(moment))
    assert (window.starts_s, window.ends_s) == (unix(starts), unix(ends))
    assert window.id == f"all/{period}@{window.starts_s}"


def test_a_total_has_one_window_that_never_ends():
    window = window_of(budget("total"), unix("2026-11-21"))
    assert (window.id, window.starts_s, window.ends_s) == ("all/total@0", 0, None)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-07-01", 24),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),  # its clocks go by half an hour
        ("America/Santiago", "2026-09-06", 23),  # midnight itself is skipped
        ("America/Havana", "2026-11-01", 25),  # the hour after midnight comes twice
    ],
)
def test_a_day_has_as_many_hours_as_its_zone_gives_it(zone, day, hours):
    window = window_of(budget("day", zone), unix(f"{day}T12:00", zone))
    assert window.ends_s - window.starts_s == hours * HOUR_S
    assert window_of(budget("day", zone), window.starts_s) == window
    assert window_of(budget("day", zone), window.ends_s - 0.001) == window
    assert window_of(budget("day", zone), window.starts_s - 0.001).ends_s == window.starts_s
    assert window_of(budget("day", zone), window.ends_s).starts_s == window.ends_s


def test_both_passes_of_the_hour_that_comes_twice_are_one_day():
    first = window_of(budget("day", "Europe/Berlin"), unix("2026-10-25T00:30Z"))
    assert window_of(budget("day", "Europe/Berlin"), unix("2026-10-25T01:30Z")) == first


def test_a_month_begins_at_the_midnight_of_its_zone():
    last_hour_of_utc = unix("2026-10-31T23:30")
    assert window_of(budget("month", "Europe/Berlin"), last_hour_of_utc).starts_s == unix("2026-11-01", "Europe/Berlin")
    assert window_of(budget("month"), last_hour_of_utc).starts_s == unix("2026-10-01")


@given(
    now=st.integers(0, 4_102_444_800),
    period=st.sampled_from(["day", "week", "month"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia", "Asia/Gaza"]),
)
def test_every_moment_is_in_exactly_one_window_and_windows_leave_no_gap(now, period, zone):
    window = window_of(budget(period, zone), now)
    assert window.starts_s <= now < window.ends_s
    assert window_of(budget(period, zone), window.ends_s).starts_s == window.ends_s
    assert window_of(budget(period, zone), window.starts_s - 1).ends_s == window.starts_s


def test_an_unknown_zone_is_an_error():
    with pytest.raises(ZoneInfoNotFoundError):
        window_of(budget("day", "Mars/Olympus"), 0.0)


def test_a_known_window_is_kept_until_time_leaves_it_in_either_direction():
    windows, month = Windows(), budget("month")
    november = windows.of(month, unix("2026-11-21"))
    assert windows.of(month, unix("2026-11-30T23:59:59")) is november
    december = windows.of(month, unix("2026-12-01"))
    assert december.starts_s == november.ends_s
    assert windows.of(month, unix("2026-11-30T23:00")) == november
    assert windows.of(month, unix("2026-12-01")) == december


def test_a_changed_budget_changes_its_window_at_once():
    windows = Windows()
    windows.of(budget("month"), unix("2026-11-21"))
    raised = budget("month", limit=2_000)
    assert windows.of(raised, unix("2026-11-21")).budget is raised
    moved = budget("month", "Asia/Tokyo")
    assert windows.of(moved, unix("2026-11-21")).starts_s == unix("2026-11-01", "Asia/Tokyo")
