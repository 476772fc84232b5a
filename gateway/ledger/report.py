"""Answers what was used, spent and saved, by any of the roll-ups' dimensions; never reads single requests.

The terms of the savings identity are sums over the requests that have a baseline:
`baseline - charged = cache + routing + compression - waste_escalation - waste_retries - own`. The cost of the others
is told apart (`Line.charged_compared`). Blocks on the database: for commands and threads. Money is integer micro-USD.
"""

from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.database import Database
from gateway.ledger.period import Slice, slices
from gateway.ledger.rows import DAY_S, HOUR_S

COLUMNS = {
    "tenant": "tenant",
    "key": "key_id",
    "route": "route",
    "model": "model",
    "target": "target",
    "provider": "provider",
    "outcome": "outcome",
    "cache": "cache",
}
"""Dimensions of the roll-ups that are text, and their columns."""
PERIODS = {"day": DAY_S, "hour": HOUR_S}
DIMENSIONS = (*COLUMNS, *PERIODS)

Group = tuple[str | int, ...]


class Measures(msgspec.Struct, frozen=True):
    """Sums over requests, named as the columns of the roll-ups. Tokens, requests, micro-USD, milliseconds."""

    requests: int = 0
    uncached_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    charged_micro: int = 0
    unknown_cost: int = 0
    estimated: int = 0
    baseline_micro: int = 0
    saved_cache: int = 0
    saved_routing: int = 0
    saved_compression: int = 0
    waste_escalation: int = 0
    waste_retries: int = 0
    own_micro: int = 0
    duration_ms: int = 0
    ttft_ms: int = 0
    ttft_count: int = 0

    @property
    def charged(self) -> int | None:
        """What was charged; `None` when no request in it has a known price."""
        return None if self.requests and self.unknown_cost >= self.requests else self.charged_micro

    @property
    def waste(self) -> int:
        """What was paid for and thrown away."""
        return self.waste_escalation + self.waste_retries

    @property
    def net_saved(self) -> int:
        """Baseline less what those requests were charged; negative when the gateway cost more than it saved."""
        return self.saved_cache + self.saved_routing + self.saved_compression - self.waste - self.own_micro

    @property
    def charged_compared(self) -> int:
        """The part of the cost that stands against a baseline, by the identity."""
        return self.baseline_micro - self.net_saved

    @property
    def charged_apart(self) -> int:
        """The part of the cost without a baseline: outside the identity."""
        return self.charged_micro - self.charged_compared

    @property
    def compared(self) -> bool:
        """Whether any request had a baseline."""
        return any((self.baseline_micro, self.saved_cache, self.saved_routing, self.saved_compression, self.waste))

    @property
    def mean_ttft_ms(self) -> int | None:
        """Mean time to the first byte over the requests that have one, else `None`."""
        return _mean(self.ttft_ms, self.ttft_count)

    @property
    def mean_duration_ms(self) -> int | None:
        """Mean duration, `None` without requests."""
        return _mean(self.duration_ms, self.requests)


class Line(msgspec.Struct, frozen=True):
    """One group; periods in `group` are the Unix time of their first second."""

    group: Group
    sums: Measures


class Report(msgspec.Struct, frozen=True):
    """`lines` by period, then by cost, the most first. `read` is what the sums were taken from."""

    by: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Measures
    read: tuple[Slice, ...]
    empty: bool
    """Nothing has been settled yet, in any period."""


class Question(msgspec.Struct, frozen=True):
    """`where` holds (dimension, value): values of one dimension are alternatives, dimensions must all hold."""

    by: tuple[str, ...]
    since_s: int | None = None
    until_s: int | None = None
    where: tuple[tuple[str, str], ...] = ()


