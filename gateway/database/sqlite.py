"""SQLite in WAL mode: one writer at a time, readers beside it, also from other processes."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gateway.database.port import Cursor, DatabaseError, Dialect, Rows


class SqliteDatabase:
    """See `Database`. `path` is a file, made if its folder exists; a connection per thread for reads."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._writing = threading.Lock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._writer = self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # a power cut loses the last commits: the journal has them
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error as exc:
            raise DatabaseError(f"{self._path}: {exc}") from exc
        self._all.append(connection)
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """See `Database`."""
        with self._writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield _SqliteCursor(self._writer)
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
                self._writer.execute("COMMIT")
            except sqlite3.Error as exc:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise DatabaseError(f"{self._path}: {exc}") from exc

    def query(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """See `Database`."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        try:
            return connection.execute(sql, params).fetchall()
        except sqlite3.Error as exc:
            raise DatabaseError(f"{self._path}: {exc}") from exc

    def close(self) -> None:
        """See `Database`."""
        for connection in self._all:
            connection.close()


class _SqliteCursor:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        return self._connection.execute(sql, params).fetchall()

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        return self._connection.executemany(sql, rows).rowcount
