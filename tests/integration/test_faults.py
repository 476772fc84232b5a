"""What a client sees for every fault of an upstream: a clean status, a failover, or an error frame; never a lie."""

import asyncio
import time

import pytest

from tests.integration.conftest import chat, events

BEFORE = {
    # fault of the upstream before its first byte -> (status, code) that the client gets when there is no fallback
    "fault:500": (500, None),
    "fault:503": (503, None),
    "fault:529": (529, None),
    "fault:429:7": (429, None),
    "fault:html": (502, "upstream_502"),
    "fault:reset": (502, "upstream_unreachable"),
    "fault:hang-up": (502, "upstream_unreachable"),
    "fault:half-open": (504, "upstream_timeout"),
    "fault:redirect": (502, "upstream_broken"),
}
JSON_BROKEN = ["fault:short-length", "fault:no-last-chunk", "fault:binary"]
STREAM_CUT = ["fault:cut", "fault:clean-cut", "fault:stall:2", "fault:reset:2"]
HARMLESS = [
    "fault:comments", "fault:crlf", "fault:coalesced", "fault:segmented", "fault:extensions", "fault:upper-case",
    "fault:interim", "fault:gzip", "fault:odd-headers", "fault:close-framing", "fault:no-done",
    "fault:slow", "fault:stale", "fault:extra", "fault:reasoning", "fault:tool-calls",
]  # fmt: skip
STREAM_ONLY = ["fault:garbage", "fault:huge", "fault:no-last-chunk"]
FAULT_TARGETS = sorted({
    *BEFORE, *JSON_BROKEN, *STREAM_CUT, *HARMLESS, *STREAM_ONLY, "fault:content-filter", "fault:flaky:1", "fault:endless",
    "fault:stall", "fault:401", "fault:retry-after-date", "fault:retry-after-ms",
})  # fmt: skip
pytestmark = pytest.mark.asyncio(loop_scope="module")


def error_of(answer):
    body = answer.json()["error"]
    assert set(body) >= {"message", "type", "param", "code"}
    return body


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("fault", "expected"), BEFORE.items(), ids=BEFORE)
async def test_a_fault_before_the_first_byte_keeps_its_status(client, fault, expected, stream):
    if fault == "fault:half-open" and not stream:
        pytest.skip("an answer that is not streamed has the total deadline only: the next test")
    answer = await client.post("/v1/chat/completions", json=chat(f"alone {fault}", stream=stream))
    status, code = expected
    assert answer.status_code == status
    if status == 429:
        assert int(answer.headers["retry-after"]) >= 1
    error = error_of(answer)
    if code:
        assert error["code"] == code
    assert answer.headers["x-request-id"]


async def test_a_silent_upstream_meets_the_total_deadline(client):
    started = time.monotonic()
    answer = await client.post("/v1/chat/completions", json=chat("alone fault:half-open"))
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    assert 2.5 < time.monotonic() - started < 5


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", [f for f in BEFORE if f != "fault:half-open"])
async def test_a_fault_before_the_first_byte_goes_to_the_fallback(client, fault, stream):
    answer = await client.post("/v1/chat/completions", json=chat(f"backed {fault}", stream=stream))
    assert answer.status_code == 200
    assert answer.headers["x-farthing-target"].startswith("b-")
    assert answer.headers["x-farthing-attempts"] in ("1", "2")


async def test_a_stalled_first_token_fails_over_in_time(client):
    started = time.monotonic()
    answer = await client.post("/v1/chat/completions", json=chat("backed fault:stall", stream=True))
    assert answer.status_code == 200
    assert events(answer.text)[-1] == "[DONE]"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("form", ["retry-after-date", "retry-after-ms"])
async def test_every_form_of_retry_after_is_relayed(client, form):
    answer = await client.post("/v1/chat/completions", json=chat(f"alone fault:{form}"))
    assert answer.status_code == 429
    assert "retry-after" in answer.headers or "retry-after-ms" in answer.headers


async def test_a_content_filter_is_never_routed_around(client, upstream):
    answer = await client.post("/v1/chat/completions", json=chat("backed fault:content-filter"))
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "content_filter"
    assert upstream.count() == 1


async def test_a_refused_credential_of_ours_does_not_look_like_the_clients(client):
    answer = await client.post("/v1/chat/completions", json=chat("alone fault:401"))
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_auth_failed")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", JSON_BROKEN)
async def test_a_damaged_json_answer_is_an_error(client, fault):
    answer = await client.post("/v1/chat/completions", json=chat(f"alone {fault}"))
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_broken")


@pytest.mark.parametrize("fault", STREAM_CUT)
async def test_a_cut_stream_ends_with_an_error_frame_and_no_finish_reason(client, fault):
    started = time.monotonic()
    answer = await client.post("/v1/chat/completions", json=chat(f"alone {fault}", stream=True))
    assert answer.status_code == 200
    *chunks, error, done = events(answer.text)
    assert done == "[DONE]"
    assert set(error["error"]) >= {"message", "type"}
    assert chunks
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("fault", "stream"), [*[(f, s) for f in HARMLESS for s in (False, True)], *[(f, True) for f in STREAM_ONLY]]
)
async def test_an_odd_but_sound_answer_gets_through(client, fault, stream):
    answer = await client.post("/v1/chat/completions", json=chat(f"alone {fault}", stream=stream))
    assert answer.status_code == 200, answer.text
    if stream:
        *chunks, done = events(answer.text)
        assert done == "[DONE]"
        assert "error" not in chunks[-1], chunks[-1]
        assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "tool_calls")
    else:
        assert answer.json()["choices"][0]["finish_reason"] in ("stop", "tool_calls")


async def test_an_endless_stream_is_stopped_when_the_client_leaves(client, upstream):
    async with client.stream("POST", "/v1/chat/completions", json=chat("alone fault:endless", stream=True)) as answer:
        async for _ in answer.aiter_bytes():
            break
    request = await upstream.received(1)
    left = time.monotonic()
    await asyncio.wait_for(request.aborted.wait(), 2)
    assert request.aborted_at - left < 0.1


async def test_a_json_answer_is_cancelled_when_the_client_leaves(client, upstream, gateway):
    task = asyncio.create_task(client.post("/v1/chat/completions", json=chat("alone fault:half-open")))
    # the target of half-open is broken by now or not: either way a call that was begun must end with its caller
    try:
        request = await upstream.received(1, timeout_s=1)
    except TimeoutError:
        task.cancel()
        pytest.skip("the breaker of this target is open")
    task.cancel()
    left = time.monotonic()
    await asyncio.wait_for(request.aborted.wait(), 2)
    assert request.aborted_at - left < 0.1


async def test_a_flaky_target_is_retried_on_the_same_target_when_the_policy_says_so(client, upstream):
    answer = await client.post("/v1/chat/completions", json=chat("backed fault:flaky:1"))
    assert answer.status_code == 200


async def test_the_process_lived_through_all_of_it(client, gateway):
    assert (await client.get("/health/ready")).status_code == 200
    assert "failed inside the gateway" not in gateway.log


async def test_every_record_of_a_cut_stream_is_counted_as_truncated(gateway):
    assert gateway.metric("farthing_requests_total", outcome="truncated") >= len(STREAM_CUT)
    assert gateway.metric("farthing_requests_total", outcome="client_disconnect") >= 1
