"""Ratings, comparisons and neighbours over a live gateway: one upstream inside, one outside, either may judge."""

import asyncio
import contextlib
import json
import re

import httpx
import pytest

from gateway.database import open_database
from gateway.encoder import open_model
from gateway.routing.labels import RoutingLabelStore
from gateway.routing.scorer import open_scorer
from gateway.routing.shares import calibrate_share, dump_share, share_path
from tests.support.faults import Pause, Request, json_reply, status, wire
from tests.support.gateway import start_gateway
from tests.support.routing_labels import label, packed
from tests.support.upstream import Upstream

EASY = "hello"
ASKED = "How do I reset the password of an account?"
SENSITIVE = {"x-farthing-sensitive": "true"}
OTHER_WORDS = {"l8": "It is five.", "l70": "It is twelve."}


def speaks(texts, ratings="", request: Request | None = None, delay_s: float = 0.0):
    """Answers each model's text; what asks for ratings gets `ratings`."""
    assert request is not None
    asked = request.json.get("response_format", {}).get("json_schema", {}).get("name")
    if asked and delay_s:
        yield Pause(delay_s)
    text = ratings if asked else texts.get(request.model, "Paris.")
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": request.model, "choices": [choice]}
    yield from wire(json_reply({**body, "usage": usage}))


def answering(texts=None, ratings="", delay_s=0.0):
    return lambda request: speaks(texts or {}, ratings, request, delay_s)


def policy(inside, outside, classify, **more):
    def target(url, model, dollars, **extra):
        price = {"input": dollars, "output": dollars}
        return {"provider": "openai_compatible", "base_url": f"{url}/v1", "model": model, "price": price, **extra}

    return json.dumps(
        {
            "version": 1,
            "defaults": {"retries": {"attempts": 1}},
            "targets": {
                "small": target(inside.url, "l8", 1, self_hosted=True),
                "big": target(outside.url, "l70", 10),
                "big-inside": target(inside.url, "l70", 10, self_hosted=True),
                "judge": target(outside.url, "j", 2),
            },
            "baseline": "big",
            "routes": [{"name": "r", "match": {}, "classify": {"weak": "small", "strong": "big", **classify}}],
            **more,
        }
    )


@contextlib.asynccontextmanager
async def world(classify, behaviour=None, **more):
    async with Upstream(behaviour or answering()) as inside, Upstream(behaviour or answering()) as outside:
        with start_gateway(policy(inside, outside, classify, **more)) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as http:
                yield inside, outside, gateway, http


async def ask(http, text=EASY, headers=None, **more):
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 50, **more}
    return await http.post("/v1/chat/completions", json=body, headers=headers)


async def until(holds, limit_s=15.0):
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.02)


def compared(gateway, result):
    return gateway.metric("farthing_routing_comparisons_total", route="r", result=result)


@contextlib.contextmanager
def database(gateway):
    found = open_database(f"sqlite:///{gateway.policies.parent}/farthing-data/farthing.db")
    try:
        yield found
    finally:
        found.close()


def labels(gateway):
    with database(gateway) as found:
        return RoutingLabelStore(found).of("r", 0.0, 1e12)


async def rows(gateway, count):
    """The ledger's rows once so many are stored: (tenant, charged, own, attempts) by target."""
    await until(lambda: gateway.metric("farthing_ledger_rows_total") >= count)
    with database(gateway) as found:
        read = found.query("SELECT tenant, target, charged_micro, own_micro, attempts, outcome FROM requests")
    return {
        (tenant, target): (charged, own, json.loads(attempts)) for tenant, target, charged, own, attempts, _ in read
    }


def calibrate(gateway, classify, versions, threshold=0.4):
    """A share calibration whose threshold parts these scores."""
    made = calibrate_share(
        [threshold] * 700 + [1.0] * 300, 0.3, route="r", date="2026-01-01T00:00:00+00:00", versions=versions
    )
    (gateway.policies / "certificates").mkdir(exist_ok=True)
    (gateway.policies / share_path("r")).write_bytes(dump_share(made))
    return until(lambda: gateway.metric("farthing_routing_threshold", route="r") > 0)


