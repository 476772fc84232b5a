"""PostgreSQL through psycopg: one connection for writes, one per thread for reads, opened again when they break."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg

from gateway.database.port import Cursor, DatabaseError, Dialect, Rows


class PostgresDatabase:
    """See `Database`. A server that stops answering fails a call after about `timeout_s`, also a frozen one."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._where = f"PostgreSQL at {urlsplit(url).hostname or 'localhost'}"
        self._timeout_s = timeout_s
        self._writing = threading.Lock()
        self._local = threading.local()
        self._all: list[psycopg.Connection[Any]] = []
        self._writer: psycopg.Connection[Any] | None = self._connect()

    def _connect(self) -> "psycopg.Connection[Any]":
        try:
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=max(2, round(self._timeout_s)),
                keepalives_idle=5,
                tcp_user_timeout=round(self._timeout_s * 1000),
                options=f"-c statement_timeout={round(self._timeout_s * 1000)}",
                application_name="farthing",
            )
        except psycopg.Error as exc:
            raise DatabaseError(f"{self._where}: {str(exc).strip()}") from exc
        self._all.append(connection)
        return connection

    def _drop(self, connection: "psycopg.Connection[Any] | None") -> None:
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
        """See `Database`."""
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.broken or connection.closed:
            self._drop(connection)
            connection = self._local.connection = self._connect()
        try:
            return connection.execute(_placeholders(sql), params).fetchall()
        except psycopg.Error as exc:
            raise DatabaseError(f"{self._where}: {str(exc).strip()}") from exc

    def close(self) -> None:
        """See `Database`."""
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


def _placeholders(sql: str) -> str:
    """The placeholders of psycopg; statements hold no literal question or percent marks."""
    return sql.replace("?", "%s")
