"""Compares what a provider bills with what the ledger recorded, per UTC day and model; says nothing about why.

The ledger's side is the day roll-up: a request counts for the day it began, for the model that answered, with the cost
of all its attempts. A difference is ledger - invoice.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeVar

import msgspec

from gateway.core.errors import BadRequest
from gateway.database import Database
from gateway.ledger.invoice import Billed, Invoice, canonical
from gateway.ledger.period import day_text
from gateway.ledger.report import Question, ask
from gateway.ledger.rows import DAY_S
from gateway.ledger.table import count, dollars, layout, percent, places_for

PROVIDERS = {"openai": "openai_compatible", "anthropic": "anthropic"}
"""What a person calls a provider -> what the ledger calls the kind of its targets."""

NOT_SPLIT = "(all)"
"""The model of an invoice that is not split by model."""

NO_MODEL = "(none)"
"""The model of requests that none answered."""

_N = TypeVar("_N", int, Decimal)


class Side(msgspec.Struct, frozen=True):
    """What one side counted; `None` is what it does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    micro_usd: Decimal | None = None

    def __add__(self, other: "Side") -> "Side":
        """What is unknown on one of them is taken from the other."""
        return Side(
            _plus(self.input_tokens, other.input_tokens),
            _plus(self.output_tokens, other.output_tokens),
            _plus(self.micro_usd, other.micro_usd),
        )


class Pair(msgspec.Struct, frozen=True):
    """One model on one day; `None` is a side that has nothing of it."""

    day: int
    model: str
    ledger: Side | None
    invoice: Side | None


class Comparison(msgspec.Struct, frozen=True):
    """`pairs` by day and model. `unpriced` requests of the ledger have no cost on its side."""

    pairs: tuple[Pair, ...]
    ledger: Side
    invoice: Side
    unpriced: int

    @property
    def off(self) -> Decimal:
        """How far the totals are apart, as a part of the invoice's: money if it states any, else tokens. >= 0."""
        if self.invoice.micro_usd is not None:
            return _apart(self.ledger.micro_usd or Decimal(0), self.invoice.micro_usd)
        theirs = (self.invoice.input_tokens or 0) + (self.invoice.output_tokens or 0)
        ours = (self.ledger.input_tokens or 0) + (self.ledger.output_tokens or 0)
        return _apart(Decimal(ours), Decimal(theirs))


def compare(
    database: Database,
    invoice: Invoice,
    since_s: int | None,
    until_s: int | None,
    where: tuple[tuple[str, str], ...],
) -> Comparison:
    """Both sides over the whole days of [`since_s`, `until_s`), by default those of the invoice.

    Raises `BadRequest` for an invoice without a line in them, `DatabaseError`.
    """
    days = [line.day for line in invoice.lines]
    since = since_s - since_s % DAY_S if since_s is not None else min(days, default=0)
    until = until_s + -until_s % DAY_S if until_s is not None else max(days, default=0) + DAY_S
    lines = [line for line in invoice.lines if since <= line.day < until]
    if not lines:
        raise BadRequest(
            f"the {invoice.form} bills nothing"
            + (f" from {day_text(since)} to {day_text(until - DAY_S)}; fix: another --since or --until" if days else "")
        )
    split = any(line.model for line in lines)
    by = ("day", "model") if split else ("day",)
    if invoice.provider is not None and not any(name == "provider" for name, _ in where):
        where = (*where, ("provider", invoice.provider))
    report = ask(database, Question(by, since, until, where))
    ours: dict[tuple[int, str], Side] = {}
    for line in report.lines:
        sums = line.sums
        read = sums.uncached_input + sums.cache_read + sums.cache_write
        model = (str(line.group[1]) or NO_MODEL) if split else NOT_SPLIT
        ours[int(line.group[0]), model] = Side(read, sums.output, Decimal(sums.charged_micro))
    return pair(ours, lines, report.total.unknown_cost)


def pair(ours: dict[tuple[int, str], Side], billed: Iterable[Billed], unpriced: int = 0) -> Comparison:
    """Puts the two sides side by side; names that differ on both sides meet by their `canonical` form."""
    theirs: defaultdict[tuple[int, str], Side] = defaultdict(Side)
    for line in billed:
        theirs[line.day, line.model or NOT_SPLIT] += Side(line.input_tokens, line.output_tokens, line.micro_usd)
    names, their_names = {model for _, model in ours}, {model for _, model in theirs}
    known = names & their_names
    left, right = _renamed(ours, known), _renamed(theirs, known)
    pairs = [Pair(*key, left.get(key), right.get(key)) for key in sorted(left.keys() | right.keys())]
    return Comparison(tuple(pairs), _sum(left), _sum(right), unpriced)


