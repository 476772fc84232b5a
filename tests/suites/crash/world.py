"""One run: a stub, a gateway with budgets, callers, and the questions that are asked when the dust has settled."""

import asyncio
import json
import os
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from gateway.database import open_database
from gateway.ledger.verify import verify
from tests.suites.crash.books import Audit, Ledger, audit, leaked, misjudged, overshot, read_bill, read_ledger
from tests.suites.crash.load import Answer, Caller, Load, Wish, as_json, mixed
from tests.suites.crash.processes import GatewayProcess, StubProcess, bill_lines, poll
from tests.suites.crash.signing import INPUT_MICRO, OUTPUT_MICRO, Ask

TENANTS = ("shop", "mill", "dock", "tight")
TIGHT_MICRO = 12_000
"""The budget of tenant `tight`: some dozen requests, so that every run comes to its end."""
LIMITS = {
    "all/total": 1_000_000_000,
    **{f"tenant:{tenant}/month": 200_000_000 for tenant in TENANTS},
    "tenant:tight/total": TIGHT_MICRO,
}
SAMPLE_S = 0.05


def seed() -> int:
    """`CRASH_SEED`, or a new one."""
    return int(os.environ.get("CRASH_SEED") or secrets.randbelow(1_000_000))


def policy(stub_port: int, total_s: int) -> str:
    return json.dumps({
        "version": 1,
        "targets": {
            "signed": {
                "provider": "openai_compatible",
                "base_url": f"http://127.0.0.1:{stub_port}/v1",
                "price": {"input": INPUT_MICRO, "output": OUTPUT_MICRO},
            }
        },
        "defaults": {
            "deadlines": {"connect": "2s", "first_token": f"{total_s}s", "idle": f"{total_s}s", "total": f"{total_s}s"},
            "retries": {"attempts": 1},
        },
        "routes": [{"name": "everything", "match": {}, "target": "signed"}],
        "keys": {tenant: {"tenant": tenant, "secret": f"env:KEY_{tenant.upper()}"} for tenant in TENANTS},
        "budgets": [
            {"scope": "all", "limit": "$1000/total"},
            {"scope": "tenant", "limit": "$200/month"},
            {"scope": "tenant:tight", "limit": "$0.012/total"},
        ],
    })  # fmt: skip


class Overshoot(threading.Thread):
    """Looks at the budgets of every gateway all the time: `committed + reserved <= limit` at every look."""

    def __init__(self, gateways: Sequence[GatewayProcess]) -> None:
        super().__init__(name="overshoot", daemon=True)
        self._gateways = gateways
        self._over = threading.Event()
        self.looks = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for gateway in self._gateways:
                budgets = gateway.budgets() or {}
                self.looks += len(budgets)
                self.wrong += overshot(budgets)

    def stop(self) -> None:
        self._over.set()
        self.join()


