"""Reads the dates that a report or an invoice is asked for, and decides which roll-up answers which part of them.

Pure: no I/O, and the present is an argument. All days are UTC.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.core.errors import BadRequest
from gateway.ledger.rows import DAY_S, HOUR_S

_UNITS_S = {"h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
_AGO = re.compile(r"(\d{1,6})([hdw])")
FORMS = "24h, 7d, 4w (back from now), 2026-11-01 or 2026-11-01T13:00 (UTC)"


class Slice(msgspec.Struct, frozen=True):
    """Rows of `table` whose `column` lies in [`since_s`, `until_s`); `None` is without end."""

    table: str
    column: str
    since_s: int | None
    until_s: int | None


def moment(text: str, now_s: float) -> int:
    """Unix seconds of `7d` before `now_s`, of a date (its first second) or of a date and time.

    Raises `BadRequest` that names the forms.
    """
    if ago := _AGO.fullmatch(text):
        return int(now_s) - int(ago[1]) * _UNITS_S[ago[2]]
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r} is no date; fix: {FORMS}") from None
    return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())


def slices(since_s: int | None, until_s: int | None, *, hourly: bool, hours_from_s: int | None = None) -> list[Slice]:
    """What to read for [`since_s`, `until_s`): whole days from the day roll-up, the hours at the edges from the other.

    Both ends are widened to whole hours. With `hourly` everything comes from the hour roll-up. Hours before
    `hours_from_s` are no longer kept: an edge in them is widened to its whole day.
    """
    since = None if since_s is None else since_s - since_s % HOUR_S
    until = None if until_s is None else until_s + -until_s % HOUR_S
    if hourly:
        return [Slice("rollup_hour", "hour", since, until)]
    if since is not None and hours_from_s is not None and since < hours_from_s:
        since -= since % DAY_S
    if until is not None and hours_from_s is not None and until < hours_from_s:
        until += -until % DAY_S
    first = None if since is None else since + -since % DAY_S
    last = None if until is None else until - until % DAY_S
    if first is not None and last is not None and first > last:
        return [Slice("rollup_hour", "hour", since, until)]
    found = []
    if since != first:
        found.append(Slice("rollup_hour", "hour", since, first))
    if first is None or last is None or first < last:
        found.append(Slice("rollup_day", "day", first, last))
    if until != last:
        found.append(Slice("rollup_hour", "hour", last, until))
    return found


def day_text(seconds: int) -> str:
    """`2026-11-01`."""
    return _utc(seconds).strftime("%Y-%m-%d")


def hour_text(seconds: int) -> str:
    """`2026-11-01T13:00Z`."""
    return _utc(seconds).strftime("%Y-%m-%dT%H:%MZ")


def _utc(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
