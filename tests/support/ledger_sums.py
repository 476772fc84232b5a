"""What roll-ups and budgets must say, worked out from the raw rows alone, by SQL and plain sums."""

import json
from collections import defaultdict

from gateway.database import Database
from gateway.ledger.rows import DIMENSIONS, MEASURES

_MEASURED = (
    "COUNT(*)",
    "SUM(uncached_input)",
    "SUM(cache_read)",
    "SUM(cache_write_5m + cache_write_1h)",
    "SUM(output)",
    "SUM(reasoning)",
    "COALESCE(SUM(charged_micro), 0)",
    "SUM(CASE WHEN charged_micro IS NULL THEN 1 ELSE 0 END)",
    "SUM(CASE WHEN usage_source = 'estimated' THEN 1 ELSE 0 END)",
    "COALESCE(SUM(baseline_micro), 0)",
    "COALESCE(SUM(saved_cache), 0)",
    "COALESCE(SUM(saved_routing), 0)",
    "COALESCE(SUM(saved_compression), 0)",
    "COALESCE(SUM(waste_escalation), 0)",
    "COALESCE(SUM(waste_retries), 0)",
    "COALESCE(SUM(own_micro), 0)",
    "SUM(CAST(ROUND(duration_s * 1000) AS BIGINT))",
    "SUM(COALESCE(CAST(ROUND(ttft_s * 1000) AS BIGINT), 0))",
    "COUNT(ttft_s)",
)


def raw_sums(database: Database, period_s: int) -> list[tuple]:
    """The lines of a roll-up by periods of that many seconds."""
    period = f"CAST(FLOOR(started_s / {period_s}) AS BIGINT) * {period_s}"
    dimensions = ", ".join(DIMENSIONS)
    sql = f"SELECT {period}, {dimensions}, {', '.join(_MEASURED)} FROM requests GROUP BY {period}, {dimensions}"
    return sorted(tuple(map(plain, row)) for row in database.query(sql))


def rolled_up(database: Database, table: str, period: str) -> list[tuple]:
    columns = ", ".join((period, *DIMENSIONS, *MEASURES))
    return sorted(tuple(map(plain, row)) for row in database.query(f"SELECT {columns} FROM {table}"))


def raw_spend(database: Database) -> dict[str, int]:
    """What each window has committed: charges, and reservations where the price is unknown."""
    spent: dict[str, int] = defaultdict(int)
    for windows, charged, reserved in database.query("SELECT windows, charged_micro, reserved_micro FROM requests"):
        for window in json.loads(windows):
            spent[window] += charged if charged is not None else reserved or 0
    return dict(spent)


def spend(database: Database) -> dict[str, int]:
    return dict(database.query("SELECT window_id, committed_micro FROM spend"))


def plain(value):
    """PostgreSQL sums BIGINT to NUMERIC."""
    return value if isinstance(value, str) else int(value)


def check(database: Database) -> None:
    """The sums of the ledger are those of its rows."""
    assert rolled_up(database, "rollup_hour", "hour") == raw_sums(database, 3600)
    assert rolled_up(database, "rollup_day", "day") == raw_sums(database, 86400)
    assert spend(database) == raw_spend(database)
