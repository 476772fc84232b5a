"""Ended requests for tests of what reads the ledger: priced attempts, savings that add up, any field replaced."""

import itertools
import random
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.core.exchange import RequestRecord, Savings, Usage
from tests.support.records import RECORD, attempt

_numbers = itertools.count(1)


def at(text: str) -> float:
    """`2026-11-01T13:00` in UTC as Unix time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def ended(
    started: str | float, cost: int | None = 1000, *, savings: Savings | None = None, **fields: Any
) -> RequestRecord:
    """A settled request that cost `cost` micro-USD in one attempt; ids are never given twice."""
    given = {
        "request_id": f"{next(_numbers):032x}",
        "started_s": at(started) if isinstance(started, str) else started,
        "cost_micro_usd": cost,
        "attempts": (attempt(cost_micro_usd=cost),),
        "admitted": True,
        "reserved_micro_usd": 5000,
        "savings": savings,
        **fields,
    }
    return msgspec.structs.replace(RECORD, **given)


def saved(cost: int, **terms: int) -> Savings:
    """Savings with these terms against the baseline that they imply."""
    return Savings(baseline=cost + Savings(baseline=0, **terms).net, **terms)


def traffic(count: int, seed: int, since: str, hours: int) -> list[RequestRecord]:
    """Requests of all kinds, spread evenly at random over `hours`."""
    dice = random.Random(seed)
    begin = at(since)
    return [_one(dice, begin + dice.random() * hours * 3600) for _ in range(count)]


def _one(dice: random.Random, started_s: float) -> RequestRecord:
    tenant = dice.choice(("shop", "lab", "ops"))
    cost = dice.choice((None, 0, dice.randrange(5000)))
    savings = None
    if cost is not None and dice.random() < 0.7:
        names = ("cache", "routing", "compression", "waste_escalation", "waste_retries")
        savings = saved(cost, **{name: dice.randrange(-500, 3000) for name in names})
    usage = Usage(
        *(dice.randrange(1000) for _ in range(4)),
        output=dice.randrange(500),
        source=dice.choice(("reported", "estimated")),
    )
    return ended(
        started_s,
        cost,
        savings=savings,
        tenant=tenant,
        key=f"{tenant}-{dice.randrange(2)}",
        route=dice.choice(("chat", "batch")),
        model=dice.choice(("gpt-4o", "claude-haiku-4-5", "")),
        target=dice.choice(("a", "b")),
        provider=dice.choice(("openai_compatible", "anthropic")),
        outcome=dice.choice(("ok", "ok", "truncated")),
        usage=dice.choice((usage, None)),
        ttft_s=dice.choice((None, dice.random())),
        duration_s=dice.random() * 10,
        windows=(f"tenant:{tenant}/total@0", "all/total@0"),
    )
