"""The audit after a run: the ledger, the stub's bill and what the callers saw must tell one story.

I1  every request that reached the stub or got a 2xx has exactly one row; a row without either belongs to a request that
    was admitted and cut off before its call; a refused request has none
I2  charged == billed, unless the row is flagged estimated: then charged >= billed; told cost == charged
I3  every window has committed the sum of its rows, and no more than its limit; roll-ups are the sums of rows
I4  every word of an answer was signed for its caller and its nonce
I5  a refusal for want of money is right: what was held and what was needed pass the limit, and nothing was counted as
    spent that no row was charged
I6  what HTTP and [DONE] call complete is complete
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.database import open_database
from tests.suites.crash.load import Answer
from tests.suites.crash.processes import bill_lines
from tests.suites.crash.signing import INPUT_MICRO, OUTPUT_MICRO, whole

UNSENT = frozenset({"crashed", "client_disconnect"})
"""Outcomes of rows whose request need not have reached the stub."""
_EXHAUSTED = re.compile(
    r"The budget (?P<budget>\S+) is exhausted: \$(?P<used>[\d.]+) of \$(?P<limit>[\d.]+) are used"
    r"(?:, \$(?P<held>[\d.]+) of it held by requests under way)?, and this request can cost up to \$(?P<needed>[\d.]+)\."
)


class Billed(NamedTuple):
    """What the stub charges for one request of the gateway."""

    nonce: str
    tenant: str
    micro: int
    finished: bool


class Row(NamedTuple):
    request_id: str
    tenant: str
    outcome: str
    status: int
    usage_source: str | None
    reserved: int | None
    charged: int | None
    windows: list[str]
    started_s: float

    @property
    def estimated(self) -> bool:
        return self.usage_source == "estimated"


@dataclass
class Ledger:
    """What is stored: rows, micro-USD by window, requests and micro-USD of the roll-ups."""

    rows: list[Row]
    spend: dict[str, int]
    rolled_up: tuple[int, int]

    @property
    def by_id(self) -> dict[str, Row]:
        return {row.request_id: row for row in self.rows}

    def committed(self) -> dict[str, int]:
        """By window, from the rows."""
        sums: dict[str, int] = defaultdict(int)
        for row in self.rows:
            for window in row.windows:
                sums[window] += row.charged if row.charged is not None else row.reserved or 0
        return dict(sums)


@dataclass
class Audit:
    """What was found; `wrong` is empty when the books are sound."""

    accepted: int = 0
    rows: int = 0
    billed: int = 0
    recorded: int = 0
    gap_exact: int = 0
    gap_estimated: int = 0
    estimated: int = 0
    unsent: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        self.wrong.append(what)

    def line(self) -> str:
        share = 100 * self.estimated / max(1, self.rows)
        return (
            f"accepted {self.accepted}, rows {self.rows} ({self.unsent} cut off unsent), billed {self.billed} micro-USD, "
            f"recorded {self.recorded}, gap {self.gap_exact} exact + {self.gap_estimated} estimated, "
            f"estimated {share:.1f} % of rows, refused {dict(self.refused) or 0}"
        )

    def raise_if_wrong(self) -> None:
        if self.wrong:
            shown = "\n  ".join(self.wrong[:20])
            raise AssertionError(f"{len(self.wrong)} things are wrong with the books:\n  {shown}\n  {self.line()}")


def read_bill(path: Path) -> dict[str, Billed]:
    """By the gateway's request id; calls of one request are added. Calls under way count as nothing yet."""
    begun = {}
    bill: dict[str, Billed] = {}
    for line in bill_lines(path):
        if "begin" in line:
            begun[line["begin"]] = line
            bill.setdefault(line["id"], Billed(line["nonce"], line["tenant"], 0, finished=False))
            continue
        first = begun[line["end"]]
        before = bill[first["id"]]
        micro = first["prompt"] * INPUT_MICRO + line["words"] * OUTPUT_MICRO
        bill[first["id"]] = before._replace(micro=before.micro + micro, finished=before.finished or line["finished"])
    return bill


