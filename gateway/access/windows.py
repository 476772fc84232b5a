"""Which period of a budget a moment falls into; knows calendars and time zones, but neither money nor stores.

Days, weeks (from Monday) and months begin at midnight of the budget's zone, so a day across a DST change has 23 or
25 hours. A window's id names its first second: a clock that steps back finds the earlier window's counters again.
"""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.access.accounts import Window
from gateway.core.limits import Budget, Period


def window_of(budget: Budget, now: float) -> Window:
    """The window of `budget` that holds `now` (Unix seconds). Raises `ZoneInfoNotFoundError` for an unknown zone."""
    if budget.period == "total":
        return Window(f"{budget.id}@0", budget, 0, None)
    zone = ZoneInfo(budget.timezone)
    first, after = _days(budget.period, datetime.fromtimestamp(now, zone).date())
    starts_s = _midnight(first, zone)
    return Window(f"{budget.id}@{starts_s}", budget, starts_s, _midnight(after, zone))


def _days(period: Period, day: date) -> tuple[date, date]:
    """The first day of the period and the first day after it."""
    if period == "day":
        return day, day + timedelta(days=1)
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    # A midnight that DST skips is read with the offset before the change, which is the day's first instant (PEP 495).
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


class Windows:
    """The current window of each budget, kept so that a request does no calendar work. One entry per budget id."""

    def __init__(self) -> None:
        self._current: dict[str, Window] = {}

    def of(self, budget: Budget, now: float) -> Window:
        """As `window_of`; works it out anew only when `now` has left the known window or the budget has changed."""
        window = self._current.get(budget.id)
        if (
            window is not None
            and window.starts_s <= now
            and (window.ends_s is None or now < window.ends_s)
            and (window.budget is budget or window.budget == budget)
        ):
            return window
        window = self._current[budget.id] = window_of(budget, now)
        return window
