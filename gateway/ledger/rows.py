"""What a request becomes in the ledger: one row, its share of the roll-ups, its share of the budgets. Pure.

Every value is made storable here, once: a text without NUL and lone surrogates and of bounded length, an integer that
fits and whose sums fit. So a batch is never refused by a database because of what a caller or an upstream sent.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import add, itemgetter
from typing import Any, NamedTuple

import msgspec

from gateway.core.exchange import Admission, Attempt, Choice, RequestRecord, Savings, Usage

MAX_TEXT = 1024
MOST = 2**40 - 1
"""A million dollars in micro-USD, a million million tokens: more is nonsense, and its sums would overflow."""
HOUR_S = 3600
DAY_S = 86400

_encode = msgspec.json.Encoder().encode
_tuple: Callable[[type[Any], Iterable[Any]], Any] = tuple.__new__
_NOTHING = Usage()
_TokenColumns = tuple[int, int, int, int, int, int]
_SavingsColumns = tuple[int | None, int | None, int | None, int | None, int | None, int | None, int | None]
_NO_SAVINGS: _SavingsColumns = (None, None, None, None, None, None, None)
_ChoiceColumns = tuple[str | None, float | None, float | None, int | None, str | None, str | None]
_NO_CHOICE: _ChoiceColumns = (None, None, None, None, None, None)


class Row(NamedTuple):
    """A line of table `requests`; units as in the core structs, JSON as text, unknown amounts `None`."""

    request_id: str
    started_s: float
    ended_s: float
    tenant: str
    key_id: str
    tags: str
    route: str
    policy: str
    dialect: str
    endpoint: str
    requested_model: str
    target: str
    provider: str
    model: str
    stream: int
    status: int
    outcome: str
    error: str | None
    cache: str
    uncached_input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int
    usage_source: str | None
    reserved_micro: int | None
    charged_micro: int | None
    baseline_micro: int | None
    saved_cache: int | None
    saved_routing: int | None
    saved_compression: int | None
    waste_escalation: int | None
    waste_retries: int | None
    own_micro: int | None
    ttft_s: float | None
    duration_s: float
    attempts: str
    windows: str
    response_id: str | None
    upstream_request_id: str | None
    session: str | None
    route_tier: str | None
    route_score: float | None
    route_threshold: float | None
    route_strong: int | None
    route_certificate: str | None
    route_scorer: str | None


class Charge(NamedTuple):
    """A row and the budget windows that it counts in."""

    row: Row
    windows: tuple[str, ...]


def closed(record: RequestRecord) -> Charge:
    """The row of a request that ended."""
    usage, error = record.usage or _NOTHING, record.error
    tokens = _tokens(usage)
    request_id, tenant, key, route, policy, asked, target, provider, model, cache = _texts(
        record.request_id,
        record.tenant,
        record.key,
        record.route,
        record.policy,
        record.requested_model,
        record.target,
        record.provider,
        record.model,
        record.cache,
    )
    response_id, upstream_id, session = record.response_id, record.upstream_request_id, record.session
    values = (
        request_id,
        record.started_s,
        record.started_s + record.duration_s,
        tenant,
        key,
        _json(record.tags) if record.tags else "[]",
        route,
        policy,
        record.dialect,
        record.endpoint,
        asked,
        target,
        provider,
        model,
        int(record.stream),
        record.status,
        record.outcome,
        error if error is None else text(error),
        cache,
        *tokens,
        usage.source if usage is record.usage else None,
        _amount(record.reserved_micro_usd),
        _amount(record.cost_micro_usd),
        *_savings(record.savings),
        record.ttft_s,
        record.duration_s,
        _json([_attempt(each, tokens if each.usage is usage else None) for each in record.attempts]),
        _windows(record.windows),
        response_id if response_id is None else text(response_id),
        upstream_id if upstream_id is None else text(upstream_id),
        session if session is None else text(session),
        *_choice(record.choice),
    )
    # Not `Row(...)` and `Charge(...)`, whose constructors, made in Python, take the values apart and together again.
    made: Charge = _tuple(Charge, (_tuple(Row, values), record.windows))
    return made


def crashed(admission: Admission) -> Charge:
    """The row of a request in whose midst the gateway died: charged as reserved and marked estimated."""
    reserved = _amount(admission.reserved_micro_usd)
    row = Row(
        text(admission.request_id),
        admission.started_s,
        admission.started_s,
        text(admission.tenant),
        text(admission.key),
        _json(admission.tags),
        text(admission.route),
        text(admission.policy),
        admission.dialect,
        admission.endpoint,
        text(admission.requested_model),
        text(admission.target),
        text(admission.provider),
        text(admission.model),
        int(admission.stream),
        0,
        "crashed",
        "the gateway stopped before the request ended",
        "off",
        *_tokens(_NOTHING),
        "estimated",
        reserved,
        reserved,
        *_savings(None),
        None,
        0.0,
        "[]",
        _json(admission.windows),
        None,
        None,
        None,
        *_NO_CHOICE,
    )
    return Charge(row, admission.windows)


def charge(end: Admission | RequestRecord) -> Charge:
    """The row of what the journal tells about the end of a request."""
    return closed(end) if isinstance(end, RequestRecord) else crashed(end)


def text(value: str) -> str:
    """`value` as every database takes it: at most `MAX_TEXT` characters, no NUL, no lone surrogate."""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _texts(*values: str) -> tuple[str, ...]:
    """Each as `text` makes it; nearly always all are as they should be, which one look at all of them tells."""
    together = "".join(values)
    if len(together) <= MAX_TEXT and together.isascii() and "\0" not in together:
        return values
    return tuple([text(value) for value in values])


@lru_cache(4096)
def _windows(ids: tuple[str, ...]) -> str:
    return _json(ids)


def _amount(value: int | None) -> int | None:
    return value if value is None or -MOST <= value <= MOST else max(-MOST, min(MOST, value))


def _tokens(usage: Usage) -> _TokenColumns:
    classes = (
        usage.uncached_input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
        usage.reasoning,
    )
    a, b, c, d, e, f = classes
    if 0 <= a | b | c | d | e | f <= MOST:  # one negative makes it negative, one bit too high keeps it too high
        return classes
    a, b, c, d, e, f = (max(0, min(MOST, tokens)) for tokens in classes)
    return a, b, c, d, e, f


def _savings(savings: Savings | None) -> _SavingsColumns:
    if savings is None:
        return _NO_SAVINGS
    parts = (
        savings.baseline,
        savings.cache,
        savings.routing,
        savings.compression,
        savings.waste_escalation,
        savings.waste_retries,
        savings.own,
    )
    a, b, c, d, e, f, g = parts
    if 0 <= a | b | c | d | e | f | g <= MOST or (min(parts) >= -MOST and max(parts) <= MOST):
        return parts
    a, b, c, d, e, f, g = (max(-MOST, min(MOST, micro_usd)) for micro_usd in parts)
    return a, b, c, d, e, f, g


def _choice(choice: Choice | None) -> _ChoiceColumns:
    if choice is None:
        return _NO_CHOICE
    scorer = choice.scorer
    if scorer is not None:
        scorer = text(scorer)
    return choice.tier, choice.score, choice.threshold, int(choice.target == "strong"), choice.certificate, scorer


class _Told(msgspec.Struct, omit_defaults=True):
    """An attempt in column `attempts`; without `usage`, its members are left out."""

    target: str
    replica: str | None
    status: int | None
    error: str | None
    offset_s: float
    duration_s: float
    ttft_s: float | None
    usage_source: str | None
    cost_micro: int | None
    uncached_input: int | msgspec.UnsetType = msgspec.UNSET
    cache_read: int | msgspec.UnsetType = msgspec.UNSET
    cache_write_5m: int | msgspec.UnsetType = msgspec.UNSET
    cache_write_1h: int | msgspec.UnsetType = msgspec.UNSET
    output: int | msgspec.UnsetType = msgspec.UNSET
    reasoning: int | msgspec.UnsetType = msgspec.UNSET
    own: bool = False


_NO_TOKENS: tuple[msgspec.UnsetType, ...] = (msgspec.UNSET,) * 6


def _attempt(attempt: Attempt, tokens: _TokenColumns | None) -> _Told:
    """`tokens` are those of its usage, where they are known."""
    usage, ttft_s = attempt.usage, attempt.ttft_s
    a, b, c, d, e, f = _NO_TOKENS if usage is None else tokens or _tokens(usage)
    return _Told(
        attempt.target,
        attempt.replica,
        attempt.status,
        attempt.error,
        (attempt.offset_s * 1e6 + 0.5) // 1.0 / 1e6,  # to the microsecond; `round` takes ten times as long
        (attempt.duration_s * 1e6 + 0.5) // 1.0 / 1e6,
        ttft_s if ttft_s is None else (ttft_s * 1e6 + 0.5) // 1.0 / 1e6,
        usage if usage is None else usage.source,
        _amount(attempt.cost_micro_usd),
        a,
        b,
        c,
        d,
        e,
        f,
        attempt.own,
    )


def _json(value: Any) -> str:
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        return _encode(_valid(msgspec.to_builtins(value))).decode()


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {name: _valid(item) for name, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list | tuple) else value


DIMENSIONS = ("tenant", "key_id", "route", "model", "target", "provider", "outcome", "cache")
MEASURES = (
    "requests",
    "uncached_input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "charged_micro",
    "unknown_cost",
    "estimated",
    "baseline_micro",
    "saved_cache",
    "saved_routing",
    "saved_compression",
    "waste_escalation",
    "waste_retries",
    "own_micro",
    "duration_ms",
    "ttft_ms",
    "ttft_count",
)

Group = tuple[int, str, str, str, str, str, str, str, str]

_dimensions = itemgetter(*map(Row._fields.index, DIMENSIONS))


def group(row: Row) -> Group:
    """The hour of `started_s` (its first second, Unix time) and the dimensions of a row."""
    return int(row.started_s // HOUR_S) * HOUR_S, *_dimensions(row)


def measures(rows: Iterable[Row]) -> tuple[int, ...]:
    """What rows add to their group, in the order of `MEASURES`; an unknown amount adds nothing, and is counted."""
    return tuple(map(sum, zip(*map(_measured, rows), strict=True)))


def _measured(row: Row) -> tuple[int, ...]:
    """What one row adds."""
    # All at once: to read a field of a row by its name takes ten times as long.
    (_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, uncached, read, write_5m, write_1h, output, reasoning,
     source, _, charged, baseline, cache, routing, compression, escalation, retries, own, ttft_s, duration_s,
     _, _, _, _, _, _, _, _, _, _, _) = row  # fmt: skip
    return (
        1,
        uncached,
        read,
        write_5m + write_1h,
        output,
        reasoning,
        charged or 0,
        1 if charged is None else 0,
        1 if source == "estimated" else 0,
        baseline or 0,
        cache or 0,
        routing or 0,
        compression or 0,
        escalation or 0,
        retries or 0,
        own or 0,
        int(duration_s * 1000 + 0.5),
        0 if ttft_s is None else int(ttft_s * 1000 + 0.5),
        0 if ttft_s is None else 1,
    )


class Totals:
    """Sums over a batch of rows: by hour, by UTC day, by budget window."""

    def __init__(self) -> None:
        self._hours: dict[tuple[float, tuple[str, ...]], list[Row]] = {}
        self._summed: list[tuple[Any, ...]] | None = None
        self._charged: dict[tuple[str, ...], tuple[int, float]] = {}

    def add(self, charge: Charge) -> None:
        """Counts one row. A price that is unknown commits what was reserved for it."""
        row, windows = charge
        started_s = row.started_s
        at = started_s // HOUR_S, _dimensions(row)
        rows = self._hours.get(at)
        if rows is None:
            self._hours[at] = [row]
        else:
            rows.append(row)
        self._summed = None
        if windows:
            committed = row.charged_micro
            if committed is None:
                committed = row.reserved_micro or 0
            before = self._charged.get(windows)
            if before is not None:
                committed, started_s = committed + before[0], min(started_s, before[1])
            self._charged[windows] = committed, started_s

    def hours(self) -> list[tuple[Any, ...]]:
        """Hour, dimensions, measures; sorted, so that concurrent writers take their locks in one order."""
        if self._summed is None:
            self._summed = [
                (int(hour) * HOUR_S, *dimensions, *(measures(rows) if len(rows) > 1 else _measured(rows[0])))
                for (hour, dimensions), rows in sorted(self._hours.items())
            ]
        return self._summed

    def days(self) -> list[tuple[Any, ...]]:
        """As `hours`, by the first second of the UTC day."""
        hours = self.hours()
        if hours and hours[0][0] == hours[-1][0]:  # nearly always
            day = hours[0][0] // DAY_S * DAY_S
            return [(day, *line[1:]) for line in hours]
        width = 1 + len(DIMENSIONS)
        days: dict[tuple[Any, ...], tuple[int, ...]] = {}
        for line in hours:
            at, sums = (line[0] // DAY_S * DAY_S, *line[1:width]), line[width:]
            days[at] = tuple(map(add, days[at], sums)) if at in days else sums
        return [(*at, *sums) for at, sums in sorted(days.items())]

    def windows(self) -> list[tuple[str, int, float]]:
        """Window id, micro-USD committed, the earliest second of what was counted; sorted."""
        found: dict[str, tuple[int, float]] = {}
        for windows, (committed, first_s) in self._charged.items():
            for window in windows:
                before = found.get(window)
                found[window] = (
                    (committed, first_s) if before is None else (committed + before[0], min(first_s, before[1]))
                )
        return sorted([(text(window), *counted) for window, counted in found.items()])


def build(ends: Iterable[Admission | RequestRecord], chunk: int, pause: Callable[[], None]) -> list[Charge]:
    """The rows of `ends`; calls `pause` after every `chunk` of them, so that other threads get their turn."""
    charges: list[Charge] = []
    for end in ends:
        charges.append(charge(end))
        if len(charges) % chunk == 0:
            pause()
    return charges