JUDGED = {"tier": "judge", "strong_share": "30%", "judge": {"target": "judge", "timeout": "500ms"}}
JUDGE_PARTS = {"judge_prompt": "1", "weak": "l8", "strong": "l70", "judge": "j"}


async def test_a_judge_decides_and_its_cost_is_the_requests_own():
    async with world(JUDGED, answering(ratings='{"difficulty": 1}')) as (inside, outside, gateway, http):
        await calibrate(gateway, JUDGED, JUDGE_PARTS)
        answer = await ask(http)
        assert answer.headers["x-farthing-target"] == "small"
        assert "why=score; tier=judge; score=0.0000" in answer.headers["x-farthing-route"]
        assert answer.headers["x-farthing-cost-usd"] == "0.000330", "110 tokens at 1 and at 2 dollars a million"
        again = await ask(http)
        assert again.headers["x-farthing-cost-usd"] == "0.000110", "the same text is not rated again"
        assert (inside.count(), outside.count()) == (2, 1)
        await until(lambda: gateway.metric("farthing_ledger_rows_total") == 2)
        with database(gateway) as found:
            read = found.query(
                "SELECT charged_micro, baseline_micro, saved_routing, own_micro FROM requests ORDER BY 1"
            )
            named = found.query("SELECT DISTINCT route_tier, route_certificate, route_scorer FROM requests")
        assert read == [(110, 1100, 990, 0), (330, 1100, 990, 220)]
        assert named == [("judge", None, "j")], "the model that rated; a share is no certificate"
        assert gateway.metric("farthing_routing_ratings_total", result="rated") == 1
        assert gateway.metric("farthing_cost_usd_total", target="judge") == pytest.approx(0.00022)


async def test_a_judge_that_is_late_sends_the_request_to_the_strong_target():
    async with world(JUDGED, answering(ratings='{"difficulty": 1}', delay_s=3)) as (_, _, gateway, http):
        await calibrate(gateway, JUDGED, JUDGE_PARTS)
        answer = await ask(http)
        assert answer.headers["x-farthing-target"] == "big"
        assert "choice=strong; why=judge_unavailable; tier=light" in answer.headers["x-farthing-route"]
        assert answer.elapsed.total_seconds() < 2.5


async def test_a_judge_outside_never_sees_a_sensitive_request():
    classify = {**JUDGED, "strong": "big-inside"}
    async with world(classify, answering(ratings='{"difficulty": 1}')) as (_, outside, gateway, http):
        await calibrate(gateway, classify, JUDGE_PARTS)
        answer = await ask(http, headers=SENSITIVE)
        assert "sensitive=header; choice=strong; why=judge_unavailable" in answer.headers["x-farthing-route"]
        assert outside.count() == 0


COMPARE = {"compare": "100%", "judge": {"target": "judge"}}


async def test_the_other_target_is_asked_afterwards_on_a_row_of_its_own():
    async with world(COMPARE) as (inside, outside, gateway, http):
        answer = await ask(http, stream=False)
        assert answer.headers["x-farthing-target"] == "big"
        await until(lambda: compared(gateway, "same") == 1)
        (row,) = labels(gateway)
        assert row.request_id == answer.headers["x-farthing-request-id"]
        assert (row.weak, row.strong, row.weak_quality, row.strong_quality) == ("small", "big", 1.0, 1.0)
        assert (row.weak_cost_micro, row.strong_cost_micro, row.weight) == (110, 1100, 1.0)
        assert row.versions == {**open_scorer(embed=False).versions("light", None), "weak": "l8", "strong": "l70"}
        found = await rows(gateway, 2)
        assert found["compare:r", "small"][0] == 110
        assert found["default", "big"][0] == 1100
        assert json.loads(inside.requests[0].body)["messages"] == [{"role": "user", "content": EASY}]
        assert outside.count() == 1


