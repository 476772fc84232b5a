"""What is said of a request is what happens to it, and nothing is changed by saying it."""

import pytest
import pytest_asyncio

from gateway.cache.admin import CacheAdmin, NotCaching
from gateway.cache.flight import Flight
from gateway.core.errors import BadRequest, NotCached, NotFound
from gateway.core.exchange import Exchange, Identity, Plan
from tests.support.cache_worlds import VERSIONS, chat, keep, opened
from tests.support.certificates import certify_route
from tests.support.keys import HandClock
from tests.support.policies import policy

POLICY = """
targets: {up: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1"}}
routes:
  - {name: r, match: {models: [m]}, target: up, cache: {exact: 1h, semantic: {ttl: 30m}}}
  - {name: plain, match: {models: [exact]}, target: up, cache: {exact: 1h}}
  - {name: none, match: {models: [none]}, target: up}
"""
ASKED = "how do people reset the password of an account"
AGAIN = "how do people reset the password of the account"


class World:
    def __init__(self, folder):
        self.clock, self.policy, self.folder = HandClock(), policy(POLICY), folder
        self.opened = opened(folder, lambda: self.policy, self.clock)
        self.admin = CacheAdmin(lambda: self.opened, lambda: self.policy, self.clock)

    async def keep(self, call, **members):
        return await keep(self.opened, self.policy, call, self.clock, **members)

    async def explain(self, call, tenant="shop"):
        return await self.admin.explain(Identity(tenant, "explain"), call)

    async def ask(self, call, tenant="shop"):
        """What the gateway does with it."""
        exchange = Exchange("asked", call, self.clock.monotonic(), self.clock.wall())
        exchange.identity = Identity(tenant, "key")
        route = self.policy.resolve(exchange.identity, call.model, call.headers)
        exchange.plan = Plan(route.name, route.targets)

        async def upstream(exchange):
            return None

        await self.opened.lookup(exchange, upstream)
        return exchange

    def certify(self, threshold=0.5):
        certify_route(self.folder, "r", VERSIONS, threshold=threshold)
        self.opened.certificates.refresh()


@pytest_asyncio.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    await made.opened.aclose()


async def test_an_exact_answer_is_named_with_its_key_and_age(world):
    kept = await world.keep(chat(ASKED))
    world.clock.advance(60)
    said = await world.explain(chat(ASKED))
    assert (said.decision, said.reason, said.key, said.route) == ("exact", None, kept.exact, "r")
    assert (said.exact.entry, said.exact.age_s, said.exact.question) == (kept.id, 60, ASKED)


@pytest.mark.parametrize(
    ("threshold", "content", "decision", "reason"),
    [
        (0.5, AGAIN, "semantic", None),
        (0.999, AGAIN, "miss", "below_threshold"),
        (None, AGAIN, "miss", "shadow"),
        (0.5, "how do people not reset the password of an account", "miss", "veto_negation"),
        (0.5, "why is the sky blue", "miss", "no_neighbour"),
        (0.5, "what is the weather today", "miss", "volatile"),
        (0.5, "one " * 21, "miss", "too_long"),
    ],
)
async def test_what_is_said_of_a_similar_request_is_what_happens_to_it(world, threshold, content, decision, reason):
    if threshold is not None:
        world.certify(threshold)
    await world.keep(chat(ASKED))
    said = await world.explain(chat(content))
    assert (said.decision, said.reason) == (decision, reason)
    assert said.why
    asked = await world.ask(chat(content))
    assert asked.cache == decision
    assert asked.cache_reason == (None if reason == "no_neighbour" else reason)
    assert said.serves is (threshold is not None)


async def test_the_neighbours_are_shown_with_what_speaks_for_and_against_each(world):
    world.certify(0.8)
    await world.keep(chat(ASKED), id_="near")
    await world.keep(chat("how do people not reset the password of an account"), id_="vetoed")
    await world.keep(chat("how do people reset the clock of an oven"), id_="far")
    world.clock.advance(10)
    said = await world.explain(chat(AGAIN))
    assert [each.stored.entry for each in said.neighbours] == ["near", "far", "vetoed"]
    assert [each.accepted for each in said.neighbours] == [True, False, False]
    assert [each.veto for each in said.neighbours] == [None, None, "negation"]
    assert (said.text, said.threshold, said.neighbours[0].stored.age_s) == (AGAIN, 0.8, 10)
    assert said.neighbours[0].score == pytest.approx(said.neighbours[0].similarity)