def read_ledger(url: str) -> Ledger:
    """All of it."""
    database = open_database(url, timeout_s=30)
    try:
        found = database.query(
            "SELECT request_id, tenant, outcome, status, usage_source, reserved_micro, charged_micro, windows, started_s"
            " FROM requests"
        )
        spend = database.query("SELECT window_id, committed_micro FROM spend")
        rolled_up = database.query(
            "SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT), CAST(COALESCE(SUM(charged_micro), 0) AS BIGINT) FROM rollup_day"
        )[0]
    finally:
        database.close()
    rows = [Row(*row[:7], msgspec.json.decode(row[7]), row[8]) for row in found]
    return Ledger(rows, dict(spend), (int(rolled_up[0]), int(rolled_up[1])))


def audit(
    ledger: Ledger,
    bill: Mapping[str, Billed],
    answers: Iterable[Answer],
    limits: Mapping[str, int],
) -> Audit:
    """Every check. `limits` are micro-USD by budget id."""
    found = Audit(rows=len(ledger.rows))
    answers = list(answers)
    _answers(found, answers)
    _refusals(found, ledger, answers)
    _identities(found, ledger, bill, answers)
    _charges(found, ledger, bill, answers)
    _windows(found, ledger, limits)
    return found


def _answers(found: Audit, answers: Iterable[Answer]) -> None:
    for answer in answers:
        found.ends[answer.end] += 1
        if answer.status is not None and answer.status != 200:
            found.refused[f"{answer.status} {answer.error}"] += 1
            if answer.text:
                found.fail(f"I4 {answer.request_id}: a refusal with a completion")
            continue
        signed = whole(answer.ask)
        if not signed.startswith(answer.text):
            found.fail(f"I4 {answer.request_id}: {answer.text[:60]!r} is not what was signed for {answer.ask}")
        if answer.end == "whole" and answer.status == 200 and answer.text != signed:
            found.fail(f"I6 {answer.request_id}: called complete with {len(answer.text)} of {len(signed)} characters")
        if answer.end == "silent cut":
            found.fail(f"I6 {answer.request_id}: the stream ended as if it were complete, without [DONE]")


def _refusals(found: Audit, ledger: Ledger, answers: Iterable[Answer]) -> None:
    """Spending only grows, so what a refusal calls spent is no more than the rows say in the end."""
    spent: dict[str, int] = defaultdict(int)
    for window, micro in ledger.committed().items():
        spent[window.partition("@")[0]] += micro
    for answer in answers:
        if answer.error != "insufficient_quota":
            continue
        told = _EXHAUSTED.match(answer.message or "")
        if told is None:
            found.fail(f"I5 {answer.request_id}: does not say which budget: {answer.message!r}")
            continue
        used, limit, needed, held = (_micro(told[part] or "0") for part in ("used", "limit", "needed", "held"))
        if used + needed <= limit:
            found.fail(f"I5 {answer.request_id}: phantom 429, {used} used and {needed} needed of {limit}")
        if used - held > spent[told["budget"]]:
            found.fail(
                f"I5 {answer.request_id}: phantom 429, {used - held} of {told['budget']} called spent, "
                f"its rows say {spent[told['budget']]}"
            )


def _micro(usd: str) -> int:
    return int(Decimal(usd) * 1_000_000)


