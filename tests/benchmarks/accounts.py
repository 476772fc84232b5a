"""What budgets and limits cost a request: CPU of the embedded store; time and round trips on a real local Redis.

`python -m tests.benchmarks.accounts [--json] [--requests N] [--rounds N]`. Each request reserves and settles under two
budgets, a rate of requests, a rate of tokens and a slot. `one` is a single key; `many` are 10,000 keys of 999 tenants,
1,000 budgets with the one of all. Both take turns, round by round, so that a busy machine disturbs both.

On Redis, so many callers at once reserve and settle without a pause: the more of them, the more each waits for the
one process that serves them all. Embedded, all that `one` touches stays in the processor's nearest cache; what `many`
take longer is the way to the memory, not more work.
"""

import argparse
import asyncio
import gc
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import redis.asyncio

from gateway.access.accounts import Accounts, Grant, Window
from gateway.access.embedded import EmbeddedAccounts
from gateway.access.redis import RedisAccounts
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from tests.support.redis_server import RedisServer

KEYS = 10_000
TENANTS = 999
PLENTY = 10**12
NOW_S = 1_767_225_600.0
LEASE_S = 600.0
CONCURRENCIES = (1, 4, 16, 64)
AT = 4
"""The concurrency of the goals, beside one at a time."""
_ids = itertools.count()


class Goal(NamedTuple):
    """A figure and the most that it may be."""

    name: str
    figure: float
    most: float

    @property
    def met(self) -> bool:
        return self.figure <= self.most


class Round(NamedTuple):
    """One run against Redis. Milliseconds of `reserve`; script calls, and CPU of the server, per request."""

    p50_ms: float
    p99_ms: float
    per_s: float
    calls: float
    server_us: float


def caller(key: int) -> Applies:
    tenant = key % TENANTS
    return Applies(
        budgets=(
            Budget(f"tenant:{tenant}/month", f"tenant:{tenant}", "month", PLENTY),
            Budget("all/month", "all", "month", PLENTY),
        ),
        rates=(Rate(f"key:{key}/requests", "requests", PLENTY), Rate(f"key:{key}/tokens", "tokens", PLENTY)),
        concurrency=(Concurrency(f"key:{key}", 100_000),),
    )


async def nothing_spent(_: Window) -> int:
    return 0


async def request(accounts: Accounts, applies: Applies, now: float) -> float:
    """Reserves, settles; seconds that the reserve took."""
    id_ = f"request-{next(_ids):012}"
    began = time.perf_counter()
    answer = await accounts.reserve(id_, applies, 5_000, 800, now, LEASE_S)
    took = time.perf_counter() - began
    assert isinstance(answer, Grant), answer
    accounts.settle(id_, 3_000, 500, now)
    return took


# Embedded.


async def embedded_us(accounts: EmbeddedAccounts, callers: list[Applies], count: int) -> float:
    """Microseconds of CPU per request."""
    gc.collect()
    began = time.thread_time()
    for number in range(count):
        id_ = f"request-{number:012}"
        await accounts.reserve(id_, callers[number % len(callers)], 5_000, 800, NOW_S, LEASE_S)
        accounts.settle(id_, 3_000, 500, NOW_S)
    return (time.thread_time() - began) / count * 1e6


async def embedded(one: list[Applies], many: list[Applies], count: int, rounds: int) -> dict[str, float]:
    """The best of all rounds for each."""
    stores = {"one": EmbeddedAccounts(nothing_spent), "many": EmbeddedAccounts(nothing_spent)}
    callers = {"one": one, "many": many}
    for name, store in stores.items():
        await embedded_us(store, callers[name], len(callers[name]))
    took: dict[str, list[float]] = {name: [] for name in stores}
    for _ in range(rounds):
        for name, store in stores.items():
            took[name].append(await embedded_us(store, callers[name], count))
    return {name: min(figures) for name, figures in took.items()}


# Redis.