async def test_what_is_too_old_to_serve_is_said_to_be(world):
    world.certify()
    await world.keep(chat(ASKED))
    world.clock.advance(31 * 60)
    said = await world.explain(chat(AGAIN))
    assert (said.decision, said.reason) == ("miss", "too_old")
    assert not said.neighbours[0].fresh
    fresh = await world.explain(chat(ASKED, headers=[(b"cache-control", b"max-age=60")]))
    assert fresh.reason == "too_old"


@pytest.mark.parametrize(
    ("headers", "decision", "reason"),
    [
        ([(b"x-farthing-cache", b"off")], "bypass", "asked"),
        ([(b"x-farthing-cache", b"exact")], "miss", "asked"),
        ([(b"cache-control", b"no-cache")], "miss", "asked"),
        ([(b"x-farthing-cache", b"only")], "semantic", None),
    ],
)
async def test_the_requests_own_headers_count(world, headers, decision, reason):
    world.certify()
    await world.keep(chat(ASKED))
    said = await world.explain(chat(AGAIN, headers=headers))
    assert (said.decision, said.reason) == (decision, reason)


async def test_a_request_that_would_be_refused_without_a_stored_answer_is_said_to_be(world):
    only = chat(ASKED, headers=[(b"x-farthing-cache", b"only")])
    assert (await world.explain(only)).reason == "only"
    with pytest.raises(NotCached):
        await world.ask(only)


async def test_one_that_would_wait_for_another_is_said_to(world):
    key = (await world.explain(chat(ASKED))).key
    world.opened.flights[key] = Flight(Exchange("x", chat(ASKED), 0, 0), (False, False))
    assert (await world.explain(chat(ASKED))).decision == "coalesced"


async def test_routes_that_cache_less_say_so(world):
    assert (await world.explain(chat(ASKED, model="none"))).decision == "off"
    said = await world.explain(chat(ASKED, model="exact"))
    assert (said.decision, said.reason, said.serves) == ("miss", "no_entry", None)
    assert (await world.explain(chat(ASKED, model="exact", logprobs=True))).reason == "logprobs"
    with pytest.raises(NotFound):
        await world.explain(chat(ASKED, model="unheard of"))
    with pytest.raises(BadRequest):
        await world.explain(chat(ASKED, headers=[(b"x-farthing-cache", b"of")]))


async def test_without_an_encoder_it_says_why(world):
    world.opened.semantic, world.opened.semantic_error = None, "the artefact is damaged"
    said = await world.explain(chat(ASKED))
    assert (said.reason, said.why) == ("no_encoder", "there is no encoder or verifier: the artefact is damaged")


async def test_another_tenants_questions_are_not_shown(world):
    world.certify()
    await world.keep(chat(ASKED), tenant="shop")
    said = await world.explain(chat(AGAIN), tenant="bank")
    assert (said.decision, said.neighbours) == ("miss", ())


async def test_explaining_changes_nothing(world):
    world.certify()
    kept = await world.keep(chat(ASKED))
    held = world.opened.store._store._by_id[kept.id]
    for _ in range(3):
        await world.explain(chat(ASKED))
        await world.explain(chat(AGAIN))
    assert held.served == 0
    assert world.opened.flights == {}
    assert world.opened.filler.kept == 0
    await world.ask(chat(ASKED))
    await world.ask(chat(AGAIN))
    assert held.served == 2


async def test_where_nothing_is_cached_there_is_nothing_to_ask(world):
    admin = CacheAdmin(lambda: None, lambda: world.policy, world.clock)
    with pytest.raises(NotCaching, match="fix:"):
        await admin.explain(Identity("shop", "explain"), chat(ASKED))
    with pytest.raises(NotCaching):
        await admin.stats(None)
