"""SQLite in WAL mode: one writer at a time, readers beside it, also from other processes."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from gateway.database.port import Cursor, DatabaseError, Dialect, Rows

MOST_VALUES = 32_000
"""Values of one statement; SQLite's own limit is 32,766 since 3.32."""


class SqliteDatabase:
    """See `Database`. `path` is a file, made if its folder exists; a connection per thread for reads."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._writing = threading.Lock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._closed = False
        self._writer = self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
            )
            _write_ahead(connection, self._timeout_s)
            connection.execute("PRAGMA synchronous=FULL")  # a commit outlasts a power cut: a key's revocation, a row
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error as exc:
            raise DatabaseError(f"{self._path}: {exc}; fix: FARTHING_DATABASE or FARTHING_DATA_DIR") from exc
        self._all.append(connection)
        if self._closed:  # a thread that comes late must not open the file once more
            connection.close()
            raise DatabaseError(f"{self._path}: the database is closed")
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
                with contextlib.suppress(sqlite3.Error):  # a closed connection cannot even be asked
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
        self._closed = True
        for connection in list(self._all):
            connection.close()


def _write_ahead(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switches to WAL. For this one lock SQLite does not wait by itself, so two that make a file at once would fail."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                connection.close()
                raise
            time.sleep(0.005)
        else:
            return


class _SqliteCursor:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        return self._connection.execute(sql, params).fetchall()

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        return self._connection.executemany(sql, rows).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        # One statement for many rows: a third less work, and the interpreter's lock is let go once instead of per row.
        new, most = 0, MOST_VALUES // len(columns)
        for start in range(0, len(rows), most):
            chunk = rows[start : start + most]
            sql = _insert(table, tuple(columns), len(chunk), conflict)
            new += self._connection.execute(sql, [*chain.from_iterable(chunk)]).rowcount
        return new


@lru_cache(16)
def _insert(table: str, columns: tuple[str, ...], rows: int, conflict: str) -> str:
    values = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([values] * rows)} {conflict}"  # noqa: S608 - names of ours
