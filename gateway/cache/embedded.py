"""The cache's store in this process: answers and vectors in memory, bounded in bytes, and a file behind them if wished.

Fails open: without its file it goes on in memory. Memory is the truth and is changed on the event loop alone, so every
look-up sees every put and delete before it; the file follows in batches. Knows no threshold and no policy.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from gateway.cache.entry import Entry, Selector
from gateway.cache.eviction import SAMPLE, Value, value_per_byte
from gateway.cache.file import CacheFile, Corrupt, Saver, load, set_aside
from gateway.cache.matrix import Matrix, Vector
from gateway.cache.store import Neighbour, StoreError, StoreStats
from gateway.database import DatabaseError

log = logging.getLogger("farthing.cache")

ENTRY_BYTES = 600
"""What an entry takes beside its `size`: three indexes, a place in the sample, the objects' headers (measured)."""
SCOPE_BYTES = 900
THREAD_ROWS = 250_000
"""A scope with more rows is scanned in a worker thread: a millisecond and more would hold up every other request."""
SLICE = 500
"""Entries that are removed before other requests get a turn."""
_DEAD = -math.inf


class _Held(msgspec.Struct, gc=False):
    """An entry in memory. `expires_s` becomes `-inf` the moment it is deleted; `place` is where `_sample` holds it."""

    entry: Entry
    expires_s: float
    size: int
    place: int
    row: int | None = None
    served: int = 0


class _Scope:
    """The matrix of a scope, and whose vector each of its rows is."""

    __slots__ = ("held", "matrix")

    def __init__(self, dimension: int) -> None:
        self.matrix = Matrix(dimension)
        self.held: list[_Held] = []


