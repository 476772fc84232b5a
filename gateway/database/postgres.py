"""PostgreSQL through psycopg: one connection for writes, one per thread for reads, opened again when they break."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg

from gateway.database.port import Cursor, DatabaseError, Dialect, Rows


class _Connection(psycopg.Connection[Any]):
    """Ends itself when an answer takes longer than `within_s`.

    The server's statement timeout does not run while the server is frozen, and the kernel of a frozen process still
    acknowledges what is sent to it, so that TCP's own timeouts never pass either.
    """

    within_s = 5.0
    late = False

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        try:
            return super().wait(_within(gen, time.monotonic() + self.within_s), *args, **options)
        except _Late as exc:
            self.late = True
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.within_s:g} s") from exc


class _Late(Exception):
    """The deadline of an answer has passed."""


def _within(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """`gen`, which psycopg wakes at least ten times a second, until `deadline`."""
    try:
        waits_for = next(gen)
        while True:
            ready = yield waits_for
            if not ready and time.monotonic() >= deadline:
                raise _Late
            waits_for = gen.send(ready)
    except StopIteration as done:
        return done.value


class PostgresDatabase:
    """See `Database`. A server that stops answering fails a call after about `timeout_s`, also a frozen one."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._where = f"PostgreSQL at {urlsplit(url).hostname or 'localhost'}"
        self._timeout_s = timeout_s
        self._writing = threading.Lock()
        self._local = threading.local()
        self._all: list[_Connection] = []
        self._closed = False
        self._writer: _Connection | None = self._connect()

    def _connect(self) -> _Connection:
        limit_ms = round(self._timeout_s * 1000)
        try:
            connection = _Connection.connect(
                self._url,
                autocommit=True,
                connect_timeout=max(2, round(self._timeout_s)),
                keepalives_idle=5,
                tcp_user_timeout=limit_ms,
                options=f"-c statement_timeout={limit_ms} -c idle_in_transaction_session_timeout={2 * limit_ms}",
                application_name="farthing",
            )
        except psycopg.Error as exc:
            what = " ".join(str(exc).split())
            raise DatabaseError(f"{self._where}: {what}; fix: start it, or correct FARTHING_DATABASE") from exc
        connection.within_s = self._timeout_s + 1.0  # the server's own timeout comes first: it keeps the connection
        self._all.append(connection)
        if self._closed:  # a thread that comes late must not stay connected
            self._drop(connection)
            raise DatabaseError(f"{self._where}: the database is closed")
        return connection

    def _drop(self, connection: _Connection | None) -> None:
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()
            with contextlib.suppress(ValueError):
                self._all.remove(connection)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """See `Database`."""
        with self._writing:
            if self._writer is None or self._writer.broken or self._writer.closed:
                self._drop(self._writer)
                self._writer = None
                self._writer = self._connect()
            connection = self._writer
            try:
                with connection.transaction(), connection.cursor() as cursor:
                    yield _PostgresCursor(cursor)
            except psycopg.Error as exc:
                if connection.broken or connection.closed:
                    self._drop(connection)
                    self._writer = None
                raise DatabaseError(f"{self._where}: {str(exc).strip()}") from exc

    def query(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """See `Database`. A connection that the server ended meanwhile is opened again; a late answer is not."""
        connection = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed:
            try:
                return self._read(connection, sql, params)
            except psycopg.Error as exc:
                if connection.late or not connection.closed:
                    raise DatabaseError(f"{self._where}: {str(exc).strip()}") from exc
        self._drop(connection)
        connection = self._local.connection = self._connect()
        try:
            return self._read(connection, sql, params)
        except psycopg.Error as exc:
            raise DatabaseError(f"{self._where}: {str(exc).strip()}") from exc

    def _read(self, connection: _Connection, sql: str, params: Sequence[Any]) -> Rows:
        return connection.execute(_placeholders(sql), params).fetchall()

    def close(self) -> None:
        """See `Database`."""
        self._closed = True
        for connection in list(self._all):
            self._drop(connection)


class _PostgresCursor:
    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self._cursor = cursor

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        self._cursor.execute(_placeholders(sql), params)
        return self._cursor.fetchall() if self._cursor.description is not None else []

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        self._cursor.executemany(_placeholders(sql), rows)
        return self._cursor.rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
        self._cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", rows)  # noqa: S608 - names of ours
        return self._cursor.rowcount


def _placeholders(sql: str) -> str:
    """The placeholders of psycopg; statements hold no literal question or percent marks."""
    return sql.replace("?", "%s")
