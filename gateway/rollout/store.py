"""Where rollouts are kept: what operators asked for, every policy that was in force, and what each gateway reports.

Decides nothing: changes come as functions of the state. A policy is kept as what it was compiled from, which holds
references to secrets and no secret; comments are left out. All calls block. Raises `DatabaseError`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.database import Cursor, Database
from gateway.rollout.state import State
from gateway.rollout.tally import Counts

MOST_POLICIES = 50
FORGET_S = 7 * 86_400.0
"""Reports of gateways that have not been heard of for so long are deleted."""
_LOCK_ID = 0x6661726F  # of PostgreSQL's advisory lock while tables are made
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS rollout_state (id INTEGER PRIMARY KEY, version BIGINT NOT NULL, state TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS rollout_policies (
        hash TEXT PRIMARY KEY, documents TEXT NOT NULL, kept_s DOUBLE PRECISION NOT NULL, first_s DOUBLE PRECISION,
        last_s DOUBLE PRECISION)""",
    """CREATE TABLE IF NOT EXISTS rollout_reports (
        id TEXT PRIMARY KEY, seen_s DOUBLE PRECISION NOT NULL, report TEXT NOT NULL)""",
)


class Kept(msgspec.Struct, frozen=True):
    """A policy that was in force: first when, and when it last came into force, in Unix seconds."""

    hash: str
    first_s: float
    last_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway does. `version` is of the state that it follows; `files` the policy on its disk.

    `candidate` is on trial there; `declared` the id of the file's rollout that runs. `errors` say what of the state it
    cannot do. `fits` and `candidate_fits` say by which certificate each route decides, in force and on trial, while
    something is on trial. `trial` names what `counts` are of. Times are Unix seconds; `seen_s` 0: it has ended.
    """

    gateway: str
    seen_s: float
    version: int
    in_force: str
    since_s: float
    files: str
    candidate: str | None = None
    mode: str | None = None
    share: float | None = None
    declared: str | None = None
    errors: tuple[str, ...] = ()
    fits: tuple[str, ...] = ()
    candidate_fits: tuple[str, ...] = ()
    trial: str | None = None
    counts: Counts = Counts()


class RolloutStore:
    """See the module. Makes its tables where they are missing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as cursor:
            if database.dialect == "postgresql":  # CREATE IF NOT EXISTS of two replicas at once may fail there
                cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK_ID,))
            for statement in _SCHEMA:
                cursor.execute(statement)
            cursor.execute(
                "INSERT INTO rollout_state (id, version, state) VALUES (1, 0, ?) ON CONFLICT (id) DO NOTHING",
                (_text(State()),),
            )

    def version(self) -> int:
        """The counter that every change moves."""
        return int(self._database.query("SELECT version FROM rollout_state WHERE id = 1")[0][0])

    def state(self) -> State:
        """As it is."""
        return _state(self._database.query("SELECT version, state FROM rollout_state WHERE id = 1"))

    def policy(self, hash_: str) -> bytes | None:
        """The text that a kept policy is compiled from; see `gateway.policy.load.document_from_stored`."""
        rows = self._database.query("SELECT documents FROM rollout_policies WHERE hash = ?", (hash_,))
        return rows[0][0].encode() if rows else None

    def came_into_force(self, hash_: str, text: bytes, now: float) -> None:
        """Keeps a policy that serves from now on."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO rollout_policies (hash, documents, kept_s, first_s, last_s) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (hash) DO UPDATE SET documents = excluded.documents, kept_s = excluded.kept_s, "
                "first_s = COALESCE(rollout_policies.first_s, excluded.first_s), last_s = excluded.last_s",
                (hash_, text.decode(), now, now, now),
            )
            _forget(cursor)

    def keep(self, hash_: str, text: bytes, now: float) -> None:
        """Keeps a policy that rollout.yaml puts on trial."""
        with self._database.transaction() as cursor:
            keep_candidate(cursor, hash_, text, now)

    def history(self) -> list[Kept]:
        """The policies that were in force, the last one first."""
        rows = self._database.query(
            "SELECT hash, first_s, last_s FROM rollout_policies WHERE last_s IS NOT NULL ORDER BY last_s DESC, hash"
        )
        return [Kept(*row) for row in rows]

    def report(self, id_: str, report: Report) -> None:
        """What the gateway `id_` does now, in place of what it said before."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO rollout_reports (id, seen_s, report) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET seen_s = excluded.seen_s, report = excluded.report",
                (id_, report.seen_s, _text(report)),
            )

    def reports(self) -> list[Report]:
        """Of every gateway that is known, by name, ended ones too."""
        rows = self._database.query("SELECT report FROM rollout_reports ORDER BY id")
        found = [msgspec.json.decode(text, type=Report) for (text,) in rows]
        return sorted(found, key=lambda report: report.gateway)


def keep_candidate(cursor: Cursor, hash_: str, text: bytes, now: float) -> None:
    """Keeps a policy that is put on trial, in the transaction that does it."""
    cursor.execute(
        "INSERT INTO rollout_policies (hash, documents, kept_s) VALUES (?, ?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET documents = excluded.documents, kept_s = excluded.kept_s",
        (hash_, text.decode(), now),
    )


def change(cursor: Cursor, how: Callable[[State], State], now: float) -> tuple[State, State]:
    """The state before and after `how`, which is durable with the transaction; changes take turns."""
    cursor.execute("UPDATE rollout_state SET version = version WHERE id = 1")  # locks it, on PostgreSQL too
    before = _state(cursor.execute("SELECT version, state FROM rollout_state WHERE id = 1"))
    after = msgspec.structs.replace(how(before), version=before.version + 1)
    cursor.execute("UPDATE rollout_state SET version = ?, state = ? WHERE id = 1", (after.version, _text(after)))
    cursor.execute("DELETE FROM rollout_reports WHERE seen_s < ? AND seen_s > 0", (now - FORGET_S,))
    return before, after


def _forget(cursor: Cursor) -> None:
    """Drops the oldest policies beyond `MOST_POLICIES`, but none that the state names."""
    state = _state(cursor.execute("SELECT version, state FROM rollout_state WHERE id = 1"))
    named = [
        state.trial.candidate if state.trial is not None else "",
        state.pin.policy if state.pin is not None else "",
    ]
    cursor.execute(
        "DELETE FROM rollout_policies WHERE hash <> ? AND hash <> ? AND hash NOT IN "
        "(SELECT hash FROM rollout_policies ORDER BY kept_s DESC LIMIT ?)",
        (*named, MOST_POLICIES),
    )


def _state(rows: list[tuple[Any, ...]]) -> State:
    version, text = rows[0]
    return msgspec.structs.replace(msgspec.json.decode(text, type=State), version=int(version))


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
