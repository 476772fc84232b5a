"""What live traffic teaches about the cache: would serving the neighbour's answer have been wrong? No text is kept.

Rows of the route's requests, in the ledger's database: a score (none where there was no neighbour), a loss of 0 or 1,
and the weight with which the row stands for others. `farthing calibrate cache` certifies thresholds from them; those
that were sampled by the request's id alone keep a certificate under watch. Fails open: rows that cannot be stored are
dropped and counted, which delays a certificate and proves nothing.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from gateway.database import Database, DatabaseError

UNSURE = -1
"""The loss of a pair of answers that could not be judged."""
FLUSH_S = 2.0
MOST_WAITING = 10_000

log = logging.getLogger("farthing.cache")

_LOCK_ID = 0x6661726C
_TABLE = """CREATE TABLE IF NOT EXISTS cache_labels (
  at_s DOUBLE PRECISION NOT NULL,
  route TEXT NOT NULL,
  models TEXT NOT NULL,
  request TEXT NOT NULL,
  entry TEXT,
  score DOUBLE PRECISION,
  loss INTEGER NOT NULL,
  weight DOUBLE PRECISION NOT NULL,
  sampled INTEGER NOT NULL
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS cache_labels_route ON cache_labels (route, at_s)"
_INSERT = "INSERT INTO cache_labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Label(msgspec.Struct, frozen=True, array_like=True):
    """One request of a route, or `weight` of them that had no neighbour.

    `score` is the verifier's, `None` without a neighbour. `loss` is 1 where serving the neighbour's answer would have
    been (or was) wrong, `UNSURE` where that cannot be said; `entry` is that neighbour. `models` names encoder and
    verifier. `sampled` says that the row was chosen by the request's id alone: then `loss` is of what was served, 0 for
    a miss.
    """

    at_s: float
    route: str
    models: str
    request: str
    entry: str | None
    score: float | None
    loss: int
    weight: float
    sampled: bool = False


class LabelStore:
    """The rows in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def migrate(self) -> None:
        """Makes the table. Raises `DatabaseError`."""
        with self._database.transaction() as cursor:
            if self._database.dialect == "postgresql":  # replicas that start together take turns
                cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK_ID,))
            cursor.execute(_TABLE)
            cursor.execute(_INDEX)

    def add(self, labels: Sequence[Label]) -> None:
        """Stores rows. Raises `DatabaseError`."""
        rows = [
            (x.at_s, x.route, x.models, x.request, x.entry, x.score, x.loss, x.weight, int(x.sampled)) for x in labels
        ]
        with self._database.transaction() as cursor:
            cursor.executemany(_INSERT, rows)

    def of(self, route: str, models: str, since_s: float, *, sampled: bool) -> list[Label]:
        """The rows of a route under these models, the oldest first. Raises `DatabaseError`."""
        rows = self._database.query(
            "SELECT at_s, route, models, request, entry, score, loss, weight, sampled FROM cache_labels"
            " WHERE route = ? AND models = ? AND at_s >= ? AND sampled = ? ORDER BY at_s, request",
            (route, models, since_s, int(sampled)),
        )
        return [msgspec.convert([*row[:8], bool(row[8])], Label) for row in rows]

    def routes(self) -> list[tuple[str, str, float]]:
        """(route, models, number of requests) of everything that has labels."""
        rows = self._database.query(
            "SELECT route, models, SUM(weight) FROM cache_labels WHERE sampled = 0 GROUP BY route, models"
            " ORDER BY route, models"
        )
        return [(route, models, float(count)) for route, models, count in rows]

    def forget(self, before_s: float) -> None:
        """Removes old rows. Raises `DatabaseError`."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM cache_labels WHERE at_s < ?", (before_s,))


class Labels:
    """Collects rows and stores them in batches, in a thread; without a `store` they are only counted."""

    def __init__(self, store: LabelStore | None, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._waiting: list[Label] = []
        self._alone: Counter[tuple[str, str]] = Counter()
        self.right: Counter[str] = Counter()
        """Labels by route that said: the same answer."""
        self.wrong: Counter[str] = Counter()
        self.unsure: Counter[str] = Counter()
        """Pairs of answers that could not be judged."""
        self.dropped = 0

    def note(self, label: Label) -> None:
        """Keeps a row."""
        if not label.sampled and label.score is not None:
            counts = self.unsure if label.loss == UNSURE else self.wrong if label.loss else self.right
            counts[label.route] += 1
        if self._store is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(label)

    def alone(self, route: str, models: str) -> None:
        """One more request that had no neighbour."""
        self._alone[route, models] += 1

    async def run(self) -> None:
        """Stores until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Stores what waits; what cannot be stored waits on."""
        if self._store is None:
            self._alone.clear()
            return
        now, alone = self._wall(), self._alone
        self._alone = Counter()
        rows = [Label(now, route, models, "", None, None, 0, float(n)) for (route, models), n in alone.items()]
        batch, self._waiting = [*self._waiting, *rows], []
        if not batch:
            return
        try:
            await asyncio.to_thread(self._store.add, batch)
        except DatabaseError as exc:
            log.warning("labels of the cache wait: %s", exc.message)
            self._waiting = [*batch, *self._waiting][:MOST_WAITING]

    async def forget(self, older_s: float) -> None:
        """Removes rows that are older; a database that is away keeps them until the next time."""
        if self._store is not None:
            with contextlib.suppress(DatabaseError):
                await asyncio.to_thread(self._store.forget, self._wall() - older_s)


def weights(labels: Sequence[Label]) -> tuple[list[float], list[float], list[float]]:
    """Scores, losses and weights as a calibration wants them: rows without a neighbour score -inf, one row each.

    None may be `UNSURE`: what they are to count as is the caller's decision.
    """
    scores: list[float] = []
    losses: list[float] = []
    shares: list[float] = []
    for label in labels:
        if label.score is None:
            count = round(label.weight)
            scores += [-math.inf] * count
            losses += [0.0] * count
            shares += [1.0] * count
        else:
            scores.append(label.score)
            losses.append(float(label.loss))
            shares.append(label.weight)
    return scores, losses, shares
