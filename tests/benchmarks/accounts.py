"""What budgets and limits cost a request: CPU of the embedded store; time, CPU and round trips on a real local Redis.

`python -m tests.benchmarks.accounts [--json] [--requests N] [--rounds N]`. Each request reserves and settles under two
budgets, a rate of requests, a rate of tokens and a slot. `one` is a single key; `many` are 10,000 keys of 999 tenants,
1,000 budgets with the one of all. Both take turns, round by round, so that a busy machine disturbs both.

On Redis, in two ways. Open: requests come when they come (Poisson), so many a second, from another process; a reserve's
time begins there. That is latency, as a gateway sees it. Closed: so many callers reserve and settle without a pause, so
the two processes are always busy, and the time of a reserve is about callers / requests a second. That is capacity.

Embedded, all that `one` touches stays in the processor's nearest cache; what `many` take longer is the way to the
memory, not more work.
"""

import argparse
import asyncio
import gc
import itertools
import json
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio
import uvloop

from gateway.access.accounts import Accounts, Window
from gateway.access.embedded import EmbeddedAccounts
from gateway.access.grants import Grant
from gateway.access.redis import RedisAccounts
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from tests.support.redis_server import RedisServer

KEYS = 10_000
TENANTS = 999
PLENTY = 10**12
NOW_S = 1_767_225_600.0
LEASE_S = 600.0
CALLERS = (1, 4, 16, 64)
PER_S = (500, 1_000, 2_000)
CALLERS_IN_TIME = (1, 4, 16)
"""As many at once have a goal for the time of a reserve; more of them measure what two processors can do."""
OPEN_S = 2.0
"""How long requests come, per round."""
ARRIVALS = """
import os, random, struct, sys, time
draw, at = random.Random(int(sys.argv[3])), time.perf_counter()
for _ in range(int(sys.argv[2])):
    at += draw.expovariate(float(sys.argv[1]))
    while (left := at - time.perf_counter()) > 0:
        time.sleep(left)
    os.write(1, struct.pack("d", time.perf_counter()))
"""
"""Writes the moment at which each request comes; all processes of a machine read one clock."""
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
    """One run against Redis. Milliseconds of `reserve`; the rest per request: script calls, microseconds of CPU."""

    p50_ms: float
    p99_ms: float
    per_s: float
    calls: float
    gateway_us: float
    redis_us: float


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


async def nothing_spent(windows: Sequence[Window]) -> list[int]:
    return [0] * len(windows)


async def request(accounts: Accounts, applies: Applies, began: float) -> float:
    """Reserves, settles; seconds from `began` until it was reserved."""
    id_ = f"request-{next(_ids):012}"
    answer = await accounts.reserve(id_, applies, 5_000, 800, NOW_S, LEASE_S)
    took = time.perf_counter() - began
    assert isinstance(answer, Grant), answer
    accounts.settle(id_, 3_000, 500, NOW_S)
    return took


# Embedded.


