"""Checks that the ledger adds up: journal against rows, rows against roll-ups and budgets, each row in itself.

Reads rows in the order of their hours, a page at a time, so that memory is bounded by the groups of one hour. A gateway
may be running: what it writes meanwhile is told apart from what is wrong. Changes nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec

from gateway.core.money import usd
from gateway.database import Database
from gateway.ledger import report
from gateway.ledger.check import Check, Rows, differences, place
from gateway.ledger.journaled import check_journal
from gateway.ledger.period import day_text, hour_text
from gateway.ledger.rows import DAY_S, DIMENSIONS, HOUR_S, MEASURES, Group, Row
from gateway.ledger.table import count

PAGE = 5000
TRIES = 3
"""How often an hour is read again while a gateway adds to it."""

_ROW = ", ".join(Row._fields)
_GROUP = ", ".join(DIMENSIONS)
_SUMS = ", ".join(MEASURES)

Spend = dict[str, tuple[int, float]]
"""Budget window -> micro-USD committed, and the second since when."""


class Verified(msgspec.Struct, frozen=True):
    """`since` and `until` are the first and the last hour with rows, `None` without any."""

    checks: tuple[Check, ...]
    rows: int
    since: str | None
    until: str | None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(check.wrong for check in self.checks)


def verify(database: Database, journal: Path) -> Verified:
    """Every check. Raises `DatabaseError`."""
    accepted = check_journal(database, journal)
    unique = _unique(database)
    before = _spend(database)
    rows = Rows()
    rollup = Check("hourly roll-ups are the sums of their rows", "hours")
    counted, hours = _read_hours(database, rows, rollup)
    after = _spend(database)
    checks = (
        accepted,
        unique,
        rows.identity,
        rows.costs,
        rollup,
        _days(database),
        _budgets(database, rows.windows, before, after),
    )
    if rows.unpriced:
        rows.costs.notes.append(f"{count(rows.unpriced)} of them have no known price and are not compared")
    return Verified(checks, counted, hours and hour_text(hours[0]), hours and hour_text(hours[1]))


def as_text(found: Verified) -> str:
    """One line a check, what is wrong below it."""
    lines = [
        f"{count(found.rows)} rows"
        + (f", hours {found.since} to {found.until}" if found.since else ": an empty ledger")
    ]
    for check in found.checks:
        verdict = f"WRONG  {count(check.wrong)} of" if check.wrong else "ok    "
        lines.append(f"{verdict} {count(check.checked)} {check.unit}: {check.says}")
        lines += [f"         {example}" for example in check.examples]
        if check.wrong > len(check.examples):
            lines.append(f"         ... and {count(check.wrong - len(check.examples))} more")
        lines += [f"         note: {note}" for note in check.notes]
    lines.append("the ledger adds up" if found.sound else "the ledger does NOT add up")
    return "".join(f"{line}\n" for line in lines)


def as_json(found: Verified) -> str:
    """The same for machines."""
    document = {"sound": found.sound, **msgspec.structs.asdict(found)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _unique(database: Database) -> Check:
    check = Check("every request has one row", "rows")
    check.checked, distinct = database.query("SELECT COUNT(*), COUNT(DISTINCT request_id) FROM requests")[0]
    if check.checked != distinct:
        for request_id, times in database.query(
            "SELECT request_id, COUNT(*) FROM requests GROUP BY request_id HAVING COUNT(*) > 1 ORDER BY 1 LIMIT ?",
            (check.checked - distinct,),
        ):
            check.fail(f"{request_id}: {times} rows")
    return check


def _read_hours(database: Database, rows: Rows, rollup: Check) -> tuple[int, tuple[int, int] | None]:
    """Reads all rows; how many, and their first and last hour."""
    first, comparable = _range(database)
    if first is None:
        if comparable:
            rollup.notes.append("no row is kept any more: roll-ups are not compared")
        return 0, None
    if comparable > first:
        rollup.notes.append(f"hours before {hour_text(comparable)} are at or past their retention: not compared")
    counted, last, hour = 0, first, _next_hour(database, first)
    while hour is not None:
        if hour < comparable:
            counted += sum(amounts[0] for amounts in rows.add(_rows(database, hour)).values())
        else:
            counted += _hour(database, hour, rows, rollup)
            rollup.checked += 1
        last, hour = hour, _next_hour(database, hour + HOUR_S)
    return counted, (first, last)


def _range(database: Database) -> tuple[int | None, int]:
    """The first hour to read, and the first of which both the rows and the roll-up are complete.

    Retention deletes rows and hours by age: the oldest hour of the rows may have lost some of them.
    """
    started, oldest, day = database.query(
        "SELECT (SELECT MIN(started_s) FROM requests), (SELECT MIN(hour) FROM rollup_hour),"
        " (SELECT MIN(day) FROM rollup_day)"
    )[0]
    if started is None:
        return None, oldest or 0
    first = int(started // HOUR_S) * HOUR_S
    if oldest is not None and oldest < first:
        return first, first + HOUR_S
    hours_are_gone = day is not None and (oldest is None or day < oldest - oldest % DAY_S)
    return first, max(first, oldest or 0) if hours_are_gone else first


def _hour(database: Database, hour: int, rows: Rows, rollup: Check) -> int:
    """Checks the rows of one hour, and their sums against the roll-up; how many rows."""
    kept = _rollup(database, hour)
    sums = rows.add(_rows(database, hour))
    counted = sum(amounts[0] for amounts in sums.values())
    for _ in range(TRIES):
        again = _rollup(database, hour)
        if again == kept:
            found = differences(sums, kept)
            break
        kept, sums = again, Rows().add(_rows(database, hour))
    else:
        rollup.notes.append(f"{hour_text(hour)} was being written to all the time: not compared")
        return counted
    for difference in found:
        rollup.fail(difference)
    return counted


def _rollup(database: Database, hour: int) -> dict[Group, tuple[int, ...]]:
    found = database.query(f"SELECT {_GROUP}, {_SUMS} FROM rollup_hour WHERE hour = ?", (hour,))  # noqa: S608 - names of ours
    width = len(DIMENSIONS)
    return {cast("Group", (hour, *row[:width])): tuple(row[width:]) for row in found}


def _rows(database: Database, hour: int) -> Iterator[Row]:
    """The rows of an hour, a page at a time."""
    sql = (
        f"SELECT {_ROW} FROM requests WHERE started_s >= ? AND started_s < ? AND (started_s, request_id) > (?, ?)"  # noqa: S608 - names of ours
        " ORDER BY started_s, request_id LIMIT ?"
    )
    after: tuple[float, str] = (hour, "")
    while True:
        page = database.query(sql, (after[0], hour + HOUR_S, *after, PAGE))
        yield from map(Row._make, page)
        if len(page) < PAGE:
            return
        after = (page[-1][1], page[-1][0])


def _next_hour(database: Database, from_s: int) -> int | None:
    """The next hour that has rows or a roll-up."""
    (started,) = database.query("SELECT MIN(started_s) FROM requests WHERE started_s >= ?", (from_s,))[0]
    (hour,) = database.query("SELECT MIN(hour) FROM rollup_hour WHERE hour >= ?", (from_s,))[0]
    found = [hour] if hour is not None else []
    if started is not None:
        found.append(int(started // HOUR_S) * HOUR_S)
    return min(found, default=None)


def _days(database: Database) -> Check:
    """Compares in one statement, hence in one snapshot, over the days whose hours are all kept."""
    check = Check("daily roll-ups are the sums of their hours", "days")
    hour, day = database.query("SELECT (SELECT MIN(hour) FROM rollup_hour), (SELECT MIN(day) FROM rollup_day)")[0]
    if hour is None and day is None:
        return check
    since = day if hour is None else hour - hour % DAY_S
    if hour is not None and hour > since and not _whole(database, since):
        since += DAY_S
    if day is not None and day < since:
        check.notes.append(f"days before {day_text(since)} are past the retention of hours: not compared")
    minus = ", ".join(f"-{name}" for name in MEASURES)
    totals = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in MEASURES)
    differs = " OR ".join(f"SUM({name}) <> 0" for name in MEASURES)
    found = database.query(
        f"SELECT day, {_GROUP}, {totals} FROM ("  # noqa: S608 - names of ours
        f"SELECT hour / {DAY_S} * {DAY_S} AS day, {_GROUP}, {_SUMS} FROM rollup_hour WHERE hour >= ?"
        f" UNION ALL SELECT day, {_GROUP}, {minus} FROM rollup_day WHERE day >= ?) both_sides"
        f" GROUP BY day, {_GROUP} HAVING {differs} ORDER BY day, {_GROUP}",
        (since, since),
    )
    check.checked = database.query("SELECT COUNT(DISTINCT day) FROM rollup_day WHERE day >= ?", (since,))[0][0]
    for at, *group_and_off in found:
        dimensions, off = group_and_off[: len(DIMENSIONS)], group_and_off[len(DIMENSIONS) :]
        name, value = next(pair for pair in zip(MEASURES, off, strict=True) if pair[1])
        check.fail(f"{day_text(at)} {place(dimensions)}: {name} {value:+} in the hours against the day")
    return check


def _whole(database: Database, day: int) -> bool:
    """Whether the hours of a day hold as many requests as the day: none is past its retention."""
    hours, whole = database.query(
        "SELECT (SELECT SUM(requests) FROM rollup_hour WHERE hour >= ? AND hour < ?),"
        " (SELECT SUM(requests) FROM rollup_day WHERE day = ?)",
        (day, day + DAY_S, day),
    )[0]
    return hours is not None and (whole is None or hours >= whole)


def _spend(database: Database) -> Spend:
    rows = database.query("SELECT window_id, committed_micro, since_s FROM spend")
    return {window: (int(committed), float(since_s)) for window, committed, since_s in rows}


def _budgets(database: Database, rows: dict[str, tuple[int, int]], before: Spend, after: Spend) -> Check:
    """`before` and `after` are the spend around the reading of the rows: what a gateway adds meanwhile lies between.

    A budget that was added while its window had begun starts with what its scope had spent: rows that do not name it.
    Those, and rows past their retention, are bounded by the roll-ups of its scope.
    """
    check = Check("budgets have committed what their rows are charged", "budget windows")
    beyond = 0
    for window in sorted(rows.keys() | after.keys()):
        check.checked += 1
        summed, unpriced = rows.get(window, (0, 0))
        low, high = before.get(window, (0, 0.0))[0], after.get(window, (0, 0.0))[0]
        if low <= summed <= high:
            continue
        if summed < low and low - summed <= _elsewhere(database, window, summed - unpriced):
            beyond += 1
            continue
        check.fail(f"{window}: {usd(high)} USD committed, {usd(summed)} USD in its rows")
    if beyond:
        check.notes.append(
            f"{count(beyond)} include spending from before the budget was made or past the retention of rows;"
            " it is within what their scope has spent"
        )
    return check


def _elsewhere(database: Database, window: str, named: int) -> int:
    """Micro-USD that the window's scope was charged in requests that do not name it, at most.

    `ID@START` with ID `SCOPE/PERIOD`, see `gateway.core.limits.Budget`; 0 for a scope without roll-ups (a tag).
    """
    budget, _, start = window.rpartition("@")
    kind, _, name = budget.rpartition("/")[0].partition(":")
    if not start.isdecimal() or not (kind == "all" or (kind in report.COLUMNS and name)):
        return 0
    where = () if kind == "all" else ((kind, name),)
    spent = report.ask(database, report.Question(("outcome",), int(start), None, where)).total.charged_micro
    return max(0, spent - named)
