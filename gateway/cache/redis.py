"""Answers of many replicas in one Redis: by exact key in one round trip, deleted by tenant, tag or route; and leases.

Fails open: whatever goes wrong is a `StoreError`. Holds no vectors (see `distributed`). Nothing scans the key space:
deletion reads sorted sets that each put maintains (`lua/common.lua` lists the keys). Bounded in bytes: for room, the
answers that expire soonest go. Point it at a Redis of its own or leave room beside the budgets.
"""

import contextlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache.entry import Entry, Selector
from gateway.cache.store import StoreError, StoreStats

CONNECTIONS = 16
SOCKET_TIMEOUT_S = 2.0
"""For administration; look-ups have a shorter deadline of their own (see `guarded`)."""
ENTRY_BYTES = 2100
"""What an answer with two tags takes beside its MessagePack: its keys, and a place in seven indexes (Redis 7)."""
AT_ONCE = 200
"""Entries removed by one script: a few milliseconds in which Redis serves nobody else."""


class RedisAnswers:
    """The half of a `CacheStore` that needs no vectors, with its methods' contracts."""

    def __init__(self, url: str, max_bytes: int, *, prefix: str = "{farthing:cache}:") -> None:
        """Connects when first used. `prefix` should hold a hash tag, so that a cluster keeps all keys together."""
        self._max_bytes = max_bytes
        self._prefix = prefix
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SOCKET_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = Redis(connection_pool=self._pool)
        folder = files("gateway.cache") / "lua"
        common = (folder / "common.lua").read_text()
        self._scripts = {
            name: self._redis.register_script(common + (folder / f"{name}.lua").read_text())
            for name in ("put", "delete", "sweep", "lease", "release")
        }
        self._decode = msgspec.msgpack.Decoder(Entry).decode

    async def get(self, exact: str, now: float) -> Entry | None:
        """See `CacheStore`."""
        return (await self.many([exact], now))[0]

    async def many(self, exacts: Sequence[str], now: float) -> list[Entry | None]:
        """The unexpired answers to these keys, in their order, in one round trip."""
        with _translated():
            blobs: list[Any]
            if len(exacts) == 1:
                blobs = [await self._redis.hget(f"{self._prefix}x:{exacts[0]}", "b")]
            else:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for exact in exacts:
                        pipe.hget(f"{self._prefix}x:{exact}", "b")
                    blobs = await pipe.execute()
            entries = [None if blob is None else self._decode(blob) for blob in blobs]
        return [entry if entry is not None and entry.expires_s > now else None for entry in entries]

    async def put(self, entry: Entry) -> None:
        """Keeps an answer in the place of one with the same exact key; one larger than the whole store is not kept."""
        blob = msgspec.msgpack.encode(entry)
        size = len(blob) + ENTRY_BYTES
        if size > self._max_bytes:
            await self.delete(Selector(exact=entry.exact))
            return
        tags = "\n".join(entry.tags)
        expires_ms, now_ms = int(entry.expires_s * 1000), int(entry.stored_s * 1000)
        args = (entry.exact, entry.id, entry.scope, entry.tenant, entry.route, tags)
        await self._run("put", *args, expires_ms, now_ms, size, self._max_bytes, blob)

    async def find(self, id_: str) -> Entry | None:
        """See `CacheStore`. Two round trips."""
        with _translated():
            exact: Any = await self._redis.get(f"{self._prefix}i:{id_}")
            if exact is None:
                return None
            blob: Any = await self._redis.hget(f"{self._prefix}x:{exact.decode()}", "b")
            entry = None if blob is None else self._decode(blob)
        return entry if entry is not None and entry.id == id_ else None

    async def delete(self, selector: Selector) -> int:
        """See `CacheStore`. What is put meanwhile stays."""
        if selector.empty:
            return 0
        exacts = await self._among(selector)
        fields = (selector.tenant or "", selector.tag or "", selector.route or "", selector.id or "")
        removed = 0
        for start in range(0, len(exacts), AT_ONCE):
            removed += await self._run("delete", *fields, *exacts[start : start + AT_ONCE])
        return removed

    async def stats(self) -> StoreStats:
        """See `CacheStore`. Bytes as counted when they were put."""
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zcard(self._prefix + "all")
                pipe.zcard(self._prefix + "scopes")
                pipe.hmget(self._prefix + "count", ["bytes", "evicted"])
                entries, scopes, (size, evicted) = await pipe.execute()
        return StoreStats(entries, int(size or 0), scopes, int(evicted or 0))

    async def sweep(self, now: float) -> int:
        """See `CacheStore`."""
        swept = 0
        while True:
            removed = await self._run("sweep", int(now * 1000), AT_ONCE)
            swept += removed
            if removed < AT_ONCE:
                return swept

    async def lease(self, exact: str, owner: str, ttl_s: float) -> bool:
        """Whether `owner` now has the lease on this key for `ttl_s`: it was free, or is its own and is renewed."""
        return bool(await self._run("lease", exact, owner, max(1, int(ttl_s * 1000))))

    async def release(self, exact: str, owner: str) -> bool:
        """Gives the lease back; False when it was not (or no longer) the owner's."""
        return bool(await self._run("release", exact, owner))

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._redis.aclose()
        await self._pool.aclose()

    async def _run(self, script: str, *args: str | int | bytes) -> int:
        with _translated():
            return int(await self._scripts[script](keys=[self._prefix], args=args))

    async def _among(self, selector: Selector) -> list[str]:
        """Exact keys that hold all that match: one, or the members of the smallest index that applies."""
        if selector.exact is not None:
            return [selector.exact]
        fields = {"tenant": selector.tenant, "tag": selector.tag, "route": selector.route}
        indexes = [f"{self._prefix}f:{field}:{value}" for field, value in fields.items() if value is not None]
        indexes = indexes or [self._prefix + "all"]
        with _translated():
            if selector.id is not None:
                exact: Any = await self._redis.get(f"{self._prefix}i:{selector.id}")
                return [] if exact is None else [exact.decode()]
            async with self._redis.pipeline(transaction=False) as pipe:
                for index in indexes:
                    pipe.zcard(index)
                sizes = await pipe.execute()
            smallest = indexes[sizes.index(min(sizes))]
            members: list[Any] = await self._redis.zrange(smallest, 0, -1)
        return [member.decode() for member in members]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What Redis, the network or another version's entry does wrong, as `StoreError`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as exc:
        raise StoreError(f"the cache's Redis: {exc or type(exc).__name__}") from exc
