"""The admin API through its own ASGI application, on a SQLite store."""

import contextlib
import logging
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar

from gateway.access.accounts import Spent, Window
from gateway.access.keyring import Keyring
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import digest
from gateway.cache.admin import CacheAdmin
from gateway.core.limits import Budget
from gateway.database import open_database
from gateway.http.admin import ADMIN_ERRORS, FailedLogins, admin_router
from gateway.http.admin_cache import cache_routes
from tests.support.cache_worlds import chat, keep, opened
from tests.support.keys import NOW, ROOT, HandClock, draft, new_admin
from tests.support.policies import policy

# Every route with a body that it takes, and the roles that it lets in.
ALL = {"owner", "admin", "tenant_admin", "auditor"}
WRITE = {"owner", "admin", "tenant_admin"}
ROUTES = {
    ("POST", "/keys"): ({"name": "ci", "tenant": "shop"}, WRITE),
    ("GET", "/keys"): (None, ALL),
    ("GET", "/keys/{id}"): (None, ALL),
    ("PATCH", "/keys/{id}"): ({"rpm": 5}, WRITE),
    ("POST", "/keys/{id}/rotate"): ({}, WRITE),
    ("DELETE", "/keys/{id}"): (None, WRITE),
    ("GET", "/tenants"): (None, ALL),
    ("GET", "/tenants/{name}"): (None, ALL),
    ("PUT", "/tenants/{name}"): ({"rpm": 5}, {"owner", "admin"}),
    ("POST", "/admins"): ({"name": "x", "role": "auditor", "tenant": "shop"}, WRITE),
    ("GET", "/admins"): (None, ALL),
    ("DELETE", "/admins/{id}"): (None, WRITE),
    ("GET", "/audit"): (None, ALL),
    ("GET", "/budgets"): (None, ALL),
    ("GET", "/cache"): (None, ALL),
    ("POST", "/cache/purge"): ({"tenant": "shop"}, WRITE),
    ("POST", "/cache/feedback"): ({"entry": "e1"}, WRITE),
    ("POST", "/cache/explain"): (
        {"tenant": "shop", "request": {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}},
        WRITE,
    ),
}
MAKES = {("POST", "/keys"), ("POST", "/admins")}
CHANGES_NOTHING = {("POST", "/cache/explain")}
CACHING = """
targets: {up: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1"}}
routes:
  - {name: r, match: {models: [m]}, target: up, cache: {exact: 1h, semantic: {ttl: 30m}, tags: [handbook]}}
  - {name: of-the-bank, match: {models: [n], tenants: [bank]}, target: up, cache: {exact: 1h}}
"""
LEDGER = [
    Spent(Window(f"{scope}/day@0", Budget(f"{scope}/day", scope, "day", 5_000_000), 0, 86_400), 1_000_000, 500_000)
    for scope in ("tenant:shop", "tenant:bank", "route:chat", "all")
]


class Api:
    """What a test holds: the store, the clock, and calls with a secret."""

    def __init__(self, http, store, keyring, clock, cache, spent):
        self.http, self.store, self.keyring = http, store, keyring
        self.clock, self.cache, self.spent = clock, cache, spent
        self.owner = self.credential("owner")

    def credential(self, role, tenant=None, **limits):
        secret = new_admin(self.store, role, tenant, **limits)[1]
        self.keyring.refresh()
        return secret

    async def __call__(self, method, path, body=None, *, secret=None, **more):
        headers = {"authorization": f"Bearer {secret or self.owner}"} if secret != "" else {}
        if body is not None:
            more["json"] = body
        return await self.http.request(method, "/admin/v1" + path, headers=headers, **more)


