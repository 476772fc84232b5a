"""Any history of puts, deletes, sweeps and look-ups: a store agrees with a plain dictionary, and never crosses scopes."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cache.entry import Entry, Selector
from tests.support.cache_stores import DIMENSION, IMITATION, NOW, digest, entry, units

pytestmark = [pytest.mark.filterwarnings(line) for line in IMITATION]
SCOPES = ["tenant a", "tenant b", "tenant b, other prompt"]
VECTORS = units(4, DIMENSION)
names = st.integers(0, 7)
vectors = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("put"), names, st.integers(0, 2), st.one_of(st.none(), vectors), st.sampled_from([5, 50])),
    st.tuples(st.just("delete"), st.sampled_from(["tenant", "tag", "route", "exact"]), names),
    st.tuples(st.just("pass"), st.integers(1, 10)),
    st.tuples(st.just("sweep")),
)


def selector(field: str, number: int) -> Selector:
    value = digest(f"{number} in 0") if field == "exact" else f"{field} {number % 3}"
    return Selector(**{field: value})


class Model:
    """What a store should hold: entries and their vectors by exact key."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Entry, int | None]] = {}
        self.now = NOW

    async def step(self, store: Any, step: tuple) -> None:
        kind, *rest = step
        if kind == "put":
            name, scope, vector, ttl = rest
            one = entry(
                f"{name} in {scope}", scope=SCOPES[scope], tenant=f"tenant {scope}", tags=(f"tag {name % 3}",),
                route=f"route {name % 2}", stored_s=self.now, expires_s=self.now + ttl,
            )  # fmt: skip
            self.held[one.exact] = (one, vector)
            await store.put(one, None if vector is None else VECTORS[vector])
        elif kind == "delete":
            meant = selector(*rest)
            removed = [exact for exact, (one, _) in self.held.items() if meant.matches(one)]
            assert await store.delete(meant) == len(removed)
            for exact in removed:
                del self.held[exact]
        elif kind == "pass":
            self.now += rest[0]
        else:
            expired = [exact for exact, (one, _) in self.held.items() if one.expires_s <= self.now]
            assert await store.sweep(self.now) == len(expired)
            for exact in expired:
                del self.held[exact]

    async def agrees(self, store: Any) -> None:
        living = {exact: held for exact, held in self.held.items() if held[0].expires_s > self.now}
        for name in range(8):
            for scope in range(3):
                exact = digest(f"{name} in {scope}")
                assert await store.get(exact, self.now) == living.get(exact, (None,))[0]
        for scope in SCOPES:
            inside = {
                one.id: number for one, number in living.values() if one.scope == digest(scope) and number is not None
            }
            found = await store.nearest(digest(scope), VECTORS[0], 50, self.now)
            assert {near.entry.id for near in found} == set(inside)
            cosines = [float(VECTORS[0] @ VECTORS[inside[near.entry.id]]) for near in found]
            assert all(abs(near.similarity - cosine) < 1e-3 for near, cosine in zip(found, cosines, strict=True))
            assert [near.similarity for near in found] == sorted([near.similarity for near in found], reverse=True)
        assert (await store.stats()).entries == len(self.held)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(history=st.lists(steps, max_size=25))
def test_a_store_agrees_with_a_dictionary_after_any_history(make_world, history):
    async def play():
        world, model = make_world(), Model()
        store = await world.open()
        try:
            for step in history:
                await model.step(store, step)
            await model.agrees(store)
            if world.durable:
                await store.aclose()
                store = await world.open()
                await model.agrees(store) if model.now == NOW else None
        finally:
            await store.aclose()
            await world.close()

    asyncio.run(play())
