"""The labels in memory: whose they are, how many, and what they say of a request."""

import asyncio
import contextlib

import msgspec
import pytest

from gateway.core.exchange import Plan, Target
from gateway.database import DatabaseError
from gateway.policy.choosing import Classify
from gateway.routing.decide import Scored
from gateway.routing.neighbours_index import NeighbourIndex
from tests.support.routing_labels import AT_S, VERSIONS, MemoryLabels, label, packed, unit

HEAD = Scored(0.0, "embed", scorer="embed-1")
ASKED = unit(0.9)


def plan(name, model):
    return Plan("r", (Target(name, "openai_compatible", model=model),))


RULE = Classify("r", plan("small", "l8"), plan("big", "l70"), tier="neighbours")


def labelled(count, **changed):
    store = MemoryLabels()
    for n in range(count):
        store.add(label(n, vector=packed(unit(0.9, 0.001 * (n % 20))), **changed))
    return store


def index(store, encoder="e1", wall_s=AT_S + 100.0, **bounds):
    return NeighbourIndex(store, lambda: encoder, lambda: wall_s, **bounds)


@contextlib.asynccontextmanager
async def reading(made):
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds, limit_s=5.0):
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


async def scored(made, tenant="shop", rule=RULE, vector=ASKED, rows=1):
    """The score once the labels have been read; `rows`: as many as there must be."""
    made.score(tenant, rule, vector, HEAD)
    async with reading(made):
        await until(lambda: made.rows >= rows)
    return made.score(tenant, rule, vector, HEAD)


async def test_the_first_look_waits_for_nothing_and_the_next_one_knows():
    made = index(labelled(60))
    assert made.score("shop", RULE, ASKED, HEAD) is HEAD
    found = await scored(made, rows=60)
    assert (found.tier, found.scorer) == ("neighbours", "embed-1"), "the head is what they move"
    assert 0.2 < found.score < 0.75, "the gain of all is 0.75, and sixty count less than the head's hundred"
    assert not found.late


async def test_few_or_far_labels_leave_the_head():
    assert await scored(index(labelled(10)), rows=10) is HEAD
    assert await scored(index(labelled(60)), rows=60, vector=unit(0.0, 0.0, 1.0)) is HEAD


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "lab"},
        {"rule": msgspec.structs.replace(RULE, route="other")},
        {"rule": msgspec.structs.replace(RULE, weak=plan("small", "l7"))},
        {"rule": msgspec.structs.replace(RULE, strong=plan("big", "l405"))},
    ],
)
async def test_labels_of_other_tenants_routes_and_models_say_nothing(other):
    made = index(labelled(60))
    assert (await scored(made, rows=60)).tier == "neighbours"
    made.score("shop", RULE, ASKED, HEAD)
    assert await scored(made, rows=60, **other) is HEAD


async def test_labels_of_another_encoder_are_not_read():
    made = index(labelled(60, versions={**VERSIONS, "encoder": "e0"}))
    assert await scored(made, rows=0) is HEAD
    assert await scored(index(labelled(60), encoder=None), rows=0) is HEAD


async def test_new_labels_are_read_on_a_later_turn_and_counted_once():
    store = labelled(30)
    made = index(store, refresh_s=0.01)
    made.score("shop", RULE, ASKED, HEAD)
    async with reading(made):
        await until(lambda: made.rows == 30)
        store.add(label(5_000, at_s=AT_S + 29.5, vector=packed(unit(0.9))))
        store.add(label(5_001, at_s=AT_S + 5.0, vector=packed(unit(0.9))))

        def asked():
            made.score("shop", RULE, ASKED, HEAD)
            return made.rows == 32

        await until(asked)


async def test_the_newest_stay_and_what_was_asked_for_longest_ago_gives_way():
    store = labelled(50)
    for n in range(50):
        store.add(label(100 + n, tenant="lab", vector=packed(unit(0.9))))
    made = index(store, most=40, most_rows=60)
    assert (await scored(made, rows=40)).tier == "neighbours"
    assert made.rows == 40
    async with reading(made):
        await until(lambda: made.score("lab", RULE, ASKED, HEAD).tier == "neighbours")
    assert made.rows == 40
    assert made.score("shop", RULE, ASKED, HEAD) is HEAD


class Away(MemoryLabels):
    def of_tenant(self, *_):
        raise DatabaseError("gone")


async def test_a_store_that_is_away_leaves_the_head_and_says_so(caplog):
    made = index(Away())
    made.score("shop", RULE, ASKED, HEAD)
    async with reading(made):
        await until(lambda: "gone" in caplog.text)
    assert made.score("shop", RULE, ASKED, HEAD) is HEAD