@pytest_asyncio.fixture
async def api(tmp_path):
    clock, spent = HandClock(), list(LEDGER)
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))) as store:
        keyring = Keyring(store, clock)
        caching = policy(CACHING)
        cache = opened(tmp_path, lambda: caching, clock)
        await keep(cache, caching, chat("hello world"), clock, tags=("handbook",))
        more = cache_routes(CacheAdmin(lambda: cache, lambda: caching, clock), store, clock)
        router = admin_router(store, keyring, lambda: spent, clock, more)
        app = Litestar([router], openapi_config=None, logging_config=None, exception_handlers=ADMIN_ERRORS)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            yield Api(http, store, keyring, clock, cache, spent)
        await cache.aclose()


def prepared(api, method, path):
    """The path with the id of a fresh subject in it, one of the tenant shop."""
    if path.startswith("/keys/{id}"):
        subject = api.store.create_key(draft(), ROOT, NOW)[0].id
    elif path.startswith("/admins/{id}"):
        subject = new_admin(api.store, "auditor", "shop")[0].id
    else:
        api.store.create_key(draft(), ROOT, NOW)
        subject = "shop"
    return path.replace("{id}", subject).replace("{name}", subject)


def is_refused(answer, status, code=None):
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.status_code, error["code"]) == (status, code or error["code"])
    return True


def test_the_table_of_this_test_names_every_route(tmp_path):
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/keys.db"))) as store:
        clock = HandClock()
        more = cache_routes(CacheAdmin(lambda: None, lambda: None, clock), store, clock)
        router = admin_router(store, Keyring(store, clock), list, clock, more)
    served = {
        (method, route.path_format.removeprefix("/admin/v1"))
        for route in router.routes
        for method in route.methods
        if method != "OPTIONS"
    }
    assert served == set(ROUTES)


