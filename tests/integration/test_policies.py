"""Policies seen from outside: keys, tenants, unknown models, the sandbox, and reloads that swap or keep."""

import json
import time

import httpx
import pytest

from tests.support.gateway import start_gateway

KEYS = {"SHOP_KEY": "sk-shop-0123456789-abcdef", "BANK_KEY": "sk-bank-9876543210-fedcba"}
POLICY = {
    "version": 1,
    "keys": {
        "shop": {"tenant": "shop", "secret": "env:SHOP_KEY"},
        "bank": {"tenant": "bank", "secret": "env:BANK_KEY", "tags": ["vip"]},
    },
    "defaults": {"direct_targets": False},
    "targets": {
        "small": {"provider": "sandbox", "model": "sandbox-small", "latency_ms": 1, "tokens_per_s": 100000},
        "large": {"provider": "sandbox", "model": "sandbox-large", "latency_ms": 1, "tokens_per_s": 100000},
        "failing": {
            "provider": "sandbox",
            "model": "sandbox-small",
            "latency_ms": 1,
            "tokens_per_s": 100000,
            "error_rate": "100%",
        },
    },
    "routes": [
        {"name": "vip", "match": {"models": ["auto"], "tags": ["vip"]}, "target": "large"},
        {"name": "header", "match": {"models": ["auto"], "headers": {"x-tier": "gold"}}, "target": "large"},
        {"name": "auto", "match": {"models": ["auto", "auto-*"]}, "target": "small"},
        {"name": "bank-only", "match": {"models": ["secret-model"], "tenants": ["bank"]}, "target": "large"},
        {"name": "rescued", "match": {"models": ["rescued"]}, "target": "failing", "fallbacks": ["small"]},
        {
            "name": "canary",
            "match": {"models": ["canary"]},
            "split": [{"target": "small", "weight": 50, "sticky": "session"}, {"target": "large", "weight": 50}],
        },
    ],
}


@pytest.fixture(scope="module")
def gateway():
    with start_gateway(json.dumps(POLICY), {**KEYS, "FARTHING_RELOAD_INTERVAL_S": "0.05"}) as live:
        yield live


def ask(gateway, model, *, key="SHOP_KEY", headers=None, **more):
    auth = {"authorization": f"Bearer {KEYS.get(key, key)}"} if key else {}
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers={**auth, **(headers or {})}, timeout=10, trust_env=False)


@pytest.mark.parametrize("key", ["", "sk-wrong-0123456789-abcdef"], ids=["none", "wrong"])
def test_without_a_known_key_nobody_is_served(gateway, key):
    answer = ask(gateway, "auto", key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")


def test_anthropics_header_is_a_key_too(gateway):
    assert ask(gateway, "auto", key="", headers={"x-api-key": KEYS["SHOP_KEY"]}).status_code == 200


def test_an_unknown_model_is_404_model_not_found(gateway):
    answer = ask(gateway, "nonesuch")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")


def test_another_tenants_model_does_not_exist_and_is_not_listed(gateway):
    assert ask(gateway, "secret-model").status_code == 404
    assert ask(gateway, "secret-model", key="BANK_KEY").status_code == 200
    for key, listed in (("SHOP_KEY", False), ("BANK_KEY", True)):
        answer = httpx.get(
            f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {KEYS[key]}"}, trust_env=False
        )
        assert ("secret-model" in [row["id"] for row in answer.json()["data"]]) is listed


@pytest.mark.parametrize(
    ("kwargs", "target"),
    [({}, "small"), ({"key": "BANK_KEY"}, "large"), ({"headers": {"x-tier": "gold"}}, "large")],
    ids=["plain", "tag", "header"],
)
def test_the_first_matching_route_decides(gateway, kwargs, target):
    answer = ask(gateway, "auto", **kwargs)
    assert answer.headers["x-farthing-target"] == target
    assert answer.json()["model"] == "auto"


def test_a_session_stays_on_its_side_of_a_split(gateway):
    seen = {
        s: {ask(gateway, "canary", headers={"x-farthing-session": s}).headers["x-farthing-target"] for _ in range(5)}
        for s in "abcdefgh"
    }
    assert all(len(targets) == 1 for targets in seen.values())
    assert {target for targets in seen.values() for target in targets} == {"small", "large"}


def test_a_failing_target_falls_back_and_both_calls_are_told(gateway):
    answer = ask(gateway, "rescued")
    assert answer.status_code == 200
    assert answer.headers["x-farthing-target"] == "small"


def test_a_simulation_is_labelled(gateway):
    assert ask(gateway, "auto").headers["x-farthing-simulated"] == "true"


def test_secrets_are_in_no_log_and_no_metric(gateway):
    text = gateway.log + httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    assert not any(secret in text for secret in KEYS.values())


def test_a_reload_swaps_the_policy_and_a_broken_file_keeps_it(gateway):
    before = ask(gateway, "auto").headers["x-farthing-policy"]
    file = gateway.policies / "policy.yaml"
    file.write_text(
        json.dumps(POLICY | {"routes": [{"name": "auto", "match": {"models": ["auto"]}, "target": "large"}]})
    )
    _until(lambda: ask(gateway, "auto").headers["x-farthing-target"] == "large")
    changed = ask(gateway, "auto").headers["x-farthing-policy"]
    assert changed != before
    assert gateway.metric("farthing_policy_info", hash=changed) == 1

    file.write_text("version: 1\ntargets:\n  small: {provider: sandbox, modle: x}\n")
    _until(lambda: gateway.metric("farthing_policy_reload_success") == 0)
    assert ask(gateway, "auto").headers["x-farthing-policy"] == changed
    error = httpx.get(f"{gateway.url}/health/ready", trust_env=False).json()["policy_error"]
    assert "policy.yaml:3" in error
    assert "did you mean" in error.lower()

    file.write_text(json.dumps(POLICY))
    _until(lambda: gateway.metric("farthing_policy_reload_success") == 1)
    assert ask(gateway, "auto").headers["x-farthing-policy"] == before


def _until(holds, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
