"""What both databases can do, and which one a URL means."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from gateway.core.errors import GatewayError

Dialect = Literal["sqlite", "postgresql"]
Rows = list[tuple[Any, ...]]


class DatabaseError(GatewayError):
    """The database cannot be reached or refuses; the message says what and, where it is known, the fix."""

    status = 503
    code = "database_unavailable"
    retryable = True


class Cursor(Protocol):
    """Statements inside one transaction."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """The rows, empty for statements that return none."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Runs `sql` for each of `rows`; the number of rows changed in all."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        """Inserts `rows` of `columns`, `conflict` being an ON CONFLICT clause; how many rows were new."""
        ...


class Database(Protocol):
    """Connections to one database, safe to use from any thread; writers take turns."""

    dialect: Dialect

    def transaction(self) -> AbstractContextManager[Cursor]:
        """A write transaction: committed at the end of the block, rolled back by an exception."""
        ...

    def query(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """Reads one consistent snapshot; does not wait for writers."""
        ...

    def close(self) -> None:
        """Ends all connections; the database cannot be used any more."""
        ...


def open_database(url: str, *, timeout_s: float = 5.0) -> Database:
    """The database at `sqlite:///PATH` (three slashes and a path, four for an absolute one) or `postgresql://...`.

    Each call to it fails with `DatabaseError` after about `timeout_s`. Raises `DatabaseError` for another scheme, a
    folder that does not exist, a missing driver or a server that does not answer.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        from gateway.database.sqlite import SqliteDatabase  # noqa: PLC0415 - one of the two

        return SqliteDatabase(url.removeprefix("sqlite:///"), timeout_s)
    if scheme in ("postgresql", "postgres"):
        try:
            from gateway.database.postgres import PostgresDatabase  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise DatabaseError("PostgreSQL needs its driver; fix: pip install 'farthing[postgres]'") from exc
        return PostgresDatabase(url, timeout_s)
    raise DatabaseError(f"{scheme or url!r} is no database; fix: sqlite:///PATH or postgresql://HOST/NAME")