class EmbeddedStore:
    """See `CacheStore`. Use it on one event loop only; `open` also reads the file behind it."""

    def __init__(
        self,
        max_bytes: int,
        *,
        value: Value = value_per_byte,
        rng: Callable[[int], int] = random.randrange,
    ) -> None:
        """`rng(n)` picks a number below n, for the sample of which the lowest `value` is evicted."""
        self._max_bytes = max_bytes
        self._value = value
        self._rng = rng
        self._saver: Saver | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._by_exact: dict[str, _Held] = {}
        self._by_id: dict[str, _Held] = {}
        self._by_field: dict[tuple[str, str], set[str]] = {}
        """Ids by ("tenant" | "tag" | "route", its value)."""
        self._scopes: dict[str, _Scope] = {}
        self._sample: list[_Held] = []
        self._bytes = 0
        self._now = 0.0
        self.evicted = 0
        self.refused = 0
        """Puts of entries that are larger than the whole store."""

    @classmethod
    def open(cls, path: Path, max_bytes: int, now: float, *, value: Value = value_per_byte) -> "EmbeddedStore":
        """A store with what the file at `path` held, the most recent first, as far as `max_bytes` goes.

        Blocks; call it before serving, inside the event loop. A damaged file is moved aside; one that cannot be
        opened at all leaves the store without a file, which is logged.
        """
        store = cls(max_bytes, value=value)
        try:
            store._load(path, now)
        except Corrupt as exc:
            store = cls(max_bytes, value=value)
            set_aside(path, exc)
            store._load(path, now)
        except DatabaseError as exc:
            store = cls(max_bytes, value=value)
            log.warning("the cache is kept in memory only: %s", exc)
        return store

    def _load(self, path: Path, now: float) -> None:
        file = CacheFile(path)
        try:
            loaded = load(file, now, self._restore)
        except BaseException:
            file.close()
            raise
        for scope in self._scopes:
            self._index(scope)
        self._saver = Saver(file, loaded.seqs)
        log.info("the cache holds %d answers, read in %.2f s", len(self._by_id), loaded.took_s)

    def _restore(self, entry: Entry, vector: bytes | None) -> bool:
        if entry.exact in self._by_exact or entry.id in self._by_id:
            return True  # what was put later is here already
        self._add(entry, None if vector is None else np.frombuffer(vector, np.float32))
        if self._bytes <= self._max_bytes:
            return True
        self._remove(self._by_id[entry.id])
        return False

    async def get(self, exact: str, now: float) -> Entry | None:
        """See `CacheStore`."""
        held = self._by_exact.get(exact)
        return None if held is None or held.expires_s <= now else held.entry

    async def nearest(self, scope: str, vector: Vector, limit: int, now: float) -> list[Neighbour]:
        """See `CacheStore`. Exact up to 1,024 rows a scope; beyond, a far neighbour may be missing (see `matrix`)."""
        found = self._scopes.get(scope)
        if found is None or found.matrix.dimension != len(vector):
            return []
        if found.matrix.rows <= THREAD_ROWS:
            ranked = found.matrix.nearest(vector, limit, now)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "cache-scan")
            scan = found.matrix.view().candidates
            rows = await asyncio.get_running_loop().run_in_executor(self._pool, scan, vector, limit, now)
            found = self._scopes.get(scope)
            if found is None:
                return []
            ranked = found.matrix.rank(vector, rows, limit, now)
        return [Neighbour(found.held[row].entry, similarity) for row, similarity in ranked]

    async def put(self, entry: Entry, vector: Vector | None) -> None:
        """See `CacheStore`. An entry larger than the whole store is not kept; for others, room is made."""
        scope = self._scopes.get(entry.scope)
        if vector is not None and scope is not None and len(vector) != scope.matrix.dimension:
            raise StoreError("a scope's vectors all come from one encoder")
        for old in (self._by_exact.get(entry.exact), self._by_id.get(entry.id)):
            if old is not None:
                self._drop(old)
        if entry.size + ENTRY_BYTES > self._max_bytes:
            self.refused += 1
            return
        self._now = max(self._now, entry.stored_s)
        self._add(entry, vector)
        if vector is not None:
            self._index(entry.scope)
        if self._saver is not None:
            blob = None if vector is None else np.ascontiguousarray(vector, np.float32).tobytes()
            self._saver.keep(entry, blob)
        while self._bytes > self._max_bytes and self._sample:
            self._evict()

    def touch(self, id_: str) -> None:
        """See `CacheStore`: what is served often outlives the rest."""
        held = self._by_id.get(id_)
        if held is not None:
            held.served += 1

    async def find(self, id_: str) -> Entry | None:
        """See `CacheStore`."""
        held = self._by_id.get(id_)
        return None if held is None or held.expires_s == _DEAD else held.entry

    async def delete(self, selector: Selector) -> int:
        """See `CacheStore`. Durable on return; raises `StoreError` where the file cannot be told."""
        matched = self._matching(selector)
        for held in matched:
            self._kill(held)
        await self._remove_all(matched)
        if self._saver is not None:
            await self._saver.flush()
        return len(matched)

    async def stats(self) -> StoreStats:
        """See `CacheStore`."""
        return StoreStats(len(self._by_id), self._bytes, len(self._scopes), self.evicted)

    async def sweep(self, now: float) -> int:
        """See `CacheStore`."""
        expired = [held for held in self._sample if held.expires_s <= now]
        if self._saver is not None:
            for held in expired:
                self._saver.forget(held.entry.id)
        return await self._remove_all(expired)

    async def aclose(self) -> None:
        """See `CacheStore`."""
        if self._pool is not None:
            self._pool.shutdown()
        if self._saver is not None:
            await self._saver.aclose()

    def _add(self, entry: Entry, vector: Vector | None) -> None:
        held = _Held(entry, entry.expires_s, entry.size + ENTRY_BYTES, len(self._sample))
        self._sample.append(held)
        self._bytes += held.size
        self._by_exact[entry.exact] = self._by_id[entry.id] = held
        for field in _fields(entry):
            self._by_field.setdefault(field, set()).add(entry.id)
        if vector is None:
            return
        scope = self._scopes.get(entry.scope)
        if scope is None:
            scope = self._scopes[entry.scope] = _Scope(len(vector))
            self._bytes += SCOPE_BYTES + scope.matrix.nbytes
        before = scope.matrix.nbytes
        held.row = scope.matrix.add(vector, entry.expires_s)
        scope.held.append(held)
        self._bytes += scope.matrix.nbytes - before

    def _index(self, scope: str) -> None:
        """Makes a big scope's codes; by itself, so that a start can make them in bulk."""
        matrix = self._scopes[scope].matrix
        before = matrix.nbytes
        matrix.index()
        self._bytes += matrix.nbytes - before

    def _remove(self, held: _Held) -> None:
        """Takes it out of everything in memory."""
        entry = held.entry
        self._bytes -= held.size
        last = self._sample.pop()
        if last is not held:
            self._sample[held.place] = last
            last.place = held.place
        del self._by_id[entry.id]
        if self._by_exact.get(entry.exact) is held:
            del self._by_exact[entry.exact]
        for field in _fields(entry):
            ids = self._by_field[field]
            ids.discard(entry.id)
            if not ids:
                del self._by_field[field]
        if held.row is None:
            return
        scope = self._scopes[entry.scope]
        before = scope.matrix.nbytes
        scope.matrix.remove(held.row)
        moved = scope.held.pop()
        if moved is not held:
            scope.held[held.row] = moved
            moved.row = held.row
        self._bytes += scope.matrix.nbytes - before
        if not scope.held:
            del self._scopes[entry.scope]
            self._bytes -= SCOPE_BYTES + scope.matrix.nbytes

    async def _remove_all(self, held: list[_Held]) -> int:
        """Removes those that are still here, a slice at a time; how many those were."""
        removed = 0
        for place, one in enumerate(held, start=1):
            if self._by_id.get(one.entry.id) is one:
                self._remove(one)
                removed += 1
            if place % SLICE == 0:
                await asyncio.sleep(0)
        return removed

    def _kill(self, held: _Held) -> None:
        """From now on no look-up returns it; the file forgets it."""
        held.expires_s = _DEAD
        if held.row is not None:
            self._scopes[held.entry.scope].matrix.expire(held.row)
        if self._saver is not None:
            self._saver.forget(held.entry.id)

    def _drop(self, held: _Held) -> None:
        if self._saver is not None:
            self._saver.forget(held.entry.id)
        if self._by_id.get(held.entry.id) is held:
            self._remove(held)

    def _evict(self) -> None:
        """Gives up the least valuable of a sample; one that has expired is worth nothing, and no loss."""
        sample = [self._sample[self._rng(len(self._sample))] for _ in range(SAMPLE)]
        victim = min(sample, key=self._worth)
        self.evicted += victim.expires_s > self._now
        self._drop(victim)

    def _worth(self, held: _Held) -> float:
        if held.expires_s <= self._now:
            return _DEAD
        size = held.size + (0 if held.row is None else 4 * self._scopes[held.entry.scope].matrix.dimension)
        return self._value(held.entry, held.served, self._now - held.entry.stored_s, size)

    def _matching(self, selector: Selector) -> list[_Held]:
        """The entries that match every field that is given, by the smallest index that applies."""
        if selector.empty:
            return []
        among: list[Iterable[str]] = [self._by_id] if selector.all else []
        if selector.id is not None:
            among.append([selector.id])
        if selector.exact is not None:
            held = self._by_exact.get(selector.exact)
            among.append([held.entry.id] if held is not None else [])
        for field in ("tenant", "tag", "route"):
            value = getattr(selector, field)
            if value is not None:
                among.append(self._by_field.get((field, value), ()))
        ids = min(among, key=len)  # type: ignore[arg-type]
        found = [self._by_id[id_] for id_ in ids if id_ in self._by_id]
        return [held for held in found if held.expires_s != _DEAD and selector.matches(held.entry)]


def _fields(entry: Entry) -> list[tuple[str, str]]:
    """What entries are deleted by."""
    return [("tenant", entry.tenant), ("route", entry.route), *(("tag", tag) for tag in set(entry.tags))]
