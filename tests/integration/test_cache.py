"""Exact answers and one call for many: a live gateway, a fake upstream, callers on sockets."""

import asyncio
import contextlib
import json

import httpx
import pytest

from tests.integration.conftest import events
from tests.support.answers import Shape
from tests.support.faults import cut, held, ok, stall, status
from tests.support.gateway import start_gateway
from tests.support.upstream import Upstream

KEYS = {"SHOP_KEY": "sk-shop-0123456789abcdef", "LAB_KEY": "sk-lab-0123456789abcdef0"}


def policy(url, cache, **more):
    target = {"provider": "openai_compatible", "base_url": f"{url}/v1", "price": {"input": 1, "output": 2}}
    return json.dumps(
        {
            "version": 1,
            "keys": {name: {"tenant": name, "secret": f"env:{name.upper()}_KEY"} for name in ("shop", "lab")},
            "defaults": {"retries": {"attempts": 1}},
            "targets": {"up": target},
            "routes": [{"name": "r", "match": {}, "target": "up", "cache": cache}],
            "baseline": "up",
            **more,
        }
    )


@contextlib.asynccontextmanager
async def world(cache=None, default=None, **more):
    """An upstream, a gateway that caches, and a client of the shop."""
    async with Upstream(default) as upstream:
        text = policy(upstream.url, cache or {"exact": "1h"}, **more)
        with start_gateway(text, KEYS) as gateway:
            yield upstream, gateway, caller(gateway)


def caller(gateway, tenant="shop"):
    key = KEYS[f"{tenant.upper()}_KEY"]
    limits = httpx.Limits(max_connections=300)
    return httpx.AsyncClient(
        base_url=gateway.url,
        headers={"authorization": f"Bearer {key}"},
        timeout=20,
        trust_env=False,
        limits=limits,
    )


def asks(content="hello", **more):
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


async def post(http, body, **headers):
    return await http.post("/v1/chat/completions", json=body, headers=headers)


async def under_way(gateway, number):
    async with asyncio.timeout(20):
        while await asyncio.to_thread(gateway.metric, "farthing_in_flight") != number:
            await asyncio.sleep(0.01)


async def kept(gateway, number=1):
    async with asyncio.timeout(20):
        while gateway.metric("farthing_cache_answers_kept_total") < number:
            await asyncio.sleep(0.01)