class OnRedis:
    """One replica with its background task, and a connection that reads the server's own counters."""

    def __init__(self, url: str, prefix: str, callers: list[Applies]) -> None:
        self.accounts = RedisAccounts(url, nothing_spent, prefix=prefix, cold_grace_s=0.0, deadline_s=5.0)
        self.callers = callers
        self._server = redis.asyncio.Redis.from_url(url)
        self._task = asyncio.create_task(self.accounts.run())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.accounts.aclose()
        await self._server.aclose()

    async def run(self, concurrency: int, count: int) -> Round:
        numbers = iter(range(count))
        took: list[float] = []

        async def worker() -> None:
            for number in numbers:
                applies = self.callers[number * 7919 % len(self.callers)]
                took.append(await request(self.accounts, applies, NOW_S))

        calls_before, server_before = await self._counters()
        began = time.perf_counter()
        await asyncio.gather(*[worker() for _ in range(concurrency)])
        while self.accounts.waiting:
            await asyncio.sleep(0.001)
        wall = time.perf_counter() - began
        calls, server_us = await self._counters()
        percents = statistics.quantiles(took, n=100)
        return Round(
            percents[49] * 1e3,
            percents[98] * 1e3,
            count / wall,
            (calls - calls_before) / count,
            (server_us - server_before) / count,
        )

    async def _counters(self) -> tuple[int, int]:
        stats = (await self._server.info("commandstats")).get("cmdstat_evalsha", {})
        return stats.get("calls", 0), stats.get("usec", 0)


def middle(rounds: list[Round]) -> Round:
    """The median of each figure."""
    return Round(*[statistics.median(figures) for figures in zip(*rounds, strict=True)])


async def on_redis(
    url: str, one: list[Applies], many: list[Applies], count: int, rounds: int
) -> dict[str, dict[int, Round]]:
    """By population and concurrency."""
    replicas = {"one": OnRedis(url, "one", one), "many": OnRedis(url, "many", many)}
    for replica in replicas.values():
        await replica.accounts.refresh()
        await replica.run(16, max(200, 2 * len(replica.callers)))
    figures: dict[str, dict[int, Round]] = {name: {} for name in replicas}
    for concurrency in CONCURRENCIES:
        found: dict[str, list[Round]] = {name: [] for name in replicas}
        for _ in range(rounds):
            for name, replica in replicas.items():
                found[name].append(await replica.run(concurrency, count))
        for name, measured in found.items():
            figures[name][concurrency] = middle(measured)
    for replica in replicas.values():
        await replica.close()
    return figures


# The whole.


def more_percent(many: float, one: float) -> float:
    return max(0.0, (many / one - 1) * 100)


def measure(count: int, rounds: int) -> tuple[dict[str, object], list[Goal]]:
    one, many = [caller(0)], [caller(key) for key in range(KEYS)]
    local = asyncio.run(embedded(one, many, 10 * count, rounds))
    goals = [
        Goal("embedded: us of CPU per reserve and settle", local["one"], 12.0),
        Goal("embedded: the same with 10,000 keys and 1,000 budgets", local["many"], 12.0),
        Goal("embedded: % more with 10,000 keys and 1,000 budgets", more_percent(local["many"], local["one"]), 10.0),
    ]
    found: dict[str, object] = {"embedded_us": local}
    if shutil.which("redis-server") is None:
        sys.stderr.write("redis-server is not installed (Debian: apt install redis-server): without its figures\n")
        return found, goals
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        there = asyncio.run(on_redis(server.url, one, many, count, rounds))
    found["redis"] = {name: {str(at): row._asdict() for at, row in rows.items()} for name, rows in there.items()}
    single, crowd = there["one"][AT], there["many"][AT]
    goals += [
        Goal("redis: ms of a reserve, p50 one at a time", there["one"][1].p50_ms, 1.0),
        Goal(f"redis: ms of a reserve, p50 at {AT} at once", single.p50_ms, 1.0),
        Goal("redis: round trips per request", round(single.calls, 1), 2.0),
        Goal("redis: % more p50 with 10,000 keys and 1,000 budgets", more_percent(crowd.p50_ms, single.p50_ms), 10.0),
        Goal("redis: round trips per request with them", round(crowd.calls, 1), 2.0),
    ]
    return found, goals


def show(found: dict[str, object], goals: list[Goal]) -> None:
    redis_figures = found.get("redis")
    if isinstance(redis_figures, dict):
        print(f"{'redis':<8}{'at once':>8}{'p50 ms':>9}{'p99 ms':>9}{'requests/s':>12}{'calls':>8}{'server us':>11}")
        for name, rows in redis_figures.items():
            for at, row in rows.items():
                print(
                    f"{name:<8}{at:>8}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['per_s']:>12,.0f}"
                    f"{row['calls']:>8.2f}{row['server_us']:>11.1f}"
                )
    for goal in goals:
        print(f"{'PASS' if goal.met else 'FAIL'}  {goal.name}: {goal.figure:.2f} (at most {goal.most:g})")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4_000, help="per round on Redis; ten times as many embedded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found, goals = measure(options.requests, options.rounds)
    if options.json:
        print(json.dumps({**found, "goals": [{**goal._asdict(), "met": goal.met} for goal in goals]}, indent=1))
    else:
        show(found, goals)
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
