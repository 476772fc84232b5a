"""The embedded cache's SQLite file: written in batches beside the event loop, read once at the start.

A crash may lose the puts of the last moments; a delete is durable before it is acknowledged. Fails open: a file that
cannot be read is moved aside, one that cannot be written is reported once, and the cache goes on in memory. Knows no
scopes and evicts nothing.
"""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from gateway.cache.entry import Entry
from gateway.cache.store import StoreError
from gateway.database import Database, DatabaseError, open_database

log = logging.getLogger("farthing.cache")

LINGER_S = 0.2
"""How long a put waits for others to be committed with."""
BACKLOG = 10_000
"""Puts that may wait to be written; what comes on top is kept in memory only, and gone after a restart."""
PAGE = 500
_NEVER = 2**62
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Row = tuple[int, float, bytes, bytes | None]
"""Serial number, expiry in Unix seconds, the entry as MessagePack, the vector as float32 bytes."""


class CacheFile:
    """Entries by serial number. All calls block."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises `DatabaseError` when it cannot, `Corrupt` when it is no such file."""
        with _corruption():
            self._database: Database = open_database(f"sqlite:///{path}")
            try:
                with self._database.transaction() as cursor:
                    cursor.execute(
                        "CREATE TABLE IF NOT EXISTS entries_1 (seq INTEGER PRIMARY KEY, expires_s DOUBLE PRECISION "
                        "NOT NULL, entry BLOB NOT NULL, vector BLOB)"
                    )
            except BaseException:
                self._database.close()
                raise

    def newest_first(self) -> Iterator[Row]:
        """All rows. Raises `Corrupt` where the file is damaged."""
        before = _NEVER
        while True:
            with _corruption():
                rows = self._database.query(
                    "SELECT seq, expires_s, entry, vector FROM entries_1 WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                    (before, PAGE),
                )
            yield from rows
            if len(rows) < PAGE:
                return
            before = rows[-1][0]

    def write(self, puts: Iterable[Row], deletes: Iterable[int]) -> None:
        """All of it, durably, or nothing."""
        with self._database.transaction() as cursor:
            cursor.executemany("DELETE FROM entries_1 WHERE seq = ?", [(seq,) for seq in deletes])
            cursor.executemany("INSERT INTO entries_1 (seq, expires_s, entry, vector) VALUES (?, ?, ?, ?)", puts)

    def drop_before(self, seq: int) -> None:
        """Forgets all rows with a lower number."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM entries_1 WHERE seq < ?", (seq,))

    def close(self) -> None:
        """Ends all connections."""
        self._database.close()


class Corrupt(Exception):
    """The file's content is damaged or no database."""


class _corruption:  # noqa: N801 - reads as a statement
    """Turns the database's error about damage into `Corrupt`."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        cause = error.__cause__ if isinstance(error, DatabaseError) else None
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
            raise Corrupt(str(cause)) from error


def set_aside(path: Path, why: object) -> None:
    """Renames a damaged file, and its log, to `NAME.corrupt`; an earlier one of that name is lost."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    aside = path.with_name(path.name + ".corrupt")
    path.replace(aside)
    log.warning("the cache's file is damaged (%s): moved to %s, the cache starts empty", why, aside)


class Saver:
    """Keeps a `CacheFile` in step with what is in memory. Called on one event loop; only `write` runs beside it."""

    def __init__(self, file: CacheFile, seqs: dict[str, int]) -> None:
        """`seqs` are the ids that the file holds already, with their serial numbers."""
        self._file = file
        self._seqs = seqs
        self._next = max(seqs.values(), default=0) + 1
        self._puts: dict[int, Row] = {}
        self._deletes: set[int] = set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1, "cache-file")
        self._failing = False
        self.failures = 0
        """Batches that could not be written."""
        self.skipped = 0
        """Puts for which the backlog had no room."""

    def keep(self, entry: Entry, vector: bytes | None) -> None:
        """The entry will be in the file."""
        self.forget(entry.id)
        if len(self._puts) >= BACKLOG:
            self.skipped += 1
            return
        seq, self._next = self._next, self._next + 1
        self._seqs[entry.id] = seq
        self._puts[seq] = (seq, entry.expires_s, msgspec.msgpack.encode(entry), vector)
        self._wake()

    def forget(self, id_: str) -> None:
        """The entry will not be in the file; one that is not there is no error."""
        seq = self._seqs.pop(id_, None)
        if seq is not None and self._puts.pop(seq, None) is None:
            self._deletes.add(seq)
            self._wake()

    async def flush(self) -> None:
        """What was asked for before is durable. Raises `StoreError` when it cannot be; deletes are tried again."""
        self._hurry.set()
        while self._puts or self._deletes or self._task is not None:
            self._wake()
            assert self._task is not None
            before = self.failures
            await asyncio.wait([self._task])
            if self.failures > before:
                raise StoreError("the cache's file cannot be written")
        self._hurry.clear()

    async def aclose(self) -> None:
        """Writes what is left and closes the file; what cannot be written is lost."""
        try:
            await self.flush()
        except StoreError:
            log.warning("the cache's last answers were not written to its file")
        self._pool.shutdown()
        self._file.close()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """One batch after the other until nothing is left; gives up at the first that fails."""
        while self._puts or self._deletes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._hurry.wait()
            puts, deletes = list(self._puts.values()), list(self._deletes)
            self._puts, self._deletes = {}, set()
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool, self._file.write, puts, deletes)
            except DatabaseError as exc:
                self._failed(exc, deletes)
                break
            if self._failing:
                self._failing = False
                log.info("the cache's file is written again")
        self._task = None

    def _failed(self, error: DatabaseError, deletes: list[int]) -> None:
        self.failures += 1
        self._deletes |= set(deletes)
        if not self._failing:
            self._failing = True
            log.warning("the cache's file cannot be written, new answers are kept in memory only: %s", error)


class Loaded:
    """What a file held at the start."""

    def __init__(self) -> None:
        self.seqs: dict[str, int] = {}
        self.dropped = 0
        self.took_s = 0.0


def load(file: CacheFile, now: float, keep: Callable[[Entry, bytes | None], bool]) -> Loaded:
    """Hands each entry that has not expired to `keep`, the newest first, until it returns False.

    Rows that are older than the last one kept, and rows that this version cannot read, are removed from the file.
    """
    begun = time.perf_counter()
    loaded = Loaded()
    useless: list[int] = []
    decode = msgspec.msgpack.Decoder(Entry).decode
    for seq, expires_s, blob, vector in file.newest_first():
        try:
            entry = decode(blob) if expires_s > now else None
        except msgspec.DecodeError:
            entry = None
        if entry is None:
            useless.append(seq)
        elif keep(entry, vector):
            loaded.seqs[entry.id] = seq
        else:
            file.drop_before(seq + 1)
            break
    file.write([], useless)
    loaded.dropped = len(useless)
    loaded.took_s = time.perf_counter() - begun
    return loaded
