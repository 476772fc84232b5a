"""How long the ledger keeps what: rows for weeks, hours for months, days for ever. Knows no clock.

Deletes little at a time, so that the writer gets its turns. The sums of days are made with the rows and not from them:
deleting rows changes no report by day, and no budget. Safe to run in several replicas at once.
"""

from typing import NamedTuple

import msgspec

from gateway.database import Database

BATCH = 1000
_DAY_S = 86400
_LONGEST_WINDOW_S = 31 * _DAY_S


class Keep(msgspec.Struct, frozen=True):
    """Days that rows of `requests` and of `rollup_hour` are kept; budget windows as long as both."""

    rows_days: int = 30
    hours_days: int = 90


class Swept(NamedTuple):
    """What a sweep has deleted."""

    rows: int
    hours: int
    windows: int


def sweep(database: Database, now_s: float, keep: Keep) -> Swept:
    """Deletes what is older than `keep` at Unix time `now_s`. Blocks; raises `DatabaseError`, and may be run again."""
    rows_until, hours_until = now_s - keep.rows_days * _DAY_S, now_s - keep.hours_days * _DAY_S
    windows_until = min(hours_until, rows_until - _LONGEST_WINDOW_S)  # what a row names can be looked up
    return Swept(
        _delete(
            database,
            "DELETE FROM requests WHERE request_id IN"
            " (SELECT request_id FROM requests WHERE started_s < ? ORDER BY started_s LIMIT ?) RETURNING 1",
            (rows_until, BATCH),
        ),
        _sweep_hours(database, int(hours_until)),
        _delete(
            database,
            # the window of a total never ends; a window of a month is over long before it is old enough
            "DELETE FROM spend WHERE window_id IN (SELECT window_id FROM spend"
            " WHERE since_s < ? AND window_id NOT LIKE ? ORDER BY window_id LIMIT ?) RETURNING 1",
            (windows_until, "%@0", BATCH),
        ),
    )


def _sweep_hours(database: Database, until_s: int) -> int:
    """Hour by hour: each holds as many rows as there were combinations of its dimensions."""
    deleted = 0
    while (oldest := database.query("SELECT MIN(hour) FROM rollup_hour WHERE hour < ?", (until_s,))[0][0]) is not None:
        with database.transaction() as cursor:
            deleted += len(cursor.execute("DELETE FROM rollup_hour WHERE hour = ? RETURNING 1", (oldest,)))
    return deleted


def _delete(database: Database, sql: str, params: tuple[object, ...]) -> int:
    deleted = 0
    while True:
        with database.transaction() as cursor:
            found = len(cursor.execute(sql, params))
        if found == 0:
            return deleted
        deleted += found
