"""The ledger's tables as operations: rows that count once, their sums, what a budget window has committed.

Decides what is one transaction: the rows that are new, their roll-ups and their spend, or nothing of it. Blocks; fails
with `DatabaseError` and leaves retrying to its caller. Any number of writers may share one database.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.access.accounts import Window
from gateway.database import Cursor, Database, DatabaseError, Rows
from gateway.ledger import schema
from gateway.ledger.rows import DAY_S, DIMENSIONS, HOUR_S, MEASURES, Charge, Row, Totals

CHUNK = 128
"""Rows per call of the driver, after which other threads get their turn."""

_ONCE = "ON CONFLICT (request_id) DO NOTHING"
_SPEND = ("window_id", "committed_micro", "since_s")
_COMMITTED = "ON CONFLICT (window_id) DO UPDATE SET committed_micro = spend.committed_micro + excluded.committed_micro"
_COUNTED = (
    "INSERT INTO spend (window_id, committed_micro, since_s) VALUES (?, ?, ?) ON CONFLICT (window_id)"
    " DO UPDATE SET committed_micro = excluded.committed_micro, since_s = excluded.since_s"
)
_Query = Callable[[str, Sequence[Any]], Rows]
_SCOPES = {"tenant": "tenant", "key": "key_id", "route": "route"}


_HOUR = ("hour", *DIMENSIONS, *MEASURES)
_DAY = ("day", *DIMENSIONS, *MEASURES)


def _added(table: str, period: str) -> str:
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in MEASURES)
    return f"ON CONFLICT ({', '.join((period, *DIMENSIONS))}) DO UPDATE SET {added}"


_HOUR_ADDED = _added("rollup_hour", "hour")
_DAY_ADDED = _added("rollup_day", "day")


class _Known(Exception):
    """Some of the rows were there already."""


class LedgerStore:
    """The ledger in a `Database`; see `gateway.ledger.schema` for its tables.

    `pause` is called after every `CHUNK` rows that are written.
    """

    def __init__(self, database: Database, pause: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._pause = pause

    def migrate(self) -> None:
        """Makes or upgrades the tables. Raises `DatabaseError`."""
        schema.migrate(self._database)

    def insert(self, charges: Iterable[Charge]) -> int:
        """Stores what is not stored yet, with its sums; how many that were. The same again changes nothing."""
        unique = {charge.row.request_id: charge for charge in charges}
        if not unique:
            return 0
        try:
            return self._insert(list(unique.values()))
        except _Known:
            fresh = [unique[request_id] for request_id in self._unknown(list(unique))]
        try:
            return self._insert(fresh) if fresh else 0
        except _Known as exc:
            raise DatabaseError("another writer stores the same requests; fix: one journal folder per process") from exc

    def _insert(self, charges: Sequence[Charge]) -> int:
        totals = Totals()
        with self._database.transaction() as cursor:
            for start in range(0, len(charges), CHUNK):
                chunk = charges[start : start + CHUNK]
                if cursor.insert("requests", Row._fields, [charge.row for charge in chunk], _ONCE) != len(chunk):
                    raise _Known
                for charge in chunk:
                    totals.add(charge)
                self._pause()
            for table, columns, sums, conflict in (
                ("rollup_hour", _HOUR, totals.hours(), _HOUR_ADDED),
                ("rollup_day", _DAY, totals.days(), _DAY_ADDED),
                ("spend", _SPEND, totals.windows(), _COMMITTED),
            ):
                for start in range(0, len(sums), CHUNK):
                    cursor.insert(table, columns, sums[start : start + CHUNK], conflict)
                    self._pause()
        return len(charges)

    def _unknown(self, ids: list[str]) -> list[str]:
        known: set[str] = set()
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            rows = self._database.query(f"SELECT request_id FROM requests WHERE request_id IN ({_marks(chunk)})", chunk)  # noqa: S608 - question marks only
            known.update(row[0] for row in rows)
        return [request_id for request_id in ids if request_id not in known]

    async def committed(self, windows: Sequence[Window]) -> list[int]:
        """Micro-USD that each window has committed by what is stored. Raises `DatabaseError`.

        A window that no row names yet, such as one of a new budget, begins with what its scope has spent since its
        start (but a tag's, whose roll-ups are not kept: 0); that is written down, and later rows add to it.
        """
        return await asyncio.to_thread(self._committed, windows)

    def _committed(self, windows: Sequence[Window]) -> list[int]:
        found = _counted(_spent(self._database.query, windows), windows)
        new = [window for window in windows if window.id not in found]
        if new:
            with self._database.transaction() as cursor:
                if self._database.dialect == "postgresql":  # SQLite's writers take turns anyway
                    cursor.execute("LOCK TABLE spend IN SHARE ROW EXCLUSIVE MODE")
                found |= _count(cursor, new)
        return [found[window.id] for window in windows]

    async def charged(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """What the requests have committed in their windows, and their tokens; without those that have no row.

        Raises `DatabaseError`.
        """
        return await asyncio.to_thread(self._charged, ids)

    def _charged(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        rows = self._database.query(
            "SELECT request_id, COALESCE(charged_micro, reserved_micro, 0),"  # noqa: S608 - question marks only
            " uncached_input + cache_read + cache_write_5m + cache_write_1h + output"
            f" FROM requests WHERE request_id IN ({_marks(ids)})",
            list(ids),
        )
        return {row[0]: (int(row[1]), int(row[2])) for row in rows}

    def counts(self) -> dict[str, int]:
        """Rows of `requests`, requests in the daily roll-ups, windows in `spend`. Scans: for checks only."""
        (requests, rolled_up, windows) = self._database.query(
            "SELECT (SELECT COUNT(*) FROM requests), (SELECT COALESCE(SUM(requests), 0) FROM rollup_day),"
            " (SELECT COUNT(*) FROM spend)"
        )[0]
        return {"requests": int(requests), "rolled_up": int(rolled_up), "windows": int(windows)}


def _counted(spent: Mapping[str, tuple[int, float]], windows: Sequence[Window]) -> dict[str, int]:
    """What `spent` has of those windows that it counts from their start on."""
    return {w.id: spent[w.id][0] for w in windows if w.id in spent and spent[w.id][1] <= w.starts_s}


def _count(cursor: Cursor, windows: Sequence[Window]) -> dict[str, int]:
    """Writes down from when on each window counts, unless another has meanwhile, and what it has committed."""
    before = _spent(cursor.execute, windows)
    counted = _counted(before, windows)
    scopes: dict[int, set[str]] = {}
    for window in windows:
        scopes.setdefault(window.starts_s, set()).add(window.budget.scope)
    since = {start_s: _since(cursor, names, start_s) for start_s, names in scopes.items()}
    rows = []
    for window in windows:
        if window.id not in counted:
            known, _ = before.get(window.id, (0, 0.0))
            counted[window.id] = max(known, since[window.starts_s].get(window.budget.scope, 0))
            rows.append((window.id, counted[window.id], window.starts_s))
    for start in range(0, len(rows), CHUNK):
        cursor.executemany(_COUNTED, rows[start : start + CHUNK])
    return counted


def _spent(query: _Query, windows: Sequence[Window]) -> dict[str, tuple[int, float]]:
    """What `spend` has of the windows, and since when."""
    ids = [window.id for window in windows]
    found: dict[str, tuple[int, float]] = {}
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        sql = f"SELECT window_id, committed_micro, since_s FROM spend WHERE window_id IN ({_marks(chunk)})"  # noqa: S608 - question marks only
        found.update((id_, (int(committed), float(since_s))) for id_, committed, since_s in query(sql, chunk))
    return found


def _since(cursor: Cursor, scopes: Iterable[str], starts_s: int) -> dict[str, int]:
    """What each scope has spent since `starts_s`: whole days, the hours before them, the rows before those.

    Scopes that have spent nothing may be missing.
    """
    first_hour = -(-starts_s // HOUR_S) * HOUR_S
    first_day = -(-starts_s // DAY_S) * DAY_S
    parts: tuple[tuple[str, str, int, int | None], ...] = (
        ("requests", "started_s", starts_s, first_hour),
        ("rollup_hour", "hour", first_hour, first_day),
        ("rollup_day", "day", first_day, None),
    )
    names: dict[str, list[str]] = {}
    for scope in scopes:
        kind, _, name = scope.partition(":")
        if kind in _SCOPES or kind == "all":
            names.setdefault(kind, []).append(name)
    spent: dict[str, int] = {}
    for (kind, every), (table, period, start, end) in itertools.product(names.items(), parts):
        if start == end:
            continue
        for sql, params, prefix in _sums(kind, every):
            until: tuple[Any, ...] = () if end is None else (end,)
            where = f"{period} >= ?" + (f" AND {period} < ?" if until else "")
            for name, micro_usd in cursor.execute(sql.format(table=table, where=where), (start, *until, *params)):
                spent[prefix + name] = spent.get(prefix + name, 0) + int(micro_usd)
    return spent


def _sums(kind: str, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str], str]]:
    """Statements that sum what scopes of one kind are charged, with their parameters and what begins the scopes."""
    charged = "COALESCE(SUM(charged_micro), 0) FROM {table} WHERE {where}"
    if kind == "all":
        yield f"SELECT 'all', {charged}", (), ""
        return
    column = _SCOPES[kind]
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        yield f"SELECT {column}, {charged} AND {column} IN ({_marks(chunk)}) GROUP BY {column}", chunk, f"{kind}:"


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