class World:
    """See the module. Use as a context manager; gateways are started by the scenario. `gateway` is the first of them."""

    def __init__(
        self, folder: Path, seed: int, env: Mapping[str, str] | None = None, *, total_s: int = 30, replicas: int = 1
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.rng = random.Random(seed)
        self.keys = {tenant: f"sk-{tenant}-{secrets.token_hex(16)}" for tenant in TENANTS}
        self.answers: list[Answer] = []
        self.stub = StubProcess(folder)
        named = {f"KEY_{tenant.upper()}": key for tenant, key in self.keys.items()}
        self.gateways: list[GatewayProcess] = []
        for number in range(replicas):
            own = folder / f"gateway-{number}"
            own.mkdir()
            self.gateways.append(GatewayProcess(own, policy(self.stub.port, total_s), {**named, **(env or {})}))
        self.gateway = self.gateways[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in self.gateways:
            gateway.stop()
        self.stub.stop()
        (self.folder / "answers.jsonl").write_text("".join(json.dumps(as_json(a)) + "\n" for a in self.answers))

    @contextmanager
    def watched(self) -> Iterator[Overshoot]:
        """Fails at the end of the block when a budget was overshot at any look."""
        watch = Overshoot(self.gateways)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
        assert not watch.wrong, watch.wrong[:5]

    def load(self, wish: Callable[[random.Random, str], Wish] = mixed) -> Load:
        return Load([gateway.port for gateway in self.gateways], self.keys, self.seed, wish, self.answers)

    async def one(
        self, tenant: str, *, words: int = 5, stream: bool = False, max_tokens: int = 16, first_ms: int = 0
    ) -> Answer:
        """One request by a caller of its own."""
        caller = Caller(self.gateway.port, self.keys[tenant])
        try:
            answer = await caller.ask(Wish(Ask(tenant, self.nonce(), words, first_ms, 0), stream, max_tokens))
        finally:
            await caller.close()
        self.answers.append(answer)
        return answer

    def nonce(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    async def up(self) -> None:
        """Starts the gateway unless it runs."""
        if not self.gateway.running:
            await asyncio.to_thread(self.gateway.start)

    # What is asked when the dust has settled.

    def settled(self, limit_s: float = 20.0) -> None:
        """Returns once the stub is quiet, nothing is under way, and every row is stored; all gateways running."""
        self.stub.quiet(limit_s)
        none = {"": 0.0}
        for gateway in self.gateways:
            poll(lambda: gateway.metrics("farthing_in_flight") == none, "requests end", limit_s)
            poll(lambda: gateway.metrics("farthing_ledger_lag_rows") == none, "rows are stored", limit_s)
            poll(lambda: gateway.metrics("farthing_settlements_waiting") in (none, {}), "budgets are told", limit_s)

    def missing(self, since_line: int, until_line: int) -> set[str]:
        """Ids that reached the stub between two lines of its bill and have no row yet."""
        ids = [line["id"] for line in bill_lines(self.stub.bill)[since_line:until_line] if "begin" in line]
        found: set[str] = set()
        database = open_database(self.gateway.database_url, timeout_s=30)
        try:
            for at in range(0, len(ids), 500):
                part = ids[at : at + 500]
                marks = ", ".join("?" * len(part))
                found |= {
                    row[0]
                    for row in database.query(f"SELECT request_id FROM requests WHERE request_id IN ({marks})", part)
                }
        finally:
            database.close()
        return set(ids) - found

    def audited(self) -> Audit:
        """The audit, and what `farthing ledger verify` checks. Raises with all that is wrong."""
        ledger = read_ledger(self.gateway.database_url)
        found = audit(ledger, read_bill(self.stub.bill), self.answers, LIMITS)
        database = open_database(self.gateway.database_url, timeout_s=30)
        try:
            for gateway in self.gateways:  # each has a journal of its own
                for check in verify(database, gateway.data / "journal").checks:
                    if check.wrong:
                        found.fail(f"farthing ledger verify: not so: {check.says}: {check.wrong}, {check.examples}")
        finally:
            database.close()
        found.raise_if_wrong()
        return found

    def nothing_reserved(self, limit_s: float) -> None:
        """No reservation outlives its request and its lease."""

        def free() -> bool:
            seen = [gateway.budgets() for gateway in self.gateways]
            return all(budgets is not None and not leaked(budgets) for budgets in seen)

        poll(free, "reservations are given back", limit_s)

    async def no_phantom_429(self) -> None:
        """For every tenant: a request that just fits into what its rows have left is admitted, one token more is not.

        What a request of one token reserves is read from its row; each token more reserves `OUTPUT_MICRO` more.
        """
        base = None
        for tenant in TENANTS:
            probe = await self.one(tenant, words=1, max_tokens=1)
            await asyncio.to_thread(self.settled)
            ledger = await asyncio.to_thread(read_ledger, self.gateway.database_url)
            left = remaining(ledger, tenant)
            if probe.status == 429:
                assert base is not None, f"phantom 429 of {tenant}: {left} micro-USD are left"
                least = base + (len(tenant) - len(TENANTS[0])) * INPUT_MICRO
                assert least > left, f"phantom 429 of {tenant}: {left} micro-USD are left, {least} are needed"
                continue
            assert probe.status == 200, probe
            reserved = ledger.by_id[probe.request_id or ""].reserved
            assert reserved is not None
            base = base or reserved
            most = 1 + (left - reserved) // OUTPUT_MICRO
            if most < 1:
                continue
            for tokens in (most + 1, most):
                answer = await self.one(tenant, words=1, max_tokens=tokens)
                needed = reserved + (tokens - 1) * OUTPUT_MICRO
                assert (wrong := misjudged(left, needed, answer)) is None, f"{tenant}: {wrong}"
            await asyncio.to_thread(self.settled)

    async def closing(self, lease_s: float = 20.0) -> Audit:
        """Everything that holds at the end of a scenario, with the gateway running."""
        await asyncio.to_thread(self.settled)
        await asyncio.to_thread(self.nothing_reserved, lease_s)
        before = await asyncio.to_thread(self.audited)
        await self.no_phantom_429()
        await asyncio.to_thread(self.settled)
        await asyncio.to_thread(self.audited)
        return before


def remaining(ledger: Ledger, tenant: str) -> int:
    """Micro-USD that the tightest budget of a tenant has left, by the rows."""
    spent: dict[str, int] = {}
    for window, micro in ledger.committed().items():
        budget = window.partition("@")[0]
        spent[budget] = spent.get(budget, 0) + micro
    budgets = ["all/total", *[budget for budget in LIMITS if budget.startswith(f"tenant:{tenant}/")]]
    return min(LIMITS[budget] - spent.get(budget, 0) for budget in budgets)


def brief(world: World, name: str, found: Audit, *more: str) -> str:
    """The line that a scenario prints."""
    restarts = sorted(taken_ms for gateway in world.gateways for taken_ms in gateway.restarts_ms)
    middle, worst = restarts[len(restarts) // 2], restarts[-1]
    parts = [f"crash {name}: seed {world.seed}", found.line(), *more, f"start {middle:.0f} ms (worst {worst:.0f})"]
    return ", ".join(parts)
