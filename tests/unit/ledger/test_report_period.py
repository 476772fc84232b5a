"""Dates as people write them, and which roll-up answers which part of a period."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.ledger.period import Slice, day_text, hour_text, moment, slices
from gateway.ledger.rows import DAY_S, HOUR_S


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOON = at("2026-11-05T12:30")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", "2026-11-04T12:30"),
        ("7d", "2026-10-29T12:30"),
        ("2w", "2026-10-22T12:30"),
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T13:00", "2026-11-01T13:00"),
        ("2026-11-01T13:00+02:00", "2026-11-01T11:00"),
    ],
)
def test_dates_are_read_in_utc_and_spans_go_back_from_now(text, expected):
    assert moment(text, NOON) == at(expected)


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7m", "2026-13-01", "01.11.2026"])
def test_what_is_no_date_is_refused_with_the_forms(text):
    with pytest.raises(BadRequest, match=r"fix: 24h, 7d, 4w .* 2026-11-01"):
        moment(text, NOON)


def test_whole_days_come_from_the_day_roll_up_and_the_edges_from_the_hours():
    assert slices(at("2026-11-01T22:15"), at("2026-11-05T02:30"), hourly=False) == [
        Slice("rollup_hour", "hour", at("2026-11-01T22:00"), at("2026-11-02")),
        Slice("rollup_day", "day", at("2026-11-02"), at("2026-11-05")),
        Slice("rollup_hour", "hour", at("2026-11-05"), at("2026-11-05T03:00")),
    ]


def test_a_period_without_an_end_needs_hours_at_its_beginning_alone():
    assert slices(at("2026-11-01T22:15"), None, hourly=False) == [
        Slice("rollup_hour", "hour", at("2026-11-01T22:00"), at("2026-11-02")),
        Slice("rollup_day", "day", at("2026-11-02"), None),
    ]


def test_everything_is_one_slice_of_days():
    assert slices(None, None, hourly=False) == [Slice("rollup_day", "day", None, None)]


def test_hours_are_asked_of_the_hour_roll_up_alone():
    assert slices(at("2026-11-01"), None, hourly=True) == [Slice("rollup_hour", "hour", at("2026-11-01"), None)]


def test_an_edge_whose_hours_are_gone_is_widened_to_its_day():
    kept = at("2026-11-03")
    assert slices(at("2026-10-01T22:00"), at("2026-10-05T01:00"), hourly=False, hours_from_s=kept) == [
        Slice("rollup_day", "day", at("2026-10-01"), at("2026-10-06"))
    ]


hours = st.integers(0, 24 * 10).map(lambda hour: at("2026-11-01") + hour * HOUR_S)


@given(since=hours, until=hours)
def test_every_hour_of_a_period_is_read_once_and_no_other(since, until):
    read = []
    for part in slices(since, max(since, until), hourly=False):
        assert part.since_s % (DAY_S if part.table == "rollup_day" else HOUR_S) == 0
        read += range(part.since_s, part.until_s, HOUR_S)
    assert sorted(read) == list(range(since, max(since, until), HOUR_S))


def test_periods_are_written_in_iso_8601():
    assert (day_text(at("2026-11-01")), hour_text(at("2026-11-01T13:00"))) == ("2026-11-01", "2026-11-01T13:00Z")
