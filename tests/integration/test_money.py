"""Keys, budgets, limits and the ledger of a live gateway, as callers, operators and auditors see them."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import chat
from tests.support.faults import Behaviour, stall
from tests.support.gateway import Gateway, start_gateway
from tests.support.upstream import Upstream
from tests.support.webhook import webhook

FARTHING = str(Path(sys.executable).parent / "farthing")
SECRETS = {
    "SHOP_KEY": "sk-shop-0123456789abcdef",
    "LAB_KEY": "sk-lab-0123456789abcdef0",
    "UP": "sk-upstream-0123456789",
}


def policy(url: str, **more) -> str:
    """Two tenants, a priced and an unpriced target; a request is $1 per million tokens either way."""
    document = {
        "version": 1,
        "keys": {
            "shop": {"tenant": "shop", "secret": "env:SHOP_KEY"},
            "lab": {"tenant": "lab", "secret": "env:LAB_KEY", "tags": ["research"]},
        },
        "targets": {
            "up": {"provider": "openai_compatible", "base_url": f"{url}/v1", "price": {"input": 1, "output": 1}},
            "dear": {"provider": "openai_compatible", "base_url": f"{url}/v1", "price": {"input": 10, "output": 10}},
            "unpriced": {"provider": "openai_compatible", "base_url": f"{url}/v1"},
        },
        "routes": [
            {"name": "unpriced", "match": {"models": ["mystery"]}, "target": "unpriced"},
            {"name": "default", "match": {}, "target": "up"},
        ],
        **more,
    }
    return json.dumps(document)


@contextlib.contextmanager
def serving(default: Behaviour | None = None) -> Iterator[Upstream]:
    """An upstream on a loop of its own: these tests block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    upstream = Upstream(default)
    try:
        asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(5)
        yield upstream
    finally:
        asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def client(gateway: Gateway, tenant: str = "shop") -> httpx.Client:
    key = SECRETS[f"{tenant.upper()}_KEY"]
    return httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=10, trust_env=False)