def test_the_reference_names_every_route():
    reference = (Path(__file__).parents[3] / "docs" / "admin-api.md").read_text()
    assert [route for route in ROUTES if f"| `{route[0]} /admin/v1{route[1]}` |" not in reference] == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_route_answers_without_an_admin_credential(api, method, path):
    record, made = api.store.create_key(draft(), ROOT, NOW)
    gone, gone_secret = new_admin(api.store, "owner")
    api.store.revoke_admin(gone.id, ROOT, NOW)
    api.keyring.refresh()
    url, before = prepared(api, method, path), api.store.version()
    for secret in ("", made.secret, gone_secret, "sk-farthing-admin-", digest(api.owner), record.id):
        answer = await api(method, url, ROUTES[method, path][0], secret=secret)
        assert is_refused(answer, 401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = await api.http.request(method, f"/admin/v1{url}", headers={"x-api-key": api.owner})
    assert is_refused(answer, 401)
    assert api.store.version() == before


@pytest.mark.parametrize("role", sorted(ALL))
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_each_route_lets_in_the_roles_that_may(api, method, path, role):
    body, roles = ROUTES[method, path]
    secret = api.credential(role, "shop" if role == "tenant_admin" else None)
    url = prepared(api, method, path)
    before = api.store.version()
    answer = await api(method, url, body, secret=secret)
    if role in roles:
        assert answer.status_code == (201 if (method, path) in MAKES else 200), answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert (api.store.version() > before) is (method != "GET" and (method, path) not in CHANGES_NOTHING)
    else:
        assert is_refused(answer, 403, "role_too_low")
        assert is_refused(await api(method, url, content=b"{", secret=secret), 403), "before the body is looked at"
        assert api.store.version() == before


@pytest.mark.parametrize("role", ["tenant_admin", "auditor"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_credential_of_another_tenant_finds_nothing(api, method, path, role):
    secret = api.credential(role, "bank")
    url, before = prepared(api, method, path), api.store.version()
    answer = await api(method, url, ROUTES[method, path][0], secret=secret)
    if method == "GET" and "{" not in path:
        assert answer.status_code == 200
        assert "shop" not in answer.text
        answer = await api(method, url + "?tenant=shop", secret=secret)
    assert answer.status_code in (400, 403, 404)
    assert api.store.version() == before


async def test_a_key_from_its_making_to_its_end(api):
    asked = {
        "name": "ci", "tenant": "shop", "tags": ["team-a"], "models": ["gpt-*"], "expires_s": NOW + 60, "rpm": 600,
        "tpm": 200_000, "concurrency": 50, "metadata": {"owner": "ada"},
        "budgets": [{"period": "month", "limit_usd": 500}, {"period": "day", "limit_usd": "0.000001"}],
    }  # fmt: skip
    made = await api("POST", "/keys", asked)
    assert made.status_code == 201
    key = made.json()
    secret = key.pop("secret")
    assert api.keyring.find(digest(secret)).identity.tenant == "shop", "usable at once"
    assert key["budgets"] == [
        {"period": "month", "limit_usd": "500.000000"},
        {"period": "day", "limit_usd": "0.000001"},
    ]
    assert {name: key[name] for name in asked if name != "budgets"} == {
        name: value for name, value in asked.items() if name != "budgets"
    }
    assert (await api("GET", f"/keys/{key['id']}")).json() == key
    patched = (await api("PATCH", f"/keys/{key['id']}", {"rpm": None, "name": "prod"})).json()
    assert patched == key | {"rpm": None, "name": "prod"}
    rotated = (await api("POST", f"/keys/{key['id']}/rotate", {"grace_s": 10})).json()
    assert rotated["previous_until_s"] == NOW + 10
    assert api.keyring.find(digest(secret)) is not None
    ended = (await api("DELETE", f"/keys/{key['id']}")).json()
    assert ended["revoked_s"] == NOW
    assert api.keyring.find(digest(secret)) is None
    rows = (await api("GET", f"/audit?subject={key['id']}")).json()["data"]
    assert [row["action"] for row in rows] == ["key.revoke", "key.rotate", "key.update", "key.create"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "ci", "tenant": "shop", "budget": 5}, "budget"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "day", "limit_usd": 1, "x": 1}]}, "budgets[0].x"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "year", "limit_usd": 1}]}, "budgets[0].period"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "day", "limit_usd": "NaN"}]}, "budgets"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "day", "limit_usd": "1e999999"}]}, "budgets"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "day", "limit_usd": "0.0000001"}]}, "budgets"),
        ({"name": "ci", "tenant": "shop", "budgets": [{"period": "day", "limit_usd": -1}]}, "budgets"),
        ({"name": "ci", "tenant": "shop", "rpm": "600"}, "rpm"),
        ({"name": "ci", "tenant": "shop", "rpm": True}, "rpm"),
        ({"name": "ci", "tenant": "shop", "rpm": 10**30}, "rpm"),
        ({"name": "ci", "tenant": "shop", "metadata": []}, "metadata"),
        ({"name": "ci", "tenant": "shop", "metadata": {"x": "y" * 5000}}, "metadata"),
        ({"name": "ci", "tenant": "shop", "id": "key_aaaaaaaaaa"}, "id"),
        ({"name": "ci", "tenant": "shop", "sha256": "0" * 64}, "sha256"),
        ({"name": "ci"}, "tenant"),
        ({"tenant": "shop"}, "name"),
        ({"name": "ci", "tenant": ""}, "tenant"),
        ({"name": "", "tenant": "shop"}, "name"),
    ],
)
async def test_a_field_that_is_wrong_is_named(api, body, param):
    answer = await api("POST", "/keys", body)
    assert is_refused(answer, 400)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("field", ["tenant", "sha256", "revoked_s", "created_by", "prefix"])
async def test_a_patch_cannot_touch_what_a_key_is(api, field):
    record, _ = api.store.create_key(draft(), ROOT, NOW)
    answer = await api("PATCH", f"/keys/{record.id}", {field: "x"})
    assert is_refused(answer, 400)
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b'{"name": "\xed\xa0\x80"}', b"[" * 60_000, b'{"name":' * 7_000, b"null", b"1", b'"x"']
)
async def test_garbage_is_a_400(api, content):
    assert is_refused(await api("POST", "/keys", content=content), 400)


