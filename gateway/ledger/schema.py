"""The tables of the ledger and how a database gets from one version of them to the next. Knows no row.

`requests` holds one line per accepted request; `rollup_hour` and `rollup_day` their sums, so that no report scans raw
rows; `spend` what each budget window has committed; `meta` which version the tables have.
"""

from collections.abc import Callable

from gateway.database import Cursor, Database, DatabaseError, Dialect
from gateway.ledger.rows import DIMENSIONS, MEASURES

VERSION = 3
_NAME = "ledger.schema_version"
_MIGRATION_LOCK = 0x6661727468696E67
"""Replicas that start together migrate one after the other (`pg_advisory_xact_lock`)."""

_REQUESTS = """
CREATE TABLE requests (
  request_id TEXT NOT NULL PRIMARY KEY,
  started_s DOUBLE PRECISION NOT NULL,
  ended_s DOUBLE PRECISION NOT NULL,
  tenant TEXT NOT NULL,
  key_id TEXT NOT NULL,
  tags TEXT NOT NULL,
  route TEXT NOT NULL,
  policy TEXT NOT NULL,
  dialect TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  target TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  stream INTEGER NOT NULL,
  status INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  error TEXT,
  cache TEXT NOT NULL,
  uncached_input BIGINT NOT NULL,
  cache_read BIGINT NOT NULL,
  cache_write_5m BIGINT NOT NULL,
  cache_write_1h BIGINT NOT NULL,
  output BIGINT NOT NULL,
  reasoning BIGINT NOT NULL,
  usage_source TEXT,
  reserved_micro BIGINT,
  charged_micro BIGINT,
  baseline_micro BIGINT,
  saved_cache BIGINT,
  saved_routing BIGINT,
  saved_compression BIGINT,
  waste_escalation BIGINT,
  waste_retries BIGINT,
  own_micro BIGINT,
  ttft_s DOUBLE PRECISION,
  duration_s DOUBLE PRECISION NOT NULL,
  attempts TEXT NOT NULL,
  windows TEXT NOT NULL,
  response_id TEXT,
  upstream_request_id TEXT
)"""


def _rollup(table: str, period: str, dialect: Dialect) -> str:
    dimensions = "".join(f"  {name} TEXT NOT NULL,\n" for name in DIMENSIONS)
    measures = "".join(f"  {name} BIGINT NOT NULL,\n" for name in MEASURES)
    key = ", ".join((period, *DIMENSIONS))
    kind = " WITHOUT ROWID" if dialect == "sqlite" else ""
    return f"CREATE TABLE {table} (\n  {period} BIGINT NOT NULL,\n{dimensions}{measures}  PRIMARY KEY ({key})\n){kind}"


def _first(cursor: Cursor, dialect: Dialect) -> None:
    cursor.execute(_REQUESTS)
    cursor.execute("CREATE INDEX requests_started ON requests (started_s)")
    cursor.execute(_rollup("rollup_hour", "hour", dialect))
    cursor.execute(_rollup("rollup_day", "day", dialect))
    cursor.execute(
        "CREATE TABLE spend (window_id TEXT NOT NULL PRIMARY KEY, committed_micro BIGINT NOT NULL,"
        " since_s DOUBLE PRECISION NOT NULL)"
    )


def _second(cursor: Cursor, _: Dialect) -> None:
    """What a routed request was chosen by, and the conversation that it belongs to."""
    for column in (
        "session TEXT",
        "route_tier TEXT",
        "route_score DOUBLE PRECISION",
        "route_threshold DOUBLE PRECISION",
        "route_strong INTEGER",
    ):
        cursor.execute(f"ALTER TABLE requests ADD COLUMN {column}")


def _third(cursor: Cursor, _: Dialect) -> None:
    """Which certificate and which head a routed request was chosen by."""
    for column in ("route_certificate TEXT", "route_scorer TEXT"):
        cursor.execute(f"ALTER TABLE requests ADD COLUMN {column}")


MIGRATIONS: tuple[Callable[[Cursor, Dialect], None], ...] = (_first, _second, _third)
"""What makes version n + 1 out of version n."""


def migrate(database: Database) -> None:
    """Brings the tables to `VERSION`, all or nothing. Raises `DatabaseError` when a newer version made them."""
    with database.transaction() as cursor:
        if database.dialect == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATION_LOCK,))
        cursor.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
        rows = cursor.execute("SELECT value FROM meta WHERE name = ?", (_NAME,))
        found = int(rows[0][0]) if rows else 0
        if found > VERSION:
            raise DatabaseError(
                f"the ledger's tables have version {found}, this gateway knows {VERSION}; fix: upgrade it"
            )
        for step in MIGRATIONS[found:]:
            step(cursor, database.dialect)
        cursor.execute(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (_NAME, str(VERSION)),
        )