async def test_answers_that_differ_are_rated_and_the_rating_is_paid_by_the_comparison():
    async with world(COMPARE, answering(OTHER_WORDS, '{"first": 3, "second": 3}')) as (_, outside, gateway, http):
        await ask(http)
        await until(lambda: compared(gateway, "rated") == 1)
        (row,) = labels(gateway)
        assert (row.weak_quality, row.strong_quality, row.source) == (0.5, 0.5, "judged")
        found = await rows(gateway, 3)
        assert found["compare:r", "judge"][0] == 220
        shown = json.loads(outside.requests[1].body)
        assert shown["response_format"]["json_schema"]["strict"] is True
        assert "It is five." in shown["messages"][1]["content"]


async def test_the_budget_of_comparing_bounds_it_and_no_caller_notices():
    classify = {**COMPARE, "compare_budget": "$0.0005/day"}
    async with world(classify) as (_, _, gateway, http):
        for n in range(6):
            assert (await ask(http, f"{EASY} {n}")).status_code == 200
        await until(lambda: compared(gateway, "same") + compared(gateway, "refused") == 6)
        assert compared(gateway, "refused") >= 3
        assert gateway.metric("farthing_budget_usd", budget="tenant:compare:r/day", part="limit") == pytest.approx(
            0.0005
        )


async def test_comparing_stops_at_the_boundary_of_a_sensitive_request():
    classify = {**COMPARE, "strong": "big-inside"}
    async with world(classify, answering(OTHER_WORDS)) as (inside, outside, gateway, http):
        await ask(http, headers=SENSITIVE)
        await until(lambda: compared(gateway, "sensitive") == 1)
        assert (inside.count(), outside.count()) == (2, 0)
        assert labels(gateway) == []


async def test_an_upstream_that_fails_a_comparison_harms_nobody():
    async with world(COMPARE) as (inside, _, gateway, http):
        inside.script("*", [status(500)])
        assert (await ask(http)).status_code == 200
        await until(lambda: compared(gateway, "failed") == 1)


async def test_a_tenants_own_labels_move_its_scores():
    classify = {"tier": "neighbours"}
    model = open_model()
    near = "How do I reset my password?"
    vector = model.encode_batch([near])[0]
    async with world(classify) as (_, _, gateway, http):
        await ask(http, near)
        with database(gateway) as found:
            store = RoutingLabelStore(found)
            versions = {"encoder": model.version, "weak": "l8", "strong": "l70"}
            for n in range(60):
                made = label(n, at_s=1.9e9 + n, tenant="default", route="r", vector=packed(vector), versions=versions)
                store.add(made)

        async def told():
            return (await ask(http, near)).headers["x-farthing-route"]

        async with asyncio.timeout(20):
            while "tier=neighbours" not in (said := await told()):
                await asyncio.sleep(0.05)
        assert float(re.search(r"score=([\d.]+)", said)[1]) > 0.2, "the labels say 0.75"
        assert gateway.metric("farthing_routing_labels") == 60
        far = (await ask(http, "Prove Fermat's little theorem for p = 7.")).headers["x-farthing-route"]
        assert "tier=neighbours" not in far


@pytest.mark.parametrize("first", ["routing", "cache"])
async def test_routing_reads_meaning_whether_it_or_the_cache_came_first(first):
    async with Upstream(answering()) as inside, Upstream(answering()) as outside:
        both = json.loads(policy(inside, outside, {"tier": "embed"}))
        both["routes"][0]["cache"] = {"semantic": {"ttl": "1h"}}
        start = json.loads(policy(inside, outside, {"tier": "embed"} if first == "routing" else {}))
        if first == "cache":
            start["routes"][0]["cache"] = both["routes"][0]["cache"]
        with start_gateway(json.dumps(start)) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as http:
                await ask(http, ASKED)
                (gateway.policies / "policy.yaml").write_text(json.dumps(both))
                await until(lambda: gateway.metric("farthing_policy_reloads_total", result="ok") == 1)
                said = ""
                async with asyncio.timeout(15):
                    while "tier=embed" not in said or not gateway.metric(
                        "farthing_cache_reasons_total", reason="shadow"
                    ):
                        said = (await ask(http, ASKED)).headers["x-farthing-route"]
