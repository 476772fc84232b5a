"""The admin API of the cache: what is forgotten, who sees what, and what is on the audit."""

import contextlib
from types import SimpleNamespace

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar

from gateway.access.keyring import Keyring
from gateway.access.keys_database import KeyStore
from gateway.cache.admin import CacheAdmin
from gateway.cache.fill import Draft
from gateway.cache.store import StoreError
from gateway.cache.ticket import Ticket
from gateway.core.exchange import Exchange, Identity, Usage
from gateway.database import open_database
from gateway.http.admin import ADMIN_ERRORS, admin_router
from gateway.http.admin_cache import cache_routes
from tests.support.cache_worlds import VERSIONS, chat, keep, opened
from tests.support.certificates import certify_route
from tests.support.keys import HandClock, new_admin
from tests.support.policies import policy

CACHING = """
targets: {up: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1"}}
routes:
  - {name: r, match: {models: [m]}, target: up, cache: {exact: 1h, semantic: {ttl: 30m}, tags: [handbook]}}
  - {name: bank-only, match: {models: [n], tenants: [bank]}, target: up, cache: {exact: 1h}}
"""
ASKED = "how do people reset the password of an account"
AGAIN = "how do people reset the password of the account"


class World(SimpleNamespace):
    async def __call__(self, path="", body=None, *, secret=None, status=200):
        headers = {"authorization": f"Bearer {secret or self.owner}"}
        method = "GET" if body is None else "POST"
        answer = await self.http.request(method, f"/admin/v1/cache{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json() if status == 200 else answer.json()["error"]

    def credential(self, role, tenant=None):
        secret = new_admin(self.keys, role, tenant)[1]
        self.keyring.refresh()
        return secret

    async def fill(self):
        """Four answers of two tenants and two routes."""
        await keep(self.cache, self.policy, chat(ASKED), self.clock, id_="a", tags=("handbook",))
        await keep(self.cache, self.policy, chat("another question"), self.clock, id_="b")
        await keep(self.cache, self.policy, chat(ASKED), self.clock, tenant="bank", id_="c", tags=("handbook",))
        await keep(self.cache, self.policy, chat(ASKED, model="n"), self.clock, tenant="bank", id_="d")

    async def left(self):
        return {id_ for id_ in "abcd" if await self.cache.store.find(id_) is not None}

    def audit(self):
        return [row for row in self.keys.audit() if row.action.startswith("cache.")]


@pytest_asyncio.fixture
async def world(tmp_path):
    clock, caching = HandClock(), policy(CACHING)
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))) as keys:
        keyring = Keyring(keys, clock)
        cache = opened(tmp_path, lambda: caching, clock)
        made = World(keys=keys, keyring=keyring, clock=clock, policy=caching, cache=cache, folder=tmp_path)
        made.admin = CacheAdmin(lambda: made.cache, lambda: caching, clock)
        made.owner = made.credential("owner")
        router = admin_router(keys, keyring, list, clock, cache_routes(made.admin, keys, clock))
        app = Litestar([router], openapi_config=None, logging_config=None, exception_handlers=ADMIN_ERRORS)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            made.http = http
            yield made
        await cache.aclose()


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"tenant": "shop"}, "cd"),
        ({"tag": "handbook"}, "bd"),
        ({"route": "bank-only"}, "abc"),
        ({"tenant": "bank", "tag": "handbook"}, "abd"),
        ({"entry": "b"}, "acd"),
        ({"tenant": "nobody"}, "abcd"),
        ({"all": True}, ""),
    ],
)
async def test_what_matches_is_forgotten_and_on_the_audit(world, body, left):
    await world.fill()
    assert await world("/purge", body) == {"object": "cache.purge", "purged": 4 - len(left)}
    assert await world.left() == set(left)
    [row] = world.audit()
    assert (row.action, row.after, row.tenant) == ("cache.purge", body, body.get("tenant"))
    assert row.subject == " ".join(f"{name}={value}" for name, value in body.items())


async def test_an_exact_key_that_explain_shows_can_be_purged(world):
    await world.fill()
    key = (await world("/explain", {"tenant": "shop", "request": chat(ASKED).doc}))["key"]
    assert (await world("/purge", {"key": key}))["purged"] == 1
    assert await world.left() == set("bcd")


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "empty_selector"), ({"all": False}, "empty_selector"), ({"all": True, "tag": "x"}, None), ({"tag": "\0"}, None),
     ({"id": "a"}, None)],
)  # fmt: skip
async def test_what_is_not_said_clearly_forgets_nothing(world, body, code):
    await world.fill()
    assert (await world("/purge", body, status=400))["code"] == code
    assert await world.left() == set("abcd")
    assert world.audit() == []


async def test_a_credential_of_one_tenant_forgets_sees_and_explains_that_tenant_alone(world):
    await world.fill()
    secret = world.credential("tenant_admin", "shop")
    for body, left in (({"tag": "handbook"}, "bcd"), ({"entry": "c"}, "bcd"), ({"all": True}, "cd")):
        await world("/purge", body, secret=secret)
        assert await world.left() == set(left)
    assert {row.tenant for row in world.audit()} == {"shop"}
    for path, body in (
        ("/purge", {"tenant": "bank"}),
        ("/feedback", {"entry": "c"}),
        ("/explain", {"tenant": "bank", "request": chat(ASKED).doc}),
    ):
        assert (await world(path, body, secret=secret, status=404))["code"] == "not_found"
    assert await world.left() == set("cd")
    said = await world("/explain", {"request": chat(ASKED).doc}, secret=secret)
    assert (said["tenant"], said["decision"], said["neighbours"]) == ("shop", "miss", [])
    stats = await world(secret=secret)
    assert [route["route"] for route in stats["routes"]] == ["r"]
    assert (stats["store"], stats["kept"], stats["routes"][0]["labels"]) == (None, None, None)