def farthing(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess:
    """The command on the gateway's own data."""
    env = {"PATH": os.environ["PATH"], "FARTHING_DATA_DIR": str(gateway.policies.parent / "farthing-data")}
    return subprocess.run([FARTHING, *arguments], capture_output=True, text=True, timeout=30, env=env, check=False)


def until(holds, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def stored(gateway: Gateway, rows: int) -> list[dict]:
    """The report by key once so many rows are stored."""
    until(lambda: gateway.metric("farthing_ledger_rows_total") >= rows)
    done = farthing(gateway, "ledger", "report", "--by", "tenant,outcome", "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["lines"]


def test_a_budget_admits_what_fits_and_says_when_it_resets():
    with serving() as upstream:
        budgets = [{"scope": "tenant:shop", "limit": "$0.002/month", "soft": ["50%"]}]
        with start_gateway(policy(upstream.url, budgets=budgets), SECRETS) as gateway, client(gateway) as http:
            answers = [http.post("/v1/chat/completions", json=chat("m", max_tokens=1000)) for _ in range(60)]
            ok = [answer for answer in answers if answer.status_code == 200]
            refused = next(answer for answer in answers if answer.status_code != 200)
            assert refused.status_code == 429
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
            assert "tenant:shop/month" in error["message"]
            assert "resets at" in error["message"]
            assert refused.headers["x-should-retry"] == "false"
            assert "tenant:shop/month; used=" in ok[-1].headers["x-farthing-budget-warning"]
            with client(gateway, "lab") as lab:
                assert lab.post("/v1/chat/completions", json=chat("m")).status_code == 200
            spent = sum(float(answer.headers["x-farthing-cost-usd"]) for answer in ok)
            assert gateway.metric("farthing_budget_usd", part="committed") == pytest.approx(spent)
            assert gateway.metric("farthing_budget_usd", part="reserved") == 0
            assert spent <= 0.002
            rows = stored(gateway, len(ok) + 1)
            shop = next(row for row in rows if row["tenant"] == "shop")
            assert shop["requests"] == len(ok)
            assert farthing(gateway, "ledger", "verify").returncode == 0


def test_without_a_database_requests_go_through_and_nothing_is_written():
    with serving() as upstream:
        env = {**SECRETS, "FARTHING_DATABASE": "none"}
        with start_gateway(policy(upstream.url), env) as gateway, client(gateway) as http:
            assert "no books: no ledger, no budgets" in gateway.log
            answer = http.post("/v1/chat/completions", json=chat("m"))
            assert (answer.status_code, answer.headers["x-farthing-cost-usd"]) == (200, "0.000014")
            assert http.get("/admin/keys").status_code == 404
            assert not (gateway.policies.parent / "farthing-data").exists()


def test_budgets_without_a_database_are_refused_at_the_start():
    with pytest.raises(AssertionError, match="FARTHING_DATABASE=none keeps no books; fix: remove one of them"):
        limits = [{"scope": "key", "requests": "3/min"}]
        with start_gateway(policy("http://127.0.0.1:9", limits=limits), {**SECRETS, "FARTHING_DATABASE": "none"}):
            pass


def test_a_rate_limit_says_when_to_come_back():
    with serving() as upstream:
        limits = [{"scope": "key", "requests": "3/min"}]
        with start_gateway(policy(upstream.url, limits=limits), SECRETS) as gateway, client(gateway) as http:
            answers = [http.post("/v1/chat/completions", json=chat("m")) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
            assert [a.headers["x-ratelimit-remaining-requests"] for a in answers[:3]] == ["2", "1", "0"]
            error = answers[3].json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            assert 1 <= int(answers[3].headers["retry-after"]) <= 60
            assert 0 < int(answers[3].headers["retry-after-ms"]) <= 60_000


def test_slots_come_back_when_a_caller_leaves():
    with serving(stall()) as upstream:
        limits = [{"scope": "tenant:shop", "concurrent": 1}]
        with start_gateway(policy(upstream.url, limits=limits), SECRETS) as gateway, client(gateway) as http:
            for _ in range(3):
                with pytest.raises(httpx.ReadTimeout):
                    http.post("/v1/chat/completions", json=chat("m"), timeout=0.3)
                until(lambda: gateway.metric("farthing_in_flight") == 0)
            assert gateway.metric("farthing_requests_total", outcome="client_disconnect") == 3


def test_an_unknown_price_is_refused_only_where_a_budget_applies():
    with serving() as upstream:
        budgets = [{"scope": "tenant:shop", "limit": "$5/day"}]
        with start_gateway(policy(upstream.url, budgets=budgets), SECRETS) as gateway:
            with client(gateway) as http:
                refused = http.post("/v1/chat/completions", json=chat("mystery"))
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")
                assert "unpriced has no known price" in refused.json()["error"]["message"]
            with client(gateway, "lab") as http:
                assert http.post("/v1/chat/completions", json=chat("mystery")).status_code == 200


def test_a_ceiling_stands_in_for_an_unknown_price():
    with serving() as upstream:
        more = {"budgets": [{"scope": "all", "limit": "$1/day"}], "money": {"unknown_price": "$0.40"}}
        with start_gateway(policy(upstream.url, **more), SECRETS) as gateway, client(gateway) as http:
            statuses = [http.post("/v1/chat/completions", json=chat("mystery")).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
            assert gateway.metric("farthing_budget_usd", part="committed") == pytest.approx(0.8)


def test_a_restart_forgets_no_spending(tmp_path):
    with serving() as upstream:
        yaml = policy(upstream.url, budgets=[{"scope": "tenant:shop", "limit": "$0.002/month"}])
        env = {**SECRETS, "FARTHING_DATA_DIR": str(tmp_path / "data")}
        body = chat("m", max_tokens=1000)
        with start_gateway(yaml, env) as gateway, client(gateway) as http:
            while http.post("/v1/chat/completions", json=body).status_code == 200:
                pass
            before = gateway.metric("farthing_budget_usd", part="committed")
        with start_gateway(yaml, env) as gateway, client(gateway) as http:
            assert http.post("/v1/chat/completions", json=body).status_code == 429
            assert gateway.metric("farthing_budget_usd", part="committed") == before


def test_savings_are_counted_against_the_baseline():
    with serving() as upstream:
        with start_gateway(policy(upstream.url, baseline="dear"), SECRETS) as gateway, client(gateway) as http:
            cost = float(http.post("/v1/chat/completions", json=chat("m")).headers["x-farthing-cost-usd"])
            assert gateway.metric("farthing_baseline_usd_total") == pytest.approx(10 * cost)
            assert gateway.metric("farthing_saved_usd", kind="routing") == pytest.approx(9 * cost)
            stored(gateway, 1)
            assert farthing(gateway, "ledger", "verify").returncode == 0


def test_keys_made_while_it_runs_work_and_a_revoked_one_stops_within_a_second():
    with serving() as upstream:
        with start_gateway(policy(upstream.url), SECRETS) as gateway:
            made = farthing(gateway, "keys", "create", "--tenant", "shop", "--name", "ci", "--models", "m*", "--json")
            assert made.returncode == 0, made.stderr
            key = json.loads(made.stdout)
            headers = {"x-api-key": key["secret"]}

            def ask(model: str = "m") -> httpx.Response:
                url = f"{gateway.url}/v1/chat/completions"
                return httpx.post(url, json=chat(model), headers=headers, trust_env=False)

            until(lambda: ask().status_code == 200, 1.0)
            hidden = ask("other")
            assert (hidden.status_code, hidden.json()["error"]["code"]) == (403, "model_not_allowed")
            assert farthing(gateway, "keys", "revoke", key["id"]).returncode == 0
            until(lambda: ask().status_code == 401, 1.0)
            assert ask().json()["error"]["code"] == "revoked_api_key"


def test_the_first_start_shows_an_admin_key_that_works_and_the_second_does_not(tmp_path):
    with serving() as upstream:
        env = {**SECRETS, "FARTHING_DATA_DIR": str(tmp_path / "data")}
        with start_gateway(policy(upstream.url), env) as gateway:
            secret = re.search(r"the admin key is (sk-farthing-admin-\S+)", gateway.log)[1]
            headers = {"authorization": f"Bearer {secret}"}
            listed = httpx.get(f"{gateway.url}/admin/v1/keys", headers=headers, trust_env=False)
            assert listed.status_code == 200
            assert httpx.get(f"{gateway.url}/admin/v1/keys", trust_env=False).status_code == 401
        with start_gateway(policy(upstream.url), env) as gateway:
            assert "admin key is" not in gateway.log


def test_a_second_process_on_the_same_data_is_refused(tmp_path):
    with serving() as upstream:
        env = {**SECRETS, "FARTHING_DATA_DIR": str(tmp_path / "data")}
        with start_gateway(policy(upstream.url), env):
            done = subprocess.run(
                [FARTHING, "serve", "--port", "0", "--policies", str(tmp_path)],
                capture_output=True, text=True, timeout=20, check=False,
                env={"PATH": os.environ["PATH"], "FARTHING_DATA_DIR": str(tmp_path / "data")},
            )  # fmt: skip
            assert done.returncode == 2
            assert "fix:" in done.stderr


def test_soft_limits_reach_the_webhook():
    with webhook() as (url, received), serving() as upstream:
        more = {
            "budgets": [{"scope": "all", "limit": "$0.01/day", "soft": ["10%", "90%"]}],
            "money": {"alert_webhook": "env:HOOK"},
        }
        with start_gateway(policy(upstream.url, **more), {**SECRETS, "HOOK": url}) as gateway, client(gateway) as http:
            http.post("/v1/chat/completions", json=chat("m", max_tokens=2000))
            http.post("/v1/chat/completions", json=chat("m", max_tokens=2000))
            until(lambda: len(received) == 1)
    assert (received[0]["budget"], received[0]["threshold"]) == ("all/day", 0.1)
