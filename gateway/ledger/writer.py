"""The way from the journal into the store: one thread that batches ended requests and gives up on none.

Decides when rows are written and what the journal may forget; knows neither SQL nor the format of a segment. In the
normal case a record goes from the event loop to the thread in memory, and the journal is only read again after a
restart, or when the store was away for longer than the queue is long.

Fails open for the store: while it is away the journal keeps filling and requests go on, until the journal is full.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.core.clock import Clock
from gateway.core.exchange import Admission, RequestRecord
from gateway.database import DatabaseError
from gateway.ledger.journal import Journal, JournalError, JournalInUse
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore

SYNC_EVERY_S = 1.0
LONGEST_PAUSE_S = 10.0
CHUNK = 50
"""Records turned into rows, or read from the journal, before the event loop gets its turn: under 1 ms."""

_log = logging.getLogger("farthing.ledger")
_End = Admission | RequestRecord


class Lag(NamedTuple):
    """How far the store is behind: rows that wait (without those of earlier processes), seconds since the oldest."""

    rows: int
    seconds: float


class LedgerWriter:
    """Takes admissions and records on the event loop, stores rows in a thread.

    `replay` once, then `start`, then `admit` and `close`, then `drain`. `queue_rows` bounds the memory; what is beyond
    it is read from the journal again.
    """

    def __init__(
        self,
        journal: Journal,
        store: LedgerStore,
        clock: Clock,
        *,
        queue_rows: int = 20_000,
        batch_rows: int = 2000,
        every_s: float = 0.25,
    ) -> None:
        self.journal = journal
        self._store = store
        self._clock = clock
        self._queue_rows = queue_rows
        self._batch_rows = batch_rows
        self._every_s = every_s
        self._mutex = threading.Lock()
        self._take, self._give = self._mutex.acquire, self._mutex.release  # on the path of requests: half of a `with`
        self._queue: deque[tuple[int, RequestRecord]] = deque()
        self._behind: int | None = journal.floor
        self._left: int = 0
        self.ended = 0
        """Requests that have ended so far; see `has_stored`."""
        self._oldest_left_s = 0.0
        self._reader: Iterator[tuple[int, _End | None]] | None = None
        self._batch: list[_End] = []
        self._batch_from = 0
        self._batch_to: int | None = None
        self._worker: threading.Thread | None = None
        self._nudge = threading.Event()
        self._give_up_at: float | None = None
        self._synced_at = 0.0
        self._refusing = False
        self.stored = 0
        self.store_errors = 0
        self.error: str | None = None
        """Why the store does not take rows just now; `None` while it does."""

    def admit(self, admission: Admission) -> None:
        """Durable when this returns. Raises `JournalError`: the request is refused, and the log says why, once."""
        try:
            self.journal.admit(admission)
        except JournalError as exc:
            if not self._refusing:
                _log.error("ledger: requests are refused: %s", exc.message)
            self._refusing = True
            raise JournalError("The request cannot be recorded now, so it was not sent. Try again.") from exc
        if self._refusing:
            self._refusing = False
            _log.warning("ledger: the journal takes requests again")

    def close(self, record: RequestRecord) -> None:
        """An admitted request has ended; its row follows. Never raises, never waits for the store."""
        self._take()
        try:
            position = self.journal.close(record)
            self.ended += 1
            if self._behind is None:
                if len(self._queue) < self._queue_rows:
                    self._queue.append((position, record))
                    return
                self._behind = position
                self._oldest_left_s = record.started_s + record.duration_s
            self._left += 1
        finally:
            self._give()

    def replay(self, progress: Callable[[int], None] | None = None) -> int:
        """Stores what earlier processes left in the journal; how many rows were new. Before anything is admitted.

        A request without an end becomes a row with outcome `crashed`. `progress` gets the number of rows so far. Raises
        `DatabaseError` when the store is away: what is missing then is stored after `start`, once it is back.
        """
        self.journal.recover()
        while self._batch or self._fill():
            self._step()
            if progress is not None:
                progress(self.stored)
        self._settle()
        return self.stored

    def start(self) -> None:
        """Starts the thread."""
        self._worker = threading.Thread(target=self._run, name="farthing-ledger", daemon=True)
        self._worker.start()

    def drain(self, timeout_s: float) -> bool:
        """Stores what waits, for at most about `timeout_s`, and ends; whether all is stored. The rest is replayed."""
        self._give_up_at = self._clock.monotonic() + timeout_s
        self._nudge.set()
        if self._worker is not None:
            self._worker.join(timeout_s + self._every_s)
            if self._worker.is_alive():  # inside a call to the database: it dies with the process
                self.journal.sync()
                return False
        self._settle()
        done = self._idle()
        self.journal.shut()
        return done

    def has_stored(self, ended: int) -> bool:
        """Whether the store has the first `ended` requests that ended, and all that earlier processes left."""
        with self._mutex:
            return self._behind is None and self.ended - len(self._queue) - len(self._batch) >= ended

    def hurry(self) -> None:
        """What waits is stored now instead of with the next batch. Does not wait for it."""
        self._nudge.set()

    def lag(self) -> Lag:
        """Rows and seconds that the store is behind."""
        oldest_s = None
        with contextlib.suppress(IndexError):
            oldest = self._batch[0] if self._batch else self._queue[0][1] if self._queue else None
            if oldest is not None:
                oldest_s = _ended_s(oldest)
            elif self._behind is not None:
                oldest_s = self._oldest_left_s
        rows = len(self._batch) + len(self._queue) + self._left
        return Lag(rows, 0.0 if oldest_s is None else max(0.0, self._clock.wall() - oldest_s))

    def _run(self) -> None:
        pause_s = 0.0
        while not self._finished():
            self._rest(pause_s)
            try:
                self._keep_journal()
                pause_s = 0.0 if self._step() else self._every_s
            except Exception as exc:  # noqa: BLE001 - the root of the thread: recorded, tried again
                pause_s = self._failed(exc, pause_s)
            else:
                if self.error is not None:
                    _log.warning("ledger: the store takes rows again")
                    self.error = None

    def _rest(self, pause_s: float) -> None:
        """Waits, and keeps the journal meanwhile; `drain` ends it."""
        until = self._clock.monotonic() + pause_s
        while (left_s := until - self._clock.monotonic()) > 0 and not self._nudge.wait(min(left_s, SYNC_EVERY_S)):
            self._keep_journal()
        self._nudge.clear()

    def _failed(self, exc: Exception, pause_s: float) -> float:
        """The pause before the next try: 0.5 s, doubled up to `LONGEST_PAUSE_S`."""
        self.store_errors += 1
        if self.error is None:
            _log.error(
                "ledger: rows wait in the journal: %s", exc, exc_info=None if isinstance(exc, DatabaseError) else exc
            )
            pause_s = 0.25
        self.error = str(exc)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        if self._give_up_at is not None:
            pause_s = min(pause_s, max(0.0, self._give_up_at - self._clock.monotonic()))
        return pause_s

    def _finished(self) -> bool:
        if self._give_up_at is None:
            return False
        return self._idle() or self._clock.monotonic() >= self._give_up_at

    def _idle(self) -> bool:
        return not (self._batch or self._queue or self._behind is not None or self.journal.unwritten)

    def _keep_journal(self) -> None:
        """About once a second: onto the disk, and off it what the store has."""
        now = self._clock.monotonic()
        if now - self._synced_at >= SYNC_EVERY_S:
            self._synced_at = now
            self.journal.retry()
            self.journal.sync()
            self._settle()

    def _settle(self) -> None:
        with self._mutex:
            if self._batch:
                stored = self._batch_from
            elif self._queue:
                stored = self._queue[0][0]
            else:
                stored = self.journal.position if self._behind is None else self._behind
        self.journal.settle(stored)

    def _step(self) -> bool:
        """Stores one batch; whether more is waiting. Raises `DatabaseError` and keeps the batch."""
        if not self._batch and not self._fill():
            return False
        stored = self._store.insert(build(self._batch, CHUNK, give_way))
        size, last = len(self._batch), self._batch[-1]
        with self._mutex:
            self.stored += stored
            self._batch = []
            if self._batch_to is not None:
                self._behind = self._batch_to
                self._oldest_left_s = _ended_s(last)
        return size >= self._batch_rows or self._behind is not None

    def _fill(self) -> bool:
        """Takes the next batch: from the queue, and once that is empty from the journal; whether there is one."""
        if self._queue:
            with self._mutex:
                taken = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_rows))]
                self._batch = [record for _, record in taken]
                self._batch_from, self._batch_to = taken[0][0], None
            return True
        while self._behind is not None:
            batch, to = self._read()
            if batch:
                with self._mutex:
                    self._batch, self._batch_from, self._batch_to = batch, self._behind, to
                    self._left = max(0, self._left - len(batch))
                return True
            self._behind = to
            if self._reader is None and not self._caught_up():
                return False
        return False

    def _read(self) -> tuple[list[_End], int]:
        """Up to a batch from the journal and the position behind it; leaves no reader when it came to the end."""
        assert self._behind is not None
        if self._reader is None:
            self._reader = self.journal.ends(self._behind)
        batch: list[_End] = []
        to = self._behind
        while len(batch) < self._batch_rows:
            entries = list(itertools.islice(self._reader, CHUNK))
            if not entries:
                self._reader = None
                break
            to = entries[-1][0]
            batch += [end for _, end in entries if end is not None]
            give_way()
        return batch, to

    def _caught_up(self) -> bool:
        """Whether it makes sense to go on at once: nothing is left, or more has come. False waits for the disk."""
        with self._mutex:
            if self._behind != self.journal.position:
                return True
            if self.journal.unwritten:
                return False
            self._behind, self._left = None, 0
            return True


class Abandoned(NamedTuple):
    """What `replay_abandoned` has found: rows that were new, folders it has stored, folders whose gateway runs."""

    rows: int
    stored: tuple[Path, ...]
    in_use: tuple[Path, ...]


def replay_abandoned(
    root: Path, store: LedgerStore, clock: Clock, stored_all: Callable[[Path], None] | None = None
) -> Abandoned:
    """Stores what processes that are gone have left in the journal folders at and below `root`.

    A replica that is not started again would owe its rows for ever otherwise. Folders in use are left alone.
    `stored_all` gets each other folder while it is locked: the store has all that its processes accepted. Raises
    `DatabaseError` and `JournalError`.
    """
    rows, done, in_use = 0, [], []
    for folder in sorted(path.parent for path in root.rglob("lock")):
        try:
            journal = Journal(folder)
        except JournalInUse:
            in_use.append(folder)
            continue
        try:
            rows += LedgerWriter(journal, store, clock).replay()
            if stored_all is not None:
                stored_all(folder)
        finally:
            journal.shut()
        done.append(folder)
    return Abandoned(rows, tuple(done), tuple(in_use))


def _ended_s(end: _End) -> float:
    return end.started_s + (end.duration_s if isinstance(end, RequestRecord) else 0.0)


def give_way() -> None:
    """Lets the event loop's thread have the interpreter; without a real pause it would wait up to 5 ms for it."""
    time.sleep(0.0001)