def as_table(comparison: Comparison) -> str:
    """Tokens and dollars of both sides, their difference (ledger - invoice), and the totals."""
    tokens = comparison.invoice.input_tokens is not None or comparison.invoice.output_tokens is not None
    money = comparison.invoice.micro_usd is not None
    largest = max(comparison.invoice.micro_usd or 0, comparison.ledger.micro_usd or 0)
    places = places_for(int(largest))
    head = ["day", "model"]
    head += ["in: ledger", "invoice", "difference", "out: ledger", "invoice", "difference"] if tokens else []
    head += ["USD: ledger", "invoice", "difference", "%"] if money else []
    rows = [
        [day_text(found.day), found.model, *_cells(found.ledger, found.invoice, places, tokens, money), _only(found)]
        for found in comparison.pairs
    ]
    foot = ["total", "", *_cells(comparison.ledger, comparison.invoice, places, tokens, money), ""]
    return layout([*head, ""], rows, text=2, foot=foot) + _notes(comparison, money=money)


def _notes(comparison: Comparison, *, money: bool) -> str:
    lines = []
    if not any(found.ledger for found in comparison.pairs):
        lines.append(
            "the ledger has no request in these days; fix: another --provider or --where, or FARTHING_DATABASE"
        )
    for side, found in (("ledger", _one_sided(comparison, "ledger")), ("invoice", _one_sided(comparison, "invoice"))):
        if found:
            aside = " (not billed by it? leave them out with --where target=NAME)" if side == "ledger" else ""
            lines.append(f"only in the {side}: {', '.join(found)}{aside}")
    if comparison.unpriced and money:
        lines.append(
            f"{count(comparison.unpriced)} requests of the ledger have no known price: no dollar of theirs is here"
        )
    return "".join(f"{line}\n" for line in lines)


def _one_sided(comparison: Comparison, side: str) -> list[str]:
    both = {found.model for found in comparison.pairs if found.ledger and found.invoice}
    other = "invoice" if side == "ledger" else "ledger"
    return sorted({found.model for found in comparison.pairs if getattr(found, other) is None} - both)


def _only(found: Pair) -> str:
    return "only in the invoice" if found.ledger is None else "only in the ledger" if found.invoice is None else ""


def _cells(ours: Side | None, theirs: Side | None, places: int, tokens: bool, money: bool) -> list[str]:
    ours, theirs = ours or Side(0, 0, Decimal(0)), theirs or Side(0, 0, Decimal(0))
    cells: list[str] = []
    if tokens:
        for own, other in ((ours.input_tokens, theirs.input_tokens), (ours.output_tokens, theirs.output_tokens)):
            mine, billed = own or 0, other or 0
            cells += [count(mine), count(billed), f"{mine - billed:+,}" if mine - billed else "0"]
    if money:
        cost, bill = _micro(ours.micro_usd), _micro(theirs.micro_usd)
        cells += [dollars(cost, places), dollars(bill, places), dollars(cost - bill, places)]
        cells.append(percent(cost - bill, bill))
    return cells


def _renamed(sides: dict[tuple[int, str], Side], known: set[str]) -> dict[tuple[int, str], Side]:
    """Names that both sides have stay; the others meet under their canonical form."""
    found: defaultdict[tuple[int, str], Side] = defaultdict(Side)
    for (day, model), side in sides.items():
        found[day, model if model in known else canonical(model)] += side
    return dict(found)


def _sum(sides: dict[tuple[int, str], Side]) -> Side:
    return sum(sides.values(), Side())


def _micro(amount: Decimal | None) -> int:
    return int((amount or Decimal(0)).to_integral_value(ROUND_HALF_UP))


def _apart(ours: Decimal, theirs: Decimal) -> Decimal:
    if ours == theirs:
        return Decimal(0)
    return abs(ours - theirs) / theirs if theirs else Decimal("Infinity")


def _plus(one: _N | None, other: _N | None) -> _N | None:
    return other if one is None else one if other is None else one + other
