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
CACHE_KIB = 16_384
"""Pages that the writer keeps: with thousands of keys in use, their sums lie on more than SQLite's own 2 MiB."""
KEPT = 100
"""Insertions after which the columns that are alike are looked for anew."""


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
        self._writer.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        self._columns: dict[str, _Columns] = {}

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
                    yield _SqliteCursor(self._writer, self._columns)
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


class _Columns:
    """Which columns of one table had the same value in all rows of a statement, of late."""

    def __init__(self) -> None:
        self._alike: tuple[bool, ...] = ()
        self._left = 0

    def alike(self, by_column: Sequence[Sequence[Any]]) -> tuple[bool, ...]:
        """Columns of which every value equals the first; never the first column, as a statement needs one that differs.

        Seldom tells of others than the time before, since each set is a statement to be prepared: a column that has
        differed is told as such for the next `KEPT` times, whatever it holds.
        """
        self._left -= 1
        if self._left < 0 or len(self._alike) != len(by_column):
            self._alike, self._left = (False, *[True] * (len(by_column) - 1)), KEPT
        found = [
            same and values.count(values[0]) == len(values) for same, values in zip(self._alike, by_column, strict=True)
        ]
        self._alike = tuple(found)
        return self._alike


class _SqliteCursor:
    def __init__(self, connection: sqlite3.Connection, columns: dict[str, _Columns]) -> None:
        self._connection = connection
        self._columns = columns

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        return self._connection.execute(sql, params).fetchall()

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        return self._connection.executemany(sql, rows).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        # The driver takes 400 instructions to bind a number, 1,100 for a text and 3,600 for None, SQLite itself 100 to
        # 200 for a value that it has: what is alike in all rows is bound once. And one statement for many rows lets the
        # interpreter's lock go once instead of per row.
        if not rows:
            return 0
        by_column = list(zip(*rows, strict=True))
        alike = self._columns.setdefault(table, _Columns()).alike(by_column)
        once = [values[0] for values, same in zip(by_column, alike, strict=True) if same]
        each = list(zip(*[values for values, same in zip(by_column, alike, strict=True) if not same], strict=True))
        new, start = 0, 0
        for count in _counts(len(rows), MOST_VALUES // len(columns)):
            sql = _insert(table, tuple(columns), alike, count, conflict)
            values = [*once, *chain.from_iterable(each[start : start + count])]
            new += self._connection.execute(sql, values).rowcount
            start += count
        return new


def _counts(rows: int, most: int) -> Iterator[int]:
    """Parts of `rows`, each a power of two up to `most`: few statements to be prepared, whatever comes."""
    while rows:
        count = 1 << min(rows, most).bit_length() - 1
        yield count
        rows -= count


@lru_cache(256)
def _insert(table: str, columns: tuple[str, ...], alike: tuple[bool, ...], rows: int, conflict: str) -> str:
    """A statement that takes the values of the columns that are `alike` once, then the others' of each row."""
    shared = [name for name, same in zip(columns, alike, strict=True) if same]
    names = [*shared, *(name for name, same in zip(columns, alike, strict=True) if not same)]
    each = f"({', '.join('?' * (len(names) - len(shared)))})"
    taken = f"SELECT {'?, ' * len(shared)}own.* FROM (VALUES {', '.join([each] * rows)}) AS own WHERE TRUE"  # noqa: S608 - names of ours
    return f"INSERT INTO {table} ({', '.join(names)}) {taken} {conflict}"