async def test_a_body_is_capped(api):
    assert is_refused(await api("POST", "/keys", content=b" " * 65_537), 413, "request_too_large")

    async def chunks():
        for _ in range(66):
            yield b" " * 1024

    assert is_refused(await api("POST", "/keys", content=chunks()), 413)


@pytest.mark.parametrize(
    "path", ["/keys?limit=0", "/keys?limit=1001", "/keys?limit=x", "/keys?after=x", "/keys?x=1", "/audit?before=-1",
             "/audit?before=" + "9" * 40, "/budgets?x=1", "/keys?tenant=%00"]
)  # fmt: skip
async def test_a_query_that_is_wrong_is_a_400(api, path):
    assert is_refused(await api("GET", path), 400)


async def test_unknown_paths_and_methods_are_answered_in_the_same_shape(api):
    assert is_refused(await api("GET", "/nothing"), 404, "unknown_url")
    assert is_refused(await api("PUT", "/keys"), 405)
    assert is_refused(await api("OPTIONS", "/keys", secret="nobody"), 401)
    assert is_refused(await api("OPTIONS", "/keys"), 405)
    assert is_refused(await api("GET", "/keys/key_aaaaaaaaaa"), 404, "not_found")
    assert is_refused(await api("GET", "/keys/sk-farthing-secret"), 404)


async def test_lists_go_page_by_page(api):
    made = [api.store.create_key(draft(name=name), ROOT, NOW)[0].id for name in "abc"]
    first = (await api("GET", "/keys?limit=2")).json()
    assert ([key["id"] for key in first["data"]], first["has_more"]) == (made[:2], True)
    rest = (await api("GET", f"/keys?limit=2&after={made[1]}")).json()
    assert ([key["id"] for key in rest["data"]], rest["has_more"]) == (made[2:], False)
    newest = (await api("GET", "/audit?limit=1")).json()
    older = (await api("GET", f"/audit?before={newest['data'][0]['seq']}")).json()
    assert len(older["data"]) == api.store.version() - 1


async def test_a_tenant_with_slashes_in_its_name_can_be_reached(api):
    put = await api("PUT", "/tenants/team/a", {"rpm": 5, "budgets": [{"period": "total", "limit_usd": "12.50"}]})
    assert put.json()["name"] == "team/a"
    assert (await api("GET", "/tenants/team/a")).json() == put.json()
    assert (await api("GET", "/tenants/team%2Fa")).json() == put.json()


async def test_budgets_show_their_windows_to_those_who_see_them(api):
    record, _ = api.store.create_key(draft("shop"), ROOT, NOW)
    api.keyring.refresh()
    own = Budget(f"key:{record.id}/day", f"key:{record.id}", "day", 1)
    api.spent.append(Spent(Window("w", own, 0, None), 5, 0))
    everything = (await api("GET", "/budgets")).json()["data"]
    assert len(everything) == 5
    assert everything[0] == {
        "object": "budget", "id": "tenant:shop/day", "scope": "tenant:shop", "period": "day", "starts_s": 0,
        "ends_s": 86_400, "limit_usd": "5.000000", "committed_usd": "1.000000", "reserved_usd": "0.500000",
        "remaining_usd": "3.500000",
    }  # fmt: skip
    secret = api.credential("tenant_admin", "shop")
    seen = (await api("GET", "/budgets", secret=secret)).json()["data"]
    assert {row["scope"] for row in seen} == {"tenant:shop", f"key:{record.id}"}


async def test_limits_of_the_minter_hold_over_http(api):
    secret = api.credential("tenant_admin", "shop", rpm=10)
    assert is_refused(await api("POST", "/keys", {"name": "x", "tenant": "shop"}, secret=secret), 403, "exceeds_minter")
    made = await api("POST", "/keys", {"name": "x", "tenant": "shop", "rpm": 10}, secret=secret)
    assert made.status_code == 201
    assert made.json()["created_by"].startswith("adm_")
    answer = await api("PATCH", f"/keys/{made.json()['id']}", {"rpm": None}, secret=secret)
    assert is_refused(answer, 403, "exceeds_minter")
    assert answer.json()["error"]["param"] == "rpm"


