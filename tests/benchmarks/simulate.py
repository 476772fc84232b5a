"""How many recorded requests a second one core replays through two policies. docs/policy-simulate.md.

    python -m tests.benchmarks.simulate [--rows 200000] [--bodies 30000] [--scored 5000] [--similar 500]

Replays a ledger in SQLite (reading included), a file of facts, one of bodies (parsed, matched by keywords and looked up
in the exact cache), bodies that the light head has to score, and bodies of a route with a certified semantic cache. Exit
status 1 where the ledger is below the goal.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.verify.verifier import load_verifier
from gateway.core.exchange import Usage
from gateway.database import open_database
from gateway.encoder import open_model
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore
from gateway.pricing.book import load_book
from gateway.routing.decide import Threshold
from gateway.simulate.ledger import read_ledger
from gateway.simulate.money import DayPrices
from gateway.simulate.replay import replay
from gateway.simulate.scores import Scores
from gateway.simulate.similar import Similar
from gateway.simulate.sources import open_traffic
from gateway.simulate.traffic import Recorded
from gateway.simulate.world import Before, World
from tests.support.certificates import certify_route
from tests.support.policies import policy
from tests.support.records import attempt, record

GOAL = 10_000
DAY_S = 86_400
BEGIN_S = 1_790_000_000
BOOK = Path(__file__).parents[2] / "routing_policies" / "prices.yaml"
TARGETS = """
targets:
  fast: {provider: openai, model: gpt-4o-mini, api_key: env:OPENAI_API_KEY}
  smart: {provider: openai, model: gpt-4o, api_key: env:OPENAI_API_KEY}
"""
OLD = TARGETS + "routes: [{name: chat, match: {}, target: smart}]\n"
NEW = (
    TARGETS
    + """
routes:
  - {name: long, match: {models: [auto], min_input_tokens: 4k}, target: smart}
  - {name: night, match: {models: [auto], hours: ["22:00-06:00"]}, target: fast}
  - {name: trial, match: {tags: [trial]}, target: fast}
  - {name: chat, match: {}, split: [{target: fast, weight: 90}, {target: smart, weight: 10}]}
budgets: [{scope: tenant, limit: $500/month}, {scope: all, limit: $100000/month}]
"""
)
WORDS = (
    TARGETS
    + """
routes:
  - {name: sql, match: {models: [auto], keywords: [select, join]}, target: smart}
  - {name: chat, match: {}, target: fast, cache: {exact: 24h}}
"""
)
SIMILAR = TARGETS + "routes: [{name: chat, match: {}, target: fast, cache: {semantic: {ttl: 24h}}}]\n"
SCORED = TARGETS + "routes: [{name: chat, match: {}, classify: {weak: fast, strong: smart, strong_share: 30%}}]\n"


def main() -> int:
    """Makes traffic, replays it, prints figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, default=200_000, help="of the ledger and of the file of facts [%(default)s]"
    )
    parser.add_argument("--bodies", type=int, default=30_000, help="[%(default)s]")
    parser.add_argument("--scored", type=int, default=5_000, help="[%(default)s]")
    parser.add_argument("--similar", type=int, default=500, help="[%(default)s]")
    arguments = parser.parse_args()
    dice = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="farthing-simulate-") as folder:
        at = Path(folder)
        ledger = _ledger(at / "ledger.db", arguments.rows, dice)
        facts = _file(at / "facts.jsonl", (_facts(dice, n) for n in range(arguments.rows)))
        bodies = _file(at / "bodies.jsonl", (_body(dice, n) for n in range(arguments.bodies)))
        scored = _file(at / "scored.jsonl", (_body(dice, n) for n in range(arguments.scored)))
        rate = _measure("ledger, no bodies", NEW, ledger)
        _measure("JSONL, facts", NEW, facts)
        _measure("JSONL, bodies: keywords, exact cache", WORDS, bodies)
        _measure("JSONL, bodies scored by the light head", SCORED, scored)
        similar = _file(at / "similar.jsonl", (_question(dice, n) for n in range(arguments.similar)))
        _measure("JSONL, bodies: certified semantic cache", SIMILAR, similar, _certified(at))
    return 0 if rate >= GOAL else 1


