"""The admin API of rollouts: who may do what, what is answered, and what is on the audit."""

import contextlib
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar

from gateway.access.keyring import Keyring
from gateway.access.keys_database import KeyStore
from gateway.database import open_database
from gateway.http.admin import ADMIN_ERRORS, admin_router
from gateway.http.admin_rollout import rollout_routes
from gateway.policy.compile import compile_policy
from gateway.policy.load import document_from_stored
from gateway.rollout.operate import Operations
from gateway.rollout.store import Report, RolloutStore
from tests.support.keys import NOW, HandClock, new_admin
from tests.support.policies import secret

CANDIDATE = "version: 1\ntargets: {new: {provider: sandbox}}\n"


class World(SimpleNamespace):
    async def __call__(self, method, path="", body=None, *, secret=None, status=200):
        headers = {"authorization": f"Bearer {secret or self.owner}"}
        answer = await self.http.request(method, f"/admin/v1/rollout{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json() if status == 200 else answer.json()["error"]

    def credential(self, role, tenant=None):
        made = new_admin(self.keys, role, tenant)[1]
        self.keyring.refresh()
        return made


@pytest_asyncio.fixture
async def world(tmp_path):
    database, clock, refreshed = open_database(f"sqlite:///{tmp_path}/k.db"), HandClock(), []
    keys, store = KeyStore(database), RolloutStore(database)
    keyring = Keyring(keys, clock)

    async def refresh():
        refreshed.append(store.version())

    routes = rollout_routes(
        Operations(store, keys.policy_change),
        lambda text, beside: compile_policy(document_from_stored(text), secret, beside=beside),
        refresh,
        clock,
    )
    app = Litestar(
        [admin_router(keys, keyring, list, clock, routes)], exception_handlers=ADMIN_ERRORS, openapi_config=None
    )
    store.came_into_force("a" * 12, b"{}", NOW)
    store.report("g", Report(gateway="g", seen_s=NOW, version=0, in_force="a" * 12, since_s=NOW, files="a" * 12))
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        )
        made = World(http=http, keys=keys, keyring=keyring, store=store, refreshed=refreshed)
        made.owner = made.credential("owner")
        yield made
    database.close()


async def start(world, **more):
    body = {"documents": {"policy.yaml": CANDIDATE}, "mode": "canary", "share": 0.05, **more}
    return await world("POST", body=body)


async def test_a_trial_begins_moves_is_shown_and_ends(world):
    await start(world)
    assert world.refreshed == [1], "this process follows at once"
    await world("PATCH", body={"share": 0.2})
    shown = await world("GET")
    assert (shown["on_trial"]["mode"], shown["on_trial"]["share"], shown["in_force"]) == ("canary", 0.2, {"a" * 12: 1})
    assert "no longer on trial" in (await world("POST", "/rollback"))["told"]
    assert (await world("GET"))["on_trial"] is None
    assert [row.action for row in world.keys.audit()][:3] == ["rollout.stop", "rollout.set", "rollout.start"]


async def test_a_promotion_is_pinned_and_resume_ends_it(world):
    await start(world, mode="shadow", share=None)
    await world("POST", "/promote")
    shown = await world("GET")
    assert (shown["pin"]["policy"], shown["pin"]["over"]) == (world.store.state().pin.policy, ["a" * 12])
    await world("POST", "/resume", {})
    assert (await world("GET"))["pin"] is None
    assert (await world("POST", "/resume", status=409))["code"] == "rollout_conflict"


async def test_the_history_says_when(world):
    data = (await world("GET", "/history"))["data"]
    assert data == [{"hash": "a" * 12, "first_s": NOW, "last_s": NOW}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"documents": {"p.yaml": "version: 1\ntargts: {}\n"}}, "p.yaml:2: targts: unknown key"),
        ({"share": None}, "A canary needs a share"),
        ({"share": 1.5}, "`share` must be above 0"),
        ({"mode": "half"}, "`mode`"),
    ],
)
async def test_a_candidate_that_is_wrong_changes_nothing(world, body, words):
    answer = await world(
        "POST", body={"documents": {"p.yaml": CANDIDATE}, "mode": "canary", "share": 0.1, **body}, status=400
    )
    assert words in answer["message"]
    assert world.store.version() == 0


@pytest.mark.parametrize(
    ("role", "tenant", "reads", "writes"),
    [
        ("admin", None, 200, 200),
        ("auditor", None, 200, 403),
        ("auditor", "shop", 403, 403),
        ("tenant_admin", "shop", 403, 403),
    ],
)
async def test_roles(world, role, tenant, reads, writes):
    secret = world.credential(role, tenant)
    await start(world)
    await world("GET", secret=secret, status=reads)
    await world("GET", "/history", secret=secret, status=reads)
    await world("PATCH", body={"share": 0.5}, secret=secret, status=writes)
    await world("POST", "/rollback", secret=secret, status=writes)
    assert (world.store.state().trial is None) is (writes == 200)
