"""Decides whether rows of the ledger hold together, one by one and in sum; pure, and knows no table.

What it says of a row follows from the row alone: the savings identity, and that its attempts cost what it was charged.
"""

from collections.abc import Iterable

import msgspec

from gateway.core.money import usd
from gateway.ledger.period import hour_text
from gateway.ledger.rows import DIMENSIONS, MEASURES, Group, Row, group, measures, text

MOST_EXAMPLES = 10


class Check(msgspec.Struct):
    """One statement about the ledger: how often it was looked at, how often it was wrong, and where."""

    says: str
    unit: str
    checked: int = 0
    wrong: int = 0
    examples: list[str] = []
    notes: list[str] = []

    def fail(self, example: str) -> None:
        """Counts a difference; the first ten are named."""
        self.wrong += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)


class _Attempt(msgspec.Struct):
    cost_micro: int | None = None


_attempts = msgspec.json.Decoder(list[_Attempt])
_windows = msgspec.json.Decoder(list[str])


def identity_gap(row: Row) -> int | None:
    """What is left of `baseline - charged` when all terms are taken off it, in micro-USD; 0 when it holds.

    `None` for a row without a baseline.
    """
    if row.baseline_micro is None:
        return None
    saved = (row.saved_cache or 0) + (row.saved_routing or 0) + (row.saved_compression or 0)
    spent = (row.waste_escalation or 0) + (row.waste_retries or 0) + (row.own_micro or 0)
    return row.baseline_micro - (row.charged_micro or 0) - saved + spent


def cost_gap(row: Row) -> int | None:
    """Charged less the cost of the attempts, the gateway's own among them, in micro-USD; `None` for an unknown price.

    A crashed request has no attempts: it is charged what was reserved. Raises `msgspec.DecodeError` for attempts that
    cannot be read.
    """
    if row.charged_micro is None:
        return None
    if row.outcome == "crashed":
        return row.charged_micro - (row.reserved_micro or 0)
    attempts = sum(attempt.cost_micro or 0 for attempt in _attempts.decode(row.attempts))
    return row.charged_micro - attempts


class Rows:
    """Checks each row, and sums what budgets and roll-ups are compared with."""

    def __init__(self) -> None:
        self.identity = Check("baseline - charged is the sum of savings less waste and own cost", "rows")
        self.costs = Check("the attempts are what was charged", "rows")
        self.windows: dict[str, tuple[int, int]] = {}
        """Budget window -> micro-USD that its rows commit, and how much of it is reservations of unknown prices."""
        self.unpriced = 0

    def add(self, rows: Iterable[Row]) -> dict[Group, tuple[int, ...]]:
        """Checks `rows` and answers their sums per group of the roll-ups."""
        groups: dict[Group, list[Row]] = {}
        for row in rows:
            self._row(row)
            groups.setdefault(group(row), []).append(row)
        return {at: measures(members) for at, members in groups.items()}

    def _row(self, row: Row) -> None:
        gap = identity_gap(row)
        if gap is not None:
            self.identity.checked += 1
            if gap:
                self.identity.fail(f"{row.request_id}: off by {usd(gap)} USD")
        self.costs.checked += 1
        try:
            gap = cost_gap(row)
            windows = _windows.decode(row.windows)
        except msgspec.DecodeError as exc:
            self.costs.fail(f"{row.request_id}: {exc}")
            return
        if gap:
            self.costs.fail(f"{row.request_id}: off by {usd(gap)} USD")
        known = row.charged_micro is not None
        self.unpriced += not known
        committed = (row.charged_micro if known else row.reserved_micro) or 0
        for window in windows:
            total, unknown = self.windows.get(window := text(window), (0, 0))
            self.windows[window] = (total + committed, unknown + (0 if known else committed))


def differences(rows: dict[Group, tuple[int, ...]], rollup: dict[Group, tuple[int, ...]]) -> list[str]:
    """The groups whose sums differ, each with its first measure that does."""
    nothing = (0,) * len(MEASURES)
    found = []
    for at in sorted(rows.keys() | rollup.keys()):
        left, right = rows.get(at, nothing), rollup.get(at, nothing)
        for name, ours, theirs in zip(MEASURES, left, right, strict=True):
            if ours != theirs:
                found.append(f"{hour_text(at[0])} {place(at[1:])}: {name} {ours} in the rows, {theirs} in the roll-up")
                break
    return found


def place(dimensions: Iterable[str]) -> str:
    """`tenant=shop route=chat`, without what is empty."""
    return " ".join(f"{name}={value}" for name, value in zip(DIMENSIONS, dimensions, strict=True) if value)