async def embedded_us(accounts: EmbeddedAccounts, callers: list[Applies], count: int) -> float:
    """Microseconds of CPU per request."""
    gc.collect()
    began = time.thread_time()
    for number in range(count):
        id_, applies = f"request-{number:012}", callers[number % len(callers)]
        if accounts.reserve_at_once(id_, applies, 5_000, 800, NOW_S, LEASE_S) is None:
            await accounts.reserve(id_, applies, 5_000, 800, NOW_S, LEASE_S)
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
    """One replica with its background task, and a connection that reads the server's own counters.

    The deadline is long: a machine that is taken away for seconds is not what is measured.
    """

    def __init__(self, url: str, prefix: str, callers: list[Applies]) -> None:
        self.accounts = RedisAccounts(url, nothing_spent, prefix=prefix, cold_grace_s=0.0, deadline_s=60.0)
        self.callers = callers
        self._server = redis.asyncio.Redis.from_url(url)
        self._task = asyncio.create_task(self.accounts.run())
        self._numbers = itertools.count()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.accounts.aclose()
        await self._server.aclose()

    async def closed(self, callers: int, count: int) -> Round:
        """So many callers, each with its next request as soon as it has its answer."""
        left = iter(range(count))

        async def worker() -> list[float]:
            return [await self._request(time.perf_counter()) for _ in left]

        return await self._measured(asyncio.gather(*[worker() for _ in range(callers)]))

    async def open(self, per_s: int) -> Round:
        """So many requests a second, whether those before have their answers or not."""
        count = int(per_s * OPEN_S)
        arrivals = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ARRIVALS, str(per_s), str(count), str(next(_ids)), stdout=asyncio.subprocess.PIPE
        )
        assert arrivals.stdout is not None
        stdout = arrivals.stdout

        async def come() -> list[list[float]]:
            requests = []
            for _ in range(count):
                (came,) = struct.unpack("d", await stdout.readexactly(8))
                requests.append(asyncio.create_task(self._request(came)))
            return [await asyncio.gather(*requests)]

        round_ = await self._measured(come())
        await arrivals.wait()
        return round_

    def _request(self, began: float) -> Coroutine[Any, Any, float]:
        applies = self.callers[next(self._numbers) * 7919 % len(self.callers)]
        return request(self.accounts, applies, began)

    async def _measured(self, running: Awaitable[list[list[float]]]) -> Round:
        calls_before, redis_before = await self._counters()
        began, gateway_before = time.perf_counter(), time.process_time()
        took = [one for many in await running for one in many]
        while self.accounts.waiting:
            await asyncio.sleep(0.001)
        wall, gateway_s = time.perf_counter() - began, time.process_time() - gateway_before
        calls, redis_s = await self._counters()
        count = len(took)
        percents = statistics.quantiles(took, n=100)
        return Round(
            percents[49] * 1e3,
            percents[98] * 1e3,
            count / wall,
            (calls - calls_before) / count,
            gateway_s / count * 1e6,
            (redis_s - redis_before) / count * 1e6,
        )

    async def _counters(self) -> tuple[int, float]:
        """Scripts run, and seconds of CPU, since the server's start."""
        calls = (await self._server.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
        cpu = await self._server.info("cpu")
        return calls, cpu["used_cpu_user"] + cpu["used_cpu_sys"]


def middle(rounds: list[Round]) -> Round:
    """The median of each figure."""
    return Round(*[statistics.median(figures) for figures in zip(*rounds, strict=True)])


def named(kind: str, load: int) -> str:
    return f"{load:,}/s" if kind == "open" else f"{load} at once"


async def on_redis(
    url: str, one: list[Applies], many: list[Applies], count: int, rounds: int
) -> dict[str, dict[str, Round]]:
    """By population and load."""
    replicas = {"one": OnRedis(url, "one", one), "many": OnRedis(url, "many", many)}
    for replica in replicas.values():
        await replica.accounts.refresh()
        await replica.closed(16, max(200, 2 * len(replica.callers)))
    figures: dict[str, dict[str, Round]] = {name: {} for name in replicas}
    for kind, load in [("open", per_s) for per_s in PER_S] + [("closed", callers) for callers in CALLERS]:
        found: dict[str, list[Round]] = {name: [] for name in replicas}
        for _ in range(rounds):
            for name, replica in replicas.items():
                found[name].append(await (replica.open(load) if kind == "open" else replica.closed(load, count)))
        for name, measured in found.items():
            figures[name][named(kind, load)] = middle(measured)
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
        there = uvloop.run(on_redis(server.url, one, many, count, rounds))
    found["redis"] = {name: {load: row._asdict() for load, row in rows.items()} for name, rows in there.items()}
    loads = [*[named("open", per_s) for per_s in PER_S], *[named("closed", callers) for callers in CALLERS_IN_TIME]]
    goals += [Goal(f"redis: ms of a reserve, p50, {load}", there["one"][load].p50_ms, 1.0) for load in loads]
    for name, rows in there.items():
        most = max([row.calls for row in rows.values()])
        goals += [Goal(f"redis: most round trips per request, {name}", round(most, 1), 2.0)]
    few = named("closed", 4)
    more = more_percent(there["many"][few].p50_ms, there["one"][few].p50_ms)
    goals += [Goal(f"redis: % more p50 with 10,000 keys and 1,000 budgets, {few}", more, 10.0)]
    return found, goals


def show(found: dict[str, object], goals: list[Goal]) -> None:
    redis_figures = found.get("redis")
    if isinstance(redis_figures, dict):
        columns = f"{'p50 ms':>9}{'p99 ms':>9}{'requests/s':>12}{'calls':>8}{'CPU us: gateway':>17}{'redis':>8}"
        print(f"{'redis':<6}{'load':>12}{columns}")
        for name, rows in redis_figures.items():
            for load, row in rows.items():
                print(
                    f"{name:<6}{load:>12}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['per_s']:>12,.0f}"
                    f"{row['calls']:>8.2f}{row['gateway_us']:>17.0f}{row['redis_us']:>8.0f}"
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