async def test_guessing_is_slowed_down_and_locks_nobody_out(api):
    statuses = [(await api("GET", "/keys", secret=f"sk-farthing-admin-{n}")).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = await api("GET", "/keys", secret="sk-farthing-admin-x")
    assert is_refused(refused, 429, "too_many_logins")
    assert refused.headers["retry-after"] == "60"
    assert (await api("GET", "/keys")).status_code == 200, "a right credential always passes"
    api.clock.advance(60)
    api.keyring.refresh()
    assert (await api("GET", "/keys", secret="sk-farthing-admin-x")).status_code == 401


def test_failed_logins_are_remembered_for_a_bounded_number_of_addresses():
    failed = FailedLogins(per_minute=1)
    assert failed.failed("first", 0.0) is None
    assert failed.failed("first", 1.0) == 59.0
    for number in range(5000):
        assert failed.failed(f"address {number}", 2.0) is None
    assert len(failed._seen) <= 4096
    assert failed.failed("first", 3.0) is None, "it was forgotten"


async def test_without_the_store_nothing_is_changed_and_later_nobody_gets_in(api):
    api.store.close()
    assert is_refused(await api("POST", "/keys", {"name": "x", "tenant": "shop"}), 503, "database_unavailable")
    api.clock.advance(61)
    assert is_refused(await api("GET", "/budgets"), 503, "keys_unavailable")


async def test_a_defect_is_a_500_without_its_details(api, caplog):
    api.spent.append(None)
    answer = await api("GET", "/budgets")
    assert is_refused(answer, 500, "internal_error")
    assert "NoneType" not in answer.text
    assert "AttributeError" in caplog.text


async def test_no_secret_is_found_again_anywhere(api, caplog, capsys):
    """Every secret that was ever made or tried, looked for in all that was said, logged, stored and printed since."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="httpx")  # the client's own log, of URLs that this test makes up
    said, planted = [], [api.owner]

    async def call(*arguments, **more):
        answer = await api(*arguments, **more)
        secret = answer.json().get("secret")
        if secret is not None:
            planted.append(secret)
        said.append(answer.text.replace(f'"secret":"{secret}"', ""))
        return answer

    key = (await call("POST", "/keys", {"name": "ci", "tenant": "shop", "expires_s": NOW + 9})).json()["id"]
    await call("POST", f"/keys/{key}/rotate", {"grace_s": 5})
    admin = (await call("POST", "/admins", {"name": "x", "role": "admin"})).json()["id"]
    for path in ("/keys", f"/keys/{key}", "/admins", "/audit", "/tenants"):
        await call("GET", path)
    for secret in tuple(planted):
        await call("GET", f"/keys/{secret}")
        await call("DELETE", f"/admins/{secret}")
        await call("GET", f"/keys?after={secret}")
        await call("GET", f"/tenants/{secret}")
        await call("PATCH", f"/keys/{key}", {"rpm": secret})
        await call("POST", "/admins", {"name": "x", "role": secret})
        await call("GET", "/keys", secret=secret + "x")
    await call("DELETE", f"/keys/{key}")
    await call("DELETE", f"/admins/{admin}")
    api.store.close()
    await call("DELETE", f"/keys/{key}")
    records = [*api.keyring._records.values(), *api.keyring._admins.values(), *api.keyring.by_hash.values()]
    printed = capsys.readouterr()
    everything = "\n".join([*said, caplog.text, printed.out, printed.err, repr(records)])
    assert len(planted) == 4
    for secret in planted:
        assert secret not in everything
        assert secret[-39:] not in everything
        assert digest(secret) not in everything