def _identities(found: Audit, ledger: Ledger, bill: Mapping[str, Billed], answers: list[Answer]) -> None:
    for what, ids in (("rows", [row.request_id for row in ledger.rows]), ("bills", [b.nonce for b in bill.values()])):
        for twice, number in Counter(ids).items():
            if number > 1:
                found.fail(f"I1 {twice}: {number} {what} of one request")
    by_id = ledger.by_id
    served = {answer.request_id for answer in answers if answer.status == 200}
    accepted = served | bill.keys()
    found.accepted = len(accepted)
    for request_id in sorted(accepted - by_id.keys(), key=str):
        found.fail(f"I1 {request_id}: accepted, and not in the ledger (billed: {bill.get(str(request_id))})")
    refused = {answer.request_id for answer in answers if answer.status not in (None, 200)}
    for row in ledger.rows:
        request_id = row.request_id
        found.outcomes[row.outcome] += 1
        if request_id in accepted:
            continue
        if request_id in refused:
            found.fail(f"I1 {request_id}: refused, and in the ledger as {row.outcome} {row.status}")
        elif row.outcome not in UNSENT:
            found.fail(f"I1 {request_id}: {row.outcome} {row.status} in the ledger, and nobody knows it")
        else:
            found.unsent += 1
    for request_id, billed in bill.items():
        row = by_id.get(request_id)
        if row is not None and row.tenant != billed.tenant:
            found.fail(f"I1 {request_id}: of {billed.tenant}, booked on {row.tenant}")


def _charges(found: Audit, ledger: Ledger, bill: Mapping[str, Billed], answers: list[Answer]) -> None:
    for row in ledger.rows:
        request_id = row.request_id
        billed = bill[request_id].micro if request_id in bill else 0
        found.billed += billed
        if row.charged is None:
            found.fail(f"I2 {request_id}: {row.outcome} of unknown cost, billed {billed}")
            continue
        found.recorded += row.charged
        gap = row.charged - billed
        if row.estimated:
            found.estimated += 1
            found.gap_estimated += gap
            if gap < 0:
                found.fail(f"I2 {request_id}: {row.outcome}, estimated at {row.charged}, billed {billed}")
            continue
        found.gap_exact += abs(gap)
        if gap:
            found.fail(f"I2 {request_id}: {row.outcome} charged {row.charged}, billed {billed}, not flagged")
    by_id = ledger.by_id
    for answer in answers:
        row = by_id.get(answer.request_id or "")
        if row is None or answer.end != "whole" or answer.status != 200 or row.outcome == "crashed":
            continue
        if answer.told_micro != row.charged:
            found.fail(f"I2 {answer.request_id}: told {answer.told_micro}, charged {row.charged}")


def _windows(found: Audit, ledger: Ledger, limits: Mapping[str, int]) -> None:
    sums = ledger.committed()
    for window in sorted(sums.keys() | ledger.spend.keys()):
        if sums.get(window, 0) != ledger.spend.get(window, 0):
            found.fail(f"I3 {window}: committed {ledger.spend.get(window)}, its rows say {sums.get(window)}")
        limit = limits.get(window.partition("@")[0])
        if limit is not None and sums.get(window, 0) > limit:
            found.fail(f"I3 {window}: {sums[window]} spent of {limit}: over it")
    charged = sum(row.charged or 0 for row in ledger.rows)
    if ledger.rolled_up != (len(ledger.rows), charged):
        found.fail(f"I3 the roll-ups say {ledger.rolled_up}, the rows ({len(ledger.rows)}, {charged})")


def overshot(budgets: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is wrong with budgets at one instant: `committed + reserved <= limit`, and nothing below 0."""
    return [
        f"I3 {budget} at some instant: {dict(parts)}"
        for budget, parts in budgets.items()
        if parts["committed"] + parts["reserved"] > parts["limit"] or parts["reserved"] < 0 or parts["committed"] < 0
    ]


def leaked(budgets: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Micro-USD still reserved, by budget, when no request is under way and every lease is over."""
    return {budget: parts["reserved"] for budget, parts in budgets.items() if parts["reserved"]}


def misjudged(left: int, needed: int, answer: Answer) -> str | None:
    """What is wrong with the answer to a request that needs so much of what the rows have left; `None` if nothing."""
    if needed <= left and answer.status != 200:
        return f"phantom 429: {left} micro-USD are left, {needed} needed: {answer}"
    if needed > left and (answer.status, answer.error) != (429, "insufficient_quota"):
        return f"overshoot: {left} micro-USD are left, {needed} needed: {answer}"
    return None
