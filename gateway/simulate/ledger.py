"""Reads recorded requests from the ledger's table, a page at a time, in the order in which they came.

The ledger has no text and of the headers the session alone: what rules ask of those, it cannot decide. Raises
`DatabaseError`. Tables that an older gateway made have no scores and no sessions, and are read without them.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from gateway.core.exchange import Endpoint, Usage
from gateway.database import Database, DatabaseError
from gateway.simulate.traffic import HITS, Facts, Recorded, caller

PAGE: Final = 20_000
_COLUMNS = (
    "started_s, request_id, tenant, key_id, tags, endpoint, requested_model, route, target, cache, uncached_input,"
    " cache_read, cache_write_5m, cache_write_1h, output, reasoning, usage_source, charged_micro, attempts, outcome,"
    " policy"
)
_CHOICE = "route_tier, route_score, route_strong, session"
_NO_CHOICE = "NULL, NULL, NULL, NULL"
_FACTS: Final = Facts()


class _Attempt(msgspec.Struct):
    cost_micro: int | None = None
    own: bool = False
    """A call for the gateway's own ends, a judge's: part of what the request cost, and no failure."""


_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_attempts = msgspec.json.Decoder(list[_Attempt]).decode


def read_ledger(database: Database, since_s: float | None, until_s: float | None) -> Iterator[Recorded]:
    """The requests that were accepted in [`since_s`, `until_s`); `None` is without end."""
    after: tuple[float, str] = (since_s if since_s is not None else -1.0, "")
    end = "" if until_s is None else " AND started_s < ?"
    columns = f"{_COLUMNS}, {_choice(database)}"
    sql = (
        f"SELECT {columns} FROM requests WHERE started_s >= ? AND (started_s > ? OR request_id > ?){end}"  # noqa: S608
        " ORDER BY started_s, request_id LIMIT ?"
    )
    while True:
        params: list[Any] = [after[0], after[0], after[1], *([] if until_s is None else [until_s]), PAGE]
        rows = database.query(sql, params)
        for row in rows:
            yield _recorded(row)
        if len(rows) < PAGE:
            return
        after = (rows[-1][0], rows[-1][1])


def _choice(database: Database) -> str:
    """The columns of what was chosen by a score, as far as the table has them."""
    try:
        database.query(f"SELECT {_CHOICE} FROM requests LIMIT 0")  # noqa: S608
    except DatabaseError:
        return _NO_CHOICE
    return _CHOICE


def _recorded(row: tuple[Any, ...]) -> Recorded:
    (started_s, _, tenant, key, tags, endpoint, model, route, target, cache, uncached, read, write_5m, write_1h, output,
     reasoning, source, charged, attempts, outcome, policy, tier, score, strong, session) = row  # fmt: skip
    untold = source is None or cache in HITS or outcome == "crashed"
    wasted, cost = _served(attempts, charged)
    return Recorded(
        identity=caller(tenant, key, () if tags == "[]" else _tags(tags)),
        model=model or None,
        started_s=started_s,
        endpoint=cast("Endpoint", endpoint),
        facts=_FACTS,
        usage=None if untold else Usage(uncached, read, write_5m, write_1h, output, reasoning, source),
        cost_micro=cost,
        wasted_micro=wasted,
        route=route,
        target=target,
        cache=cache,
        score=score,
        tier=tier,
        side="" if strong is None else "strong" if strong else "weak",
        session=session,
        policy=policy,
    )


def _served(attempts: str, charged: int | None) -> tuple[int, int | None]:
    """What the attempts before the last were charged, and what the last one was."""
    if charged is None or attempts.count('"target"') < 2:
        return 0, charged
    wasted = sum(attempt.cost_micro or 0 for attempt in _attempts(attempts)[:-1] if not attempt.own)
    return wasted, charged - wasted
