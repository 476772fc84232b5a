"""An Anthropic target behind OpenAI's APIs and the other way round, over real sockets."""

import json

import httpx
import pytest
import pytest_asyncio

from tests.integration.conftest import chat, events
from tests.support.faults import status
from tests.support.gateway import start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "sk-ant-upstream-0123456789"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream):
    policy = {
        "version": 1,
        "targets": {
            "claude": {
                "provider": "anthropic",
                "base_url": f"{upstream.url}/v1",
                "model": "claude-sonnet-4-5",
                "api_key": "env:ANT_KEY",
            },
            "open": {"provider": "openai_compatible", "base_url": f"{upstream.url}/v1"},
        },
        "routes": [
            {"name": "claude", "match": {"models": ["claude"]}, "target": "claude"},
            {"name": "open", "match": {}, "target": "open"},
        ],
    }
    with start_gateway(json.dumps(policy), {"ANT_KEY": KEY}) as live:
        yield live


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10, trust_env=False) as http:
        yield http


async def test_chat_on_anthropic(client, upstream):
    answer = await client.post("/v1/chat/completions", json=chat("claude", max_tokens=50))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["model"]) == ("chat.completion", "claude")
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["content"]
    sent = upstream.requests[0]
    assert sent.path == "/v1/messages"
    assert sent.json["model"] == "claude-sonnet-4-5"
    assert sent.header("x-api-key") == KEY
    assert sent.header("anthropic-version") == "2023-06-01"
    paid = body["usage"]["prompt_tokens"] * 3 + body["usage"]["completion_tokens"] * 15
    assert answer.headers["x-farthing-cost-usd"] == f"{paid / 1e6:.6f}"


async def test_a_chat_stream_on_anthropic(client):
    body = chat("claude", max_tokens=50, stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = events((await client.post("/v1/chat/completions", json=body)).text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)


async def test_responses_on_anthropic(client):
    answer = await client.post("/v1/responses", json={"model": "claude", "input": "hello"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"][0]["content"][0]["text"]


async def test_messages_on_anthropic_go_through_as_they_are(client, upstream):
    raw = b'{"model":"claude-x", "max_tokens":9,"messages":[{"role":"user","content":"hi"}],"unknown":1.50}'
    headers = {"content-type": "application/json", "anthropic-beta": "a-1"}
    await client.post("/v1/messages", content=raw.replace(b"claude-x", b"claude"), headers=headers)
    sent = upstream.requests[0]
    assert b'"unknown":1.50' in sent.body
    assert sent.header("anthropic-beta") == "a-1"


async def test_a_messages_stream_on_anthropic_is_metered(client, gateway):
    before = gateway.metric("farthing_tokens_total", target="claude")
    body = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    answer = await client.post("/v1/messages", json=body)
    assert "event: message_stop" in answer.text
    assert ": x-farthing-cost-usd=0.0" in answer.text
    assert gateway.metric("farthing_tokens_total", target="claude") > before


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_messages_on_an_openai_compatible_target(client, upstream, stream):
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = await client.post("/v1/messages", json=body)
    assert answer.status_code == 200
    assert upstream.requests[0].path == "/v1/chat/completions"
    if stream:
        kinds = [line[7:] for line in answer.text.split("\n") if line.startswith("event: ")]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    else:
        assert answer.json()["stop_reason"] == "end_turn"
        assert answer.json()["type"] == "message"


async def test_anthropics_errors_reach_openais_client_in_its_shape(client, upstream):
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large"}}'
    upstream.script("*", [status(400, [("content-type", "application/json")], body)])
    answer = await client.post("/v1/chat/completions", json=chat("claude"))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "max_tokens: too large"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_what_anthropic_cannot_say_is_refused_by_name(client, upstream):
    answer = await client.post("/v1/chat/completions", json=chat("claude", logit_bias={"1": 5}))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logit_bias")
    assert upstream.count() == 0


async def test_embeddings_on_anthropic_are_refused(client):
    answer = await client.post("/v1/embeddings", json={"model": "claude", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_endpoint")


async def test_a_cut_stream_of_anthropic_ends_in_an_error_frame(client, upstream):
    wire = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","type":"message","role":"assistant",'
        b'"model":"claude","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}\n\n'
    )
    upstream.script("*", [status(200, [("content-type", "text/event-stream")], wire)])
    answer = await client.post("/v1/chat/completions", json=chat("claude", stream=True))
    found = events(answer.text)
    assert found[-1] == "[DONE]"
    assert "error" in found[-2]
    assert all(c["choices"][0]["finish_reason"] is None for c in found[:-2])