def question(by: str, where: str, since_s: int | None, until_s: int | None) -> Question:
    """The question in `tenant,route` and `tenant=shop,route=chat`. Raises `BadRequest` naming the dimensions."""
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if not names:
        raise BadRequest(f"nothing to group by; fix: --by with any of {', '.join(DIMENSIONS)}")
    for name in names:
        if name not in DIMENSIONS:
            raise BadRequest(f"{name!r} is no dimension of the ledger; fix: any of {', '.join(DIMENSIONS)}")
    if len(set(names)) < len(names):
        raise BadRequest(f"{by!r} names a dimension twice")
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise BadRequest("the period is empty; fix: --since before --until")
    return Question(names, since_s, until_s, conditions(where))


def conditions(where: str) -> tuple[tuple[str, str], ...]:
    """`tenant=shop,model=a` as pairs. Raises `BadRequest` naming the dimensions."""
    found = []
    for part in filter(None, (part.strip() for part in where.split(","))):
        name, equals, value = part.partition("=")
        if not equals or name not in COLUMNS:
            raise BadRequest(f"{part!r} is no condition; fix: NAME=VALUE with NAME any of {', '.join(COLUMNS)}")
        found.append((name, value))
    return tuple(found)


def ask(database: Database, asked: Question) -> Report:
    """The report. Raises `DatabaseError`; a ledger without rows gives one without lines."""
    hour, day = database.query("SELECT (SELECT MIN(hour) FROM rollup_hour), (SELECT MIN(day) FROM rollup_day)")[0]
    hours_from_s = hour if day is not None and (hour is None or day < hour - hour % DAY_S) else None
    parts = slices(asked.since_s, asked.until_s, hourly="hour" in asked.by, hours_from_s=hours_from_s)
    sql, params = statement(asked, parts)
    width = len(asked.by)
    lines = [Line(tuple(row[:width]), Measures(*row[width:])) for row in database.query(sql, params)]
    lines.sort(key=lambda line: (_periods(asked.by, line.group), -line.sums.charged_micro, line.group))
    empty = hour is None and day is None
    return Report(asked.by, tuple(lines), total(line.sums for line in lines), tuple(parts), empty)


def statement(asked: Question, parts: list[Slice]) -> tuple[str, list[Any]]:
    """One SELECT over all `parts`, hence one snapshot; it holds names of columns alone, values are parameters."""
    measures = Measures.__struct_fields__
    params: list[Any] = []
    selects = []
    for part in parts:
        groups = [f"{_expression(name, part)} AS g{i}" for i, name in enumerate(asked.by)]
        conditions_sql = _conditions(asked, part, params)
        selects.append(f"SELECT {', '.join((*groups, *measures))} FROM {part.table}{conditions_sql}")  # noqa: S608
    sums = [f"CAST(COALESCE(SUM({name}), 0) AS BIGINT)" for name in measures]
    groups = [f"g{i}" for i in range(len(asked.by))]
    inner = " UNION ALL ".join(selects)
    return f"SELECT {', '.join(groups + sums)} FROM ({inner}) parts GROUP BY {', '.join(groups)}", params  # noqa: S608


def total(sums: Any) -> Measures:
    """The sum of some sums."""
    columns = zip(*map(msgspec.structs.astuple, sums), strict=True)
    return Measures(*map(sum, columns))


def _expression(name: str, part: Slice) -> str:
    if name in COLUMNS:
        return COLUMNS[name]
    if name == part.column:  # as it stands, so that the order of the table's key serves the grouping
        return name
    period = PERIODS[name]
    return f"({part.column} / {period}) * {period}"


def _conditions(asked: Question, part: Slice, params: list[Any]) -> str:
    found = []
    for operator, bound in ((">=", part.since_s), ("<", part.until_s)):
        if bound is not None:
            found.append(f"{part.column} {operator} ?")
            params.append(bound)
    for name in dict(asked.where):
        values = [value for other, value in asked.where if other == name]
        found.append(f"{COLUMNS[name]} IN ({', '.join('?' * len(values))})")
        params.extend(values)
    return f" WHERE {' AND '.join(found)}" if found else ""


def _periods(by: tuple[str, ...], group: Group) -> Group:
    return tuple(value for name, value in zip(by, group, strict=True) if name in PERIODS)


def _mean(sum_ms: int, count: int) -> int | None:
    return round(sum_ms / count) if count else None
