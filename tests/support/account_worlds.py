"""A store of accounts with everything around it that a test moves by hand: the ledger, time, crashes, a flush.

`world.client()` is one replica. Time does not pass by itself: `pass_time` refills buckets, `lapse` ends every lease of
at most `LEASE_S` seconds. On Redis, whose clock cannot be moved, both shift what is stored instead.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from gateway.access.accounts import Window
from gateway.access.embedded import EmbeddedAccounts
from gateway.access.owner import Owner
from gateway.access.redis import RedisAccounts

LEASE_S = 60.0
START_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


async def until(condition: Any, what: str, timeout_s: float = 5.0) -> None:
    """Polls `condition()`; fails with `what` when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.001)


class World:
    """`ledger` is what the store is told when it asks for a window's truth."""

    def __init__(self) -> None:
        self.now = START_S
        self.ledger: dict[str, int] = {}
        self.asked: list[str] = []
        self.ledger_fails = False

    async def truth(self, windows: Sequence[Window]) -> list[int]:
        self.asked += [window.id for window in windows]
        await asyncio.sleep(0)
        if self.ledger_fails:
            raise OSError("no ledger")
        return [self.ledger.get(window.id, 0) for window in windows]


class EmbeddedWorld(World):
    """One process. A crash begins anew from the ledger."""

    replicas = 1

    def __init__(self) -> None:
        super().__init__()
        self._accounts = EmbeddedAccounts(self.truth)

    async def client(self, _: int = 0, **options: Any) -> EmbeddedAccounts:
        return self._accounts

    async def crash(self, _: int = 0) -> None:
        self._accounts = EmbeddedAccounts(self.truth)

    async def arrive(self) -> None:
        """Everything settled has reached the store."""

    async def lapse(self) -> None:
        self.now += LEASE_S + 1
        self._accounts.sweep(self.now)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds

    async def state(self, window_id: str) -> tuple[int, int]:
        """Committed and reserved; what the ledger says of a window that was not touched yet."""
        for spent in self._accounts.snapshot(self.now):
            if spent.window.id == window_id:
                return spent.committed, spent.reserved
        return self.ledger.get(window_id, 0), 0

    async def close(self) -> None:
        """Nothing is open."""


class RedisWorld(World):
    """Replicas on one prefix of a real server, each with its background task.

    Where Redis is not the one that fails, a starved machine must not look like it: hence the long deadline.
    """

    replicas = 2

    def __init__(self, url: str, prefix: str, deadline_s: float = 10.0) -> None:
        super().__init__()
        self.url = url
        self.deadline_s = deadline_s
        self.prefix = prefix
        self.redis = redis.asyncio.Redis.from_url(url, decode_responses=True)
        self._clients: dict[int, tuple[RedisAccounts, asyncio.Task[None]]] = {}
        self._starts: dict[int, int] = {}
        self.rows: dict[str, tuple[int, int]] = {}
        """Micro-USD and tokens by request id: what a replica that starts again is told of earlier requests."""

    async def client(self, replica: int = 0, **options: Any) -> RedisAccounts:
        if replica not in self._clients:
            settings = {"cold_grace_s": 0.0, "ledger_lag_s": 0.0, "deadline_s": self.deadline_s, **options}
            self._starts[replica] = self._starts.get(replica, 0) + 1
            owner = self.owner(replica)
            accounts = RedisAccounts(self.url, self.truth, prefix=self.prefix, owner=owner, **settings)
            self._clients[replica] = (accounts, asyncio.create_task(accounts.run()))
        return self._clients[replica][0]

    def owner(self, replica: int = 0) -> Owner:
        """The last start of a replica."""
        return Owner(f"replica-{replica}", self._starts[replica])

    async def stored(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """What the ledger has of requests."""
        if self.ledger_fails:
            raise OSError("no ledger")
        return {id_: self.rows[id_] for id_ in ids if id_ in self.rows}

    async def start_again(self, replica: int = 0, *, later: bool = True) -> RedisAccounts:
        """A crashed replica is back, `later` than its last start can have been heard of; what it left is disowned."""
        if later:
            await self.redis.delete(f"{{{self.prefix}}}:alive:replica-{replica}")
        accounts = await self.client(replica)
        accounts.disown(self.owner(replica), self.stored)
        return accounts

    async def disowned(self, replica: int = 0) -> None:
        """Nothing of a replica's earlier starts is left."""
        accounts = self._clients[replica][0]
        await until(lambda: not accounts._left, "leases of an earlier start are left")

    async def crash(self, replica: int = 0) -> None:
        """The client object is thrown away with all it knows; nothing is sent any more."""
        if replica in self._clients:
            accounts, task = self._clients.pop(replica)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await accounts._link.aclose()

    async def arrive(self) -> None:
        for accounts, _ in self._clients.values():
            await until(lambda: accounts.waiting == 0, "ends of leases wait for ever")

    async def lapse(self) -> None:
        key = f"{{{self.prefix}}}:leases"
        soon = (time.time() + LEASE_S) * 1000 + 1000
        for id_, at in await self.redis.zrange(key, 0, -1, withscores=True):
            if at <= soon:
                await self.redis.zadd(key, {id_: 0})
        await (await self.client()).refresh()

    async def pass_time(self, seconds: float) -> None:
        async with redis.asyncio.Redis.from_url(self.url) as raw:
            async for key in raw.scan_iter(f"{{{self.prefix}}}:rate:*"):
                level, at_ms = struct.unpack("dd", await raw.get(key))
                await raw.set(key, struct.pack("dd", level, at_ms - seconds * 1000), keepttl=True)

    async def flush(self) -> None:
        """Redis forgets everything, and every replica has noticed."""
        await self.redis.flushall()
        for accounts, _ in list(self._clients.values()):
            await accounts.refresh()

    async def state(self, window_id: str) -> tuple[int, int]:
        committed, reserved = await self.redis.hmget(f"{{{self.prefix}}}:window:{window_id}", "c", "o")
        return int(self.ledger.get(window_id, 0) if committed is None else committed), int(reserved or 0)

    async def close(self) -> None:
        for replica in list(self._clients):
            await self.crash(replica)
        await self.redis.aclose()