def _measure(name: str, new: str, traffic: Callable[[], Iterator[Recorded]], similar: Similar | None = None) -> float:
    book = load_book(BOOK)
    worlds = [
        World(policy(text), DayPrices(book), lambda _: Threshold(0.1), Scores(["light"], lambda: ""), Before(), similar)
        for text in (new, OLD)
    ]
    began = time.process_time()
    tally = replay(traffic(), worlds[0], worlds[1], seed=1, now_s=BEGIN_S)
    took = time.process_time() - began
    rate = tally.new.requests / took
    print(f"{name:<40} {tally.new.requests:>8,} requests  {took:6.2f} s CPU  {rate:>8,.0f} /s  two policies")
    return rate


def _ledger(path: Path, rows: int, dice: random.Random) -> Callable[[], Iterator[Recorded]]:
    url = f"sqlite:///{path}"
    database = open_database(url)
    store = LedgerStore(database)
    store.migrate()
    ends = []
    for number in range(rows):
        tenant = f"t{dice.randrange(50)}"
        usage = Usage(dice.randrange(6000), output=dice.randrange(800))
        ends.append(
            record(
                request_id=f"{number:032x}",
                started_s=BEGIN_S + number * 7 * DAY_S / rows,
                tenant=tenant,
                key=f"{tenant}-{dice.randrange(4)}",
                tags=dice.choice(((), ("trial",), ("prod", "eu"))),
                requested_model=dice.choice(("auto", "gpt-4o", "support")),
                route="chat",
                target="smart",
                usage=usage,
                attempts=(attempt(cost_micro_usd=1000, usage=usage),),
                cost_micro_usd=1000,
                admitted=True,
            )
        )
    for start in range(0, rows, 10_000):
        store.insert(build(ends[start : start + 10_000], 1000, lambda: None))
    return lambda: read_ledger(database, None, None)


def _file(path: Path, lines: Iterator[dict[str, Any]]) -> Callable[[], Iterator[Recorded]]:
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
    return lambda: open_traffic(str(path), str, None, None).requests


def _facts(dice: random.Random, number: int) -> dict[str, Any]:
    return {**_common(dice, number), "model": "auto", "facts": {"tools": False}, "headers": {}}


def _body(dice: random.Random, number: int) -> dict[str, Any]:
    text = " ".join(dice.choice(("the", "price", "of", "column", "rows", "why", "does", str(number % 997), "report"))
                    for _ in range(120))  # fmt: skip
    text += " join" if dice.random() < 0.2 else ""
    turns = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": text}]
    return {**_common(dice, number), "request": {"model": "auto", "messages": turns}}


def _question(dice: random.Random, number: int) -> dict[str, Any]:
    """Short questions, none of them twice."""
    text = (
        f"How does one {dice.choice(('clean', 'repair', 'fold'))} a {dice.choice(('tent', 'stove'))} of type {number}?"
    )
    return {
        **_common(dice, number),
        "tenant": "t",
        "request": {"model": "auto", "messages": [{"role": "user", "content": text}]},
    }


def _certified(folder: Path) -> Similar:
    """Encoder and verifier, and a certificate for the route."""
    versions = {"encoder": open_model("minilm").version, "verifier": load_verifier().version}
    certify_route(folder, "chat", versions)
    return Similar(policy(SIMILAR).caching.values(), folder, lambda: "minilm")


def _common(dice: random.Random, number: int) -> dict[str, Any]:
    return {
        "time": BEGIN_S + number,
        "tenant": f"t{dice.randrange(50)}",
        "tags": ["prod"],
        "usage": {"prompt_tokens": dice.randrange(6000), "completion_tokens": dice.randrange(800)},
        "target": "smart",
        "cost_usd": "0.001",
    }


if __name__ == "__main__":
    raise SystemExit(main())