def text_of(answer):
    """What an answer says, streamed or not."""
    if answer.headers["content-type"].startswith("application/json"):
        return answer.json()["choices"][0]["message"]["content"]
    chunks = [chunk for chunk in events(answer.text) if chunk != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def test_the_same_request_is_answered_once_and_costs_once():
    async with world() as (upstream, gateway, http), http:
        first = await post(http, asks())
        await kept(gateway)
        again = await post(http, asks())
        assert (first.headers["x-farthing-cache"], again.headers["x-farthing-cache"]) == ("miss", "exact")
        assert again.headers["x-farthing-cost-usd"] == "0.000000"
        assert int(again.headers["age"]) in (0, 1)
        assert again.headers["x-farthing-cache-entry"] == first.headers["x-farthing-request-id"]
        assert text_of(again) == text_of(first)
        assert again.json()["id"] != first.json()["id"]
        assert again.json()["usage"] == first.json()["usage"]
        assert upstream.count() == 1
        assert gateway.metric("farthing_cost_usd_total") == float(first.headers["x-farthing-cost-usd"])
        assert gateway.metric("farthing_saved_usd", kind="cache") == float(first.headers["x-farthing-cost-usd"])


@pytest.mark.parametrize("stored_as_stream", [False, True])
@pytest.mark.parametrize("wanted_as_stream", [False, True])
async def test_an_answer_comes_back_in_the_form_that_is_asked_for(stored_as_stream, wanted_as_stream):
    async with world() as (upstream, gateway, http), http:
        first = await post(http, asks(stream=stored_as_stream))
        await kept(gateway)
        again = await post(http, asks(stream=wanted_as_stream))
        assert again.headers["x-farthing-cache"] == "exact"
        assert text_of(again) == text_of(first)
        assert upstream.count() == 1
        if wanted_as_stream:
            assert events(again.text)[-1] == "[DONE]"


@pytest.mark.parametrize("tenant", ["shop", "lab"])
async def test_no_answer_crosses_tenants(tenant):
    async with world() as (_upstream, gateway, http), http, caller(gateway, tenant) as other:
        await post(http, asks())
        await kept(gateway)
        answer = await post(other, asks())
        assert answer.headers["x-farthing-cache"] == ("exact" if tenant == "shop" else "miss")


async def test_a_hundred_identical_requests_at_once_make_one_call():
    slow = ok(Shape(chunks=6, delay_s=0.05, first_delay_s=0.3))
    async with world(default=slow) as (upstream, gateway, http), http:
        wishes = [
            asks(stream=n % 2 == 0, **({"stream_options": {"include_usage": True}} if n % 4 == 0 else {}))
            for n in range(100)
        ]
        answers = await asyncio.gather(*[post(http, wish) for wish in wishes])
        assert {answer.status_code for answer in answers} == {200}
        assert upstream.count() == 1
        assert len({text_of(answer) for answer in answers}) == 1
        for wish, answer in zip(wishes, answers, strict=True):
            if wish["stream"]:
                found = events(answer.text)
                assert found[-1] == "[DONE]"
                assert any(chunk.get("usage") for chunk in found[:-1]) == ("stream_options" in wish)
                assert answer.text.count(": x-farthing-cost-usd=") <= 1
        kinds = sorted({answer.headers["x-farthing-cache"] for answer in answers})
        assert kinds == ["coalesced", "miss"]
        await kept(gateway)


async def test_when_the_first_caller_leaves_the_others_still_get_their_stream():
    left = asyncio.Event()
    async with world(default=held(left)) as (upstream, gateway, http), http:
        async with http.stream("POST", "/v1/chat/completions", json=asks(stream=True)) as leader:
            pieces = leader.aiter_bytes()  # kept: a forgotten iterator closes the connection
            await anext(pieces)
            followers = [asyncio.create_task(post(http, asks(stream=True))) for _ in range(3)]
            await under_way(gateway, 4)
        await asyncio.sleep(0.2)  # the gateway sees that it left, and reads on for the others
        left.set()
        answers = await asyncio.gather(*followers)
        assert upstream.count() == 1
        for answer in answers:
            assert events(answer.text)[-1] == "[DONE]"
            assert events(answer.text)[-2]["choices"][0]["finish_reason"] == "stop"


async def test_when_the_first_call_fails_one_of_the_others_asks_for_all():
    async with world() as (upstream, _gateway, http), http:
        slow = ok(Shape(first_delay_s=0.3, delay_s=0.3))
        upstream.script("*", [status(500), slow])
        answers = await asyncio.gather(*[post(http, asks()) for _ in range(20)])
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * 19 + [500]
        assert upstream.count() == 2


async def test_after_two_failures_all_get_the_failure():
    async with world(default=status(500)) as (_upstream, _gateway, http), http:
        answers = await asyncio.gather(*[post(http, asks()) for _ in range(10)])
        assert {answer.status_code for answer in answers} <= {500, 502, 503}


@pytest.mark.parametrize("behaviour", [cut(2), stall(2)])
async def test_a_cut_stream_is_never_kept(behaviour):
    async with (
        world(default=behaviour, defaults={"retries": {"attempts": 1}, "deadlines": {"idle": "300ms"}}) as (
            upstream,
            _gateway,
            http,
        ),
        http,
    ):
        await post(http, asks(stream=True))
        upstream.default = ok()
        answer = await post(http, asks(stream=True))
        assert answer.headers["x-farthing-cache"] == "miss"
        assert upstream.count() == 2


@pytest.mark.parametrize(
    ("headers", "kind", "calls"),
    [
        ({"cache-control": "no-cache"}, "miss", 2),
        ({"cache-control": "no-store"}, "bypass", 2),
        ({"x-farthing-cache": "off"}, "bypass", 2),
        ({"x-farthing-cache": "refresh"}, "miss", 2),
        ({"x-farthing-cache": "only"}, "exact", 1),
        ({"cache-control": "max-age=60"}, "exact", 1),
    ],
)
async def test_a_request_says_what_it_wants_of_the_cache(headers, kind, calls):
    async with world() as (upstream, gateway, http), http:
        await post(http, asks())
        await kept(gateway)
        answer = await post(http, asks(), **headers)
        assert (answer.headers["x-farthing-cache"], upstream.count()) == (kind, calls)


async def test_only_a_stored_answer_or_none():
    async with world() as (upstream, _gateway, http), http:
        answer = await post(http, asks(), **{"x-farthing-cache": "only"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "not_cached")
        assert upstream.count() == 0


@pytest.mark.parametrize("more", [{"logprobs": True}, {"temperature": 1.7}, {"store": True}])
async def test_what_may_not_be_reused_is_asked_each_time(more):
    async with world() as (upstream, _gateway, http), http:
        for _ in range(2):
            answer = await post(http, asks(**more))
            assert answer.headers["x-farthing-cache"] == "bypass"
        assert upstream.count() == 2


async def test_a_hit_is_on_the_ledger_counts_for_rates_and_needs_no_money():
    limits = [{"scope": "key", "requests": "3/min"}]
    budgets = [{"scope": "tenant:shop", "limit": "$0.0006/month"}]
    async with world(limits=limits, budgets=budgets) as (upstream, gateway, http), http:
        first = await post(http, asks(max_tokens=100))
        assert first.status_code == 200
        await kept(gateway)
        assert (await post(http, asks(content="x" * 200, max_tokens=100))).status_code == 429
        hits = [await post(http, asks(max_tokens=100)) for _ in range(3)]
        assert [hit.status_code for hit in hits] == [200, 200, 429]
        assert upstream.count() == 1


async def test_answers_outlive_a_reload_that_does_not_concern_them_and_no_other():
    async with world() as (upstream, gateway, http), http:
        await post(http, asks())
        await kept(gateway)
        for change, kind in (({"money": {"timezone": "Europe/Berlin"}}, "exact"), ({"cache": "2h"}, "miss")):
            cache = {"exact": change.pop("cache", "1h")}
            (gateway.policies / "policy.yaml").write_text(policy(upstream.url, cache, **change))
            before = gateway.metric("farthing_policy_reloads_total", result="ok")
            async with asyncio.timeout(20):
                while gateway.metric("farthing_policy_reloads_total", result="ok") == before:
                    await asyncio.sleep(0.02)
            assert (await post(http, asks())).headers["x-farthing-cache"] == kind
