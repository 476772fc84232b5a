"""What live traffic teaches about a route's two targets: how good each one's answer to the same request was.

Rows in the ledger's database, of qualities, costs and the encoder's vector; no text is kept. `farthing calibrate
routing` certifies thresholds from them, and the neighbours' tier learns from those of its own tenant. Decides nothing.
Fails open: a label that cannot be stored is dropped by its caller, which delays a certificate and proves nothing.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from gateway.database import Database

DIMENSION = 384
VECTOR_BYTES = 2 * DIMENSION

_LOCK_ID = 0x6661726D
_TABLE = """CREATE TABLE IF NOT EXISTS routing_labels (
  request_id TEXT PRIMARY KEY,
  at_s DOUBLE PRECISION NOT NULL,
  tenant TEXT NOT NULL,
  route TEXT NOT NULL,
  weak TEXT NOT NULL,
  strong TEXT NOT NULL,
  tier TEXT NOT NULL,
  score DOUBLE PRECISION NOT NULL,
  versions TEXT NOT NULL,
  weak_quality DOUBLE PRECISION NOT NULL,
  strong_quality DOUBLE PRECISION NOT NULL,
  weak_cost_micro BIGINT,
  strong_cost_micro BIGINT,
  weight DOUBLE PRECISION NOT NULL,
  source TEXT NOT NULL,
  vector {bytes}
)"""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS routing_labels_route ON routing_labels (route, at_s)",
    "CREATE INDEX IF NOT EXISTS routing_labels_tenant ON routing_labels (tenant, route, at_s)",
)


class RoutingLabel(msgspec.Struct, frozen=True):
    """One request of a route, answered by both of its targets. Written once, the first one of a request stays.

    `at_s` is when it was labelled, in Unix seconds. `weak` and `strong` are the targets' names. `tier` and `score` (the
    expected gain) are of the decision, `versions` the parts that scored it and the models, as a certificate names
    them. Qualities are in [0, 1]. A cost is `None` where it is not known. `weight` is 1 / the probability with
    which the request was sampled; feedback has 1 and is no sample. `vector` is a little-endian float16[384] of unit
    norm by the encoder that `versions` names, `None` where there is none.
    """

    request_id: str
    at_s: float
    tenant: str
    route: str
    weak: str
    strong: str
    tier: str
    score: float
    versions: dict[str, str]
    weak_quality: float
    strong_quality: float
    weak_cost_micro: int | None
    strong_cost_micro: int | None
    weight: float
    source: Literal["compared", "judged", "feedback"]
    """Two answers that said the same; a judge's ratings of them; a person's word."""
    vector: bytes | None

    @property
    def gain(self) -> float:
        """What the strong target's answer was worth more than the weak one's, in [-1, 1]."""
        return self.strong_quality - self.weak_quality


class RoutingLabels(Protocol):
    """Where labels are. All calls block, are safe from any thread and raise `DatabaseError`."""

    def add(self, label: RoutingLabel) -> None:
        """Stores one; nothing happens when the request has one already."""
        ...

    def of(self, route: str, since_s: float, until_s: float) -> list[RoutingLabel]:
        """Those of a route in [since_s, until_s), the oldest first."""
        ...

    def of_tenant(self, tenant: str, route: str, since_s: float, most: int) -> list[RoutingLabel]:
        """The newest `most` of a tenant on a route from `since_s` on that have a vector, the newest first."""
        ...

    def forget(self, before_s: float) -> int:
        """Removes older ones; how many."""
        ...


_COLUMNS = RoutingLabel.__struct_fields__
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM routing_labels"  # noqa: S608 - names of this module's own
_INSERT = (
    f"INSERT INTO routing_labels ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (request_id) DO NOTHING"
)


class RoutingLabelStore:
    """`RoutingLabels` in the ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def migrate(self) -> None:
        """Makes the table. Raises `DatabaseError`."""
        postgresql = self._database.dialect == "postgresql"
        with self._database.transaction() as cursor:
            if postgresql:  # replicas that start together take turns
                cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK_ID,))
            cursor.execute(_TABLE.format(bytes="BYTEA" if postgresql else "BLOB"))
            for statement in _INDEXES:
                cursor.execute(statement)

    def add(self, label: RoutingLabel) -> None:
        """See `RoutingLabels`. Raises `ValueError` for a vector of another size."""
        if label.vector is not None and len(label.vector) != VECTOR_BYTES:
            raise ValueError(f"a vector has {VECTOR_BYTES} bytes, not {len(label.vector)}")
        row: list[Any] = list(msgspec.structs.astuple(label))
        row[_COLUMNS.index("versions")] = msgspec.json.encode(label.versions, order="sorted").decode()
        with self._database.transaction() as cursor:
            cursor.execute(_INSERT, row)

    def of(self, route: str, since_s: float, until_s: float) -> list[RoutingLabel]:
        """See `RoutingLabels`."""
        rows = self._database.query(
            f"{_SELECT} WHERE route = ? AND at_s >= ? AND at_s < ? ORDER BY at_s, request_id", (route, since_s, until_s)
        )
        return [_label(row) for row in rows]

    def of_tenant(self, tenant: str, route: str, since_s: float, most: int) -> list[RoutingLabel]:
        """See `RoutingLabels`."""
        rows = self._database.query(
            f"{_SELECT} WHERE tenant = ? AND route = ? AND at_s >= ? AND vector IS NOT NULL"
            " ORDER BY at_s DESC, request_id DESC LIMIT ?",
            (tenant, route, since_s, most),
        )
        return [_label(row) for row in rows]

    def forget(self, before_s: float) -> int:
        """See `RoutingLabels`."""
        with self._database.transaction() as cursor:
            return len(cursor.execute("DELETE FROM routing_labels WHERE at_s < ? RETURNING 1", (before_s,)))


def _label(row: Sequence[Any]) -> RoutingLabel:
    values = dict(zip(_COLUMNS, row, strict=True))
    vector = values["vector"]
    values["versions"] = msgspec.json.decode(values["versions"], type=dict[str, str])
    values["vector"] = bytes(vector) if vector is not None else None
    return RoutingLabel(**values)
