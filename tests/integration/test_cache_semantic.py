"""The semantic cache of a live gateway: shadow until certified, then the same question in other words, never across."""

import asyncio
import contextlib

import pytest

from gateway.cache.verify.verifier import load_verifier
from gateway.encoder import open_model
from tests.integration.test_cache import asks, caller, kept, policy, post
from tests.support.certificates import certify_route
from tests.support.gateway import start_gateway
from tests.support.upstream import Upstream

KEYS = {"SHOP_KEY": "sk-shop-0123456789abcdef", "LAB_KEY": "sk-lab-0123456789abcdef0"}
CACHE = {"semantic": {"ttl": "1h", "max_error": "1%"}}
ASKED = "How do I reset the password of an account?"
AGAIN = "How can I reset the password of an account?"
OTHER = "How do I reset the PIN of a card?"


@pytest.fixture(scope="module")
def versions():
    return {"encoder": open_model().version, "verifier": load_verifier().version}


@contextlib.asynccontextmanager
async def world(versions=None, cache=CACHE, **more):
    async with Upstream() as upstream:
        with start_gateway(policy(upstream.url, cache, **more), KEYS) as gateway:
            if versions is not None:
                certify_route(gateway.policies, "r", versions)
                await until(lambda: gateway.metric("farthing_cache_certified", route="r") == 1)
            yield upstream, gateway, caller(gateway)


async def until(holds, limit_s=20.0):
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.05)


async def hit(http, body, tries=20, **headers):
    """The answer of the cache; a machine that is busy may need several tries, for a late look-up is a miss."""
    for _ in range(tries):
        answer = await post(http, body, **headers)
        if answer.headers["x-farthing-cache"] != "miss":
            break
    return answer


async def test_without_a_certificate_it_watches_and_serves_nothing():
    async with world() as (upstream, gateway, http), http:
        await post(http, asks(ASKED))
        await kept(gateway)
        answer = await post(http, asks(AGAIN))
        assert answer.headers["x-farthing-cache"] == "miss"
        assert upstream.count() == 2
        await until(lambda: gateway.metric("farthing_cache_labels_total", route="r", verdict="right") == 1)
        assert gateway.metric("farthing_cache_reasons_total", reason="shadow") == 1
        assert gateway.metric("farthing_cache_certified", route="r") == 0


async def test_with_one_the_same_question_in_other_words_is_answered(versions):
    async with world(versions) as (_, gateway, http), http:
        first = await post(http, asks(ASKED))
        await kept(gateway)
        answer = await hit(http, asks(AGAIN))
        assert answer.headers["x-farthing-cache"] == "semantic"
        assert float(answer.headers["x-farthing-cache-similarity"]) > 0.9
        assert answer.json()["choices"] == first.json()["choices"]
        assert answer.headers["x-farthing-cost-usd"] == "0.000000"
        assert answer.headers["x-farthing-attempts"] == "0"


async def test_another_question_is_not(versions):
    async with world(versions) as (_, gateway, http), http:
        await post(http, asks(ASKED))
        await kept(gateway)
        assert (await post(http, asks(OTHER))).headers["x-farthing-cache"] == "miss"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"temperature": 0.5},
        {"seed": 7},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 50},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AGAIN}]},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": AGAIN},
            ]
        },
    ],
)
async def test_one_changed_field_is_another_scope(versions, change):
    async with world(versions) as (_, gateway, http), http:
        await post(http, asks(ASKED))
        await kept(gateway)
        answer = await post(http, asks(AGAIN) | change)
        assert answer.headers["x-farthing-cache"] == "miss"


async def test_no_answer_crosses_tenants(versions):
    async with world(versions) as (_, gateway, http), http, caller(gateway, "lab") as lab:
        await post(http, asks(ASKED))
        await kept(gateway)
        assert (await post(lab, asks(AGAIN))).headers["x-farthing-cache"] == "miss"


async def test_a_certificate_of_other_parts_or_a_larger_error_serves_nothing(versions):
    async with world() as (_, gateway, http), http:
        await post(http, asks(ASKED))
        await kept(gateway)
        certify_route(gateway.policies, "r", versions | {"encoder": "another"})
        await asyncio.sleep(1.5)
        assert gateway.metric("farthing_cache_certified", route="r") == 0
        certify_route(gateway.policies, "r", versions, alpha=0.05)
        await asyncio.sleep(1.5)
        assert gateway.metric("farthing_cache_certified", route="r") == 0


async def test_hits_are_asked_anew_on_a_budget_of_their_own(versions):
    cache = {"semantic": {"ttl": "1h", "shadow": "99%", "shadow_budget": "$1/day"}}
    async with world(versions, cache) as (_upstream, gateway, http), http:
        await post(http, asks(ASKED))
        await kept(gateway)
        assert (await hit(http, asks(AGAIN))).headers["x-farthing-cache"] == "semantic"
        await until(lambda: gateway.metric("farthing_cache_shadow_calls_total", result="right") == 1)
        assert gateway.metric("farthing_tenant_cost_usd_total", tenant="shadow:r") > 0
        assert gateway.metric("farthing_budget_usd", budget="tenant:shadow:r/day", part="committed") > 0


@pytest.mark.parametrize(
    "text", ["What is the weather today?", "Send an email to Bob.", "Print 1 ```python\nx``` please"]
)
async def test_what_may_not_be_shared_says_why(versions, text):
    async with world(versions) as (_, gateway, http), http:
        await post(http, asks(text))
        reasons = [line for line in metrics(gateway) if line.startswith("farthing_cache_reasons_total")]
        assert len(reasons) == 1


def metrics(gateway):
    import urllib.request

    return urllib.request.urlopen(f"{gateway.url}/metrics", timeout=5).read().decode().splitlines()