async def test_a_hit_that_was_wrong_is_removed_counted_and_on_the_audit_and_no_certificate_changes(world):
    certify_route(world.folder, "r", VERSIONS)
    world.cache.certificates.refresh()
    await world.fill()
    assert (await world("/feedback", {"entry": "a"}))["removed"] is True
    assert await world.left() == set("bcd")
    [row] = world.audit()
    assert (row.action, row.subject, row.tenant, row.after["route"]) == ("cache.feedback", "a", "shop", "r")
    stats = await world()
    assert stats["feedback_wrong"] == {"r": 1}
    assert stats["routes"][0]["serves"] is True
    assert (await world("/feedback", {"entry": "a"}, status=404))["code"] == "not_found"


async def test_the_stats_tell_how_each_route_stands(world):
    await world.fill()
    stats = await world()
    assert stats["store"]["entries"] == 4
    assert {route["route"]: route["serves"] for route in stats["routes"]} == {"r": False, "bank-only": None}
    certify_route(world.folder, "r", VERSIONS)
    world.cache.certificates.refresh()
    [route] = [each for each in (await world())["routes"] if each["route"] == "r"]
    assert (route["serves"], route["why"], route["labels"]) == (
        True,
        "certified",
        {"right": 0, "wrong": 0, "unsure": 0},
    )
    made = route["certificate"]
    assert (made["threshold"], made["n"], made["max_error"], made["confidence"]) == (0.5, 2000, 0.01, 0.95)


async def test_an_explanation_shows_the_neighbours_and_no_answer(world):
    certify_route(world.folder, "r", VERSIONS)
    world.cache.certificates.refresh()
    await keep(world.cache, world.policy, chat(ASKED), world.clock, body=b'{"choices": "an answer"}')
    said = await world("/explain", {"tenant": "shop", "request": chat(AGAIN).doc})
    assert (said["decision"], said["neighbours"][0]["stored"]["question"]) == ("semantic", ASKED)
    assert "an answer" not in str(said)
    only_exact = {"headers": {"X-Farthing-Cache": "exact"}}
    said = await world("/explain", {"tenant": "shop", "request": chat(AGAIN).doc} | only_exact)
    assert (said["decision"], said["reason"]) == ("miss", "asked")


@pytest.mark.parametrize(
    ("change", "status"),
    [({"tenant": None}, 400), ({"path": "/v1/files"}, 400), ({"request": []}, 400), ({"request": {"model": "x"}}, 404),
     ({"headers": {"x-farthing-cache": "of"}}, 400)],
)  # fmt: skip
async def test_a_request_that_makes_no_sense_is_refused(world, change, status):
    body = {"tenant": "shop", "request": chat(ASKED).doc} | change
    await world("/explain", {name: value for name, value in body.items() if value is not None}, status=status)


async def test_where_nothing_is_cached_it_says_what_to_do(world):
    world.cache = None
    for path, body in (("", None), ("/purge", {"tag": "x"}), ("/feedback", {"entry": "a"})):
        assert (await world(path, body, status=409))["code"] == "not_caching"
    assert world.audit() == []


async def test_a_store_that_is_away_is_a_503(world):
    class Away:
        def __getattr__(self, name):
            async def fails(*_):
                raise StoreError("the cache's Redis: away")

            return fails

    world.cache = SimpleNamespace(
        store=Away(), filler=world.cache.filler, shadow=None, semantic=None, semantic_error=None,
        labels=world.cache.labels, certificates=world.cache.certificates, watcher=world.cache.watcher,
    )  # fmt: skip
    for path, body in (("", None), ("/purge", {"tag": "x"}), ("/feedback", {"entry": "a"})):
        assert (await world(path, body, status=503))["code"] == "cache_unavailable"


async def test_an_answer_that_was_under_way_at_a_purge_is_not_kept(world):
    [rule] = [rule for rule in world.policy.caching.values() if rule.route == "r"]
    answer = msgspec.json.encode({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop", "index": 0}]})
    for id_, tenant, purges in (("a", "shop", True), ("b", "bank", True), ("c", "shop", False)):
        exchange = Exchange(id_, chat("a question"), 0.0, world.clock.wall())
        exchange.identity, exchange.usage, exchange.outcome = Identity(tenant, "key"), Usage(output=1), "ok"
        if purges:
            await world("/purge", {"tenant": "shop", "tag": "handbook"})
        world.clock.advance(1)
        ticket = Ticket(rule, f"key {id_}", read=True, write=True)
        await world.cache.filler._take(Draft(exchange, ticket, None, answer, world.clock.wall(), lambda: None))
    await world("/purge", {"tenant": "nobody"})  # waits for the puts
    assert await world.left() == {"b", "c"}
    assert world.cache.filler.refused == {"purged": 1}
