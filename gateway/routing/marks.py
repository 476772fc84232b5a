"""Which calibrations live traffic has spoken against, in the ledger's database: for every replica, and after a restart.

Decides nothing. A mark names a calibration by its hash and stays; a new calibration has another hash.
"""

from typing import Final, Literal

import msgspec

from gateway.database import Database

_LOCK_ID: Final = 0x6661726E
_TABLE: Final = """CREATE TABLE IF NOT EXISTS routing_marks (
  hash TEXT NOT NULL PRIMARY KEY,
  route TEXT NOT NULL,
  kind TEXT NOT NULL,
  why TEXT NOT NULL,
  at_s DOUBLE PRECISION NOT NULL
)"""


class Mark(msgspec.Struct, frozen=True):
    """What is held against a calibration since `at_s` (Unix seconds): scores that moved, or labels that refute it."""

    hash: str
    route: str
    kind: Literal["stale", "refuted"]
    why: str
    at_s: float


class MarkStore:
    """The rows. All calls block, are safe from any thread and raise `DatabaseError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def migrate(self) -> None:
        """Makes the table."""
        with self._database.transaction() as cursor:
            if self._database.dialect == "postgresql":  # replicas that start together take turns
                cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK_ID,))
            cursor.execute(_TABLE)

    def add(self, mark: Mark) -> None:
        """Stores one; of several about one calibration the first stays."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO routing_marks (hash, route, kind, why, at_s) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (hash) DO NOTHING",
                msgspec.structs.astuple(mark),
            )

    def all(self) -> list[Mark]:
        """Every one, the oldest first."""
        rows = self._database.query("SELECT hash, route, kind, why, at_s FROM routing_marks ORDER BY at_s, hash")
        return [Mark(*row) for row in rows]
