"""The OpenAI behaviours that clients rely on, each seen from outside; docs/api-fidelity.md lists them with these tests."""

import json

import pytest

from tests.integration.conftest import chat, events
from tests.support.faults import Close, Pause, dressed, error_frame, retry_after, status

pytestmark = pytest.mark.asyncio(loop_scope="module")

RAW = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":1.0,"x_unknown":{"b":1.50,"a":[1e2]}}'


async def post(client, path="/v1/chat/completions", **kwargs):
    return await client.post(path, **kwargs)


# -- requests --------------------------------------------------------------------------------------------------------


async def test_a_request_body_reaches_the_upstream_byte_for_byte(client, upstream):
    await post(client, content=RAW, headers={"content-type": "application/json"})
    assert upstream.requests[0].body == RAW


async def test_the_callers_key_stays_here_and_ours_goes_on(client, upstream):
    await post(client, json=chat("m"), headers={"authorization": "Bearer sk-the-callers-own", "cookie": "a=b"})
    sent = upstream.requests[0]
    assert sent.header("authorization") == "Bearer sk-upstream-secret-0123456789"
    assert b"callers-own" not in b"".join(name + value for name, value in _pairs(sent.headers))
    assert sent.header("cookie") is None


def _pairs(headers):
    return [(n if isinstance(n, bytes) else n.encode(), v if isinstance(v, bytes) else v.encode()) for n, v in headers]


@pytest.mark.parametrize("name", ["openai-beta", "idempotency-key", "traceparent"])
async def test_headers_that_mean_something_upstream_go_on(client, upstream, name):
    await post(client, json=chat("m"), headers={name: "value-1"})
    assert upstream.requests[0].header(name) == "value-1"


async def test_an_upstream_url_in_the_body_is_only_a_field(client, upstream):
    answer = await post(client, json=chat("m", api_base="http://127.0.0.1:9/", base_url="http://127.0.0.1:9/"))
    assert answer.status_code == 200
    assert upstream.count() == 1


async def test_an_alias_is_replaced_upstream_and_echoed_back(client, upstream):
    answer = await post(client, json=chat("alias"))
    assert upstream.requests[0].json["model"] == "gpt-real"
    assert answer.json()["model"] == "alias"
    assert answer.headers["x-farthing-model"] == "gpt-real"


async def test_an_alias_is_echoed_in_every_chunk(client):
    answer = await post(client, json=chat("alias", stream=True))
    assert {chunk["model"] for chunk in events(answer.text)[:-1]} == {"alias"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_the_prefix_v1_is_optional(client, path):
    assert (await post(client, path, json=chat("m"))).status_code == 200


# -- answers ---------------------------------------------------------------------------------------------------------


async def test_unknown_answer_fields_are_kept_byte_for_byte(client, upstream):
    body = (
        b'{"id":"x", "object":"chat.completion","model":"m","choices":[],"kv_transfer_params":{"a":1.50},"usage":null}'
    )
    upstream.script("*", [status(200, [("content-type", "application/json")], body)])
    answer = await post(client, json=chat("m"))
    assert answer.content == body


async def test_a_stream_is_relayed_byte_for_byte_but_for_the_cost_comment(client, upstream):
    body = (
        b'data: {"id": "c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"x":1.50}\n\n'
        b": keep-alive\n\n"
        b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}] }\n\n'
        b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"y":[ ]}}\n\n'
        b"data: [DONE]\n\n"
    )
    upstream.script("*", [status(200, [("content-type", "text/event-stream")], body)])
    answer = await post(client, json=chat("m", stream=True, stream_options={"include_usage": True}))
    blocks = answer.content.split(b"\n\n")
    comments = [block for block in blocks if block.startswith(b": x-farthing-cost-usd=")]
    assert len(comments) == 1
    assert answer.content.replace(comments[0] + b"\n\n", b"") == body


async def test_the_headers_tell_what_was_decided_and_what_it_cost(client):
    answer = await post(client, json=chat("m"))
    headers = answer.headers
    for name in ("request-id", "model", "target", "route", "cost-usd", "cache", "attempts", "policy"):
        assert headers[f"x-farthing-{name}"], name
    assert headers["x-request-id"] == headers["x-farthing-request-id"]
    usage = answer.json()["usage"]
    assert (
        headers["x-farthing-cost-usd"] == f"{(usage['prompt_tokens'] * 1 + usage['completion_tokens'] * 2) / 1e6:.6f}"
    )


async def test_request_ids_are_ours_and_the_upstreams_is_kept_apart(client, upstream):
    upstream.script(
        "*",
        [
            dressed(
                headers=[
                    ("x-request-id", "req_upstream"),
                    ("openai-processing-ms", "12"),
                    ("x-ratelimit-remaining-tokens", "99"),
                ]
            )
        ],
    )
    answer = await post(client, json=chat("m"))
    assert answer.headers.get_list("x-request-id") == [answer.headers["x-farthing-request-id"]]
    assert answer.headers["x-farthing-upstream-request-id"] == "req_upstream"
    assert answer.headers["openai-processing-ms"] == "12"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "99"


async def test_cookies_and_the_hops_own_headers_do_not_come_back(client, upstream):
    upstream.script(
        "*", [dressed(headers=[("set-cookie", "a=b"), ("server", "upstream"), ("keep-alive", "timeout=5")])]
    )
    answer = await post(client, json=chat("m"))
    assert not {"set-cookie", "server", "keep-alive"} & set(answer.headers)


# -- usage on streams --------------------------------------------------------------------------------------------------


async def test_usage_is_asked_for_upstream_and_not_shown_unasked(client, upstream):
    answer = await post(client, json=chat("m", stream=True))
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    chunks = events(answer.text)[:-1]
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
    assert ": x-farthing-cost-usd=0.0000" in answer.text


async def test_usage_is_shown_when_asked_for(client):
    answer = await post(client, json=chat("m", stream=True, stream_options={"include_usage": True}))
    *chunks, last, done = events(answer.text)
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_several_choices_keep_their_indexes(client):
    answer = await post(client, json=chat("m", stream=True, n=2))
    assert {choice["index"] for chunk in events(answer.text)[:-1] for choice in chunk["choices"]} == {0, 1}
    answer = await post(client, json=chat("m", n=2))
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]


async def test_logprobs_are_kept(client):
    answer = await post(client, json=chat("m", logprobs=True, top_logprobs=2))
    assert answer.json()["choices"][0]["logprobs"]["content"]


async def test_the_stream_says_it_must_not_be_buffered(client):
    answer = await post(client, json=chat("m", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_an_upstreams_error_object_is_relayed_verbatim(client, upstream):
    body = b'{"error":{"message":"Bad temperature","type":"invalid_request_error","param":"temperature","code":null, "extra":1.50}}'
    upstream.script("*", [status(400, [("content-type", "application/json")], body)])
    answer = await post(client, json=chat("m"))
    assert (answer.status_code, answer.content) == (400, body)


async def test_rate_limits_keep_their_type_and_their_retry_headers(client, upstream):
    upstream.script("*", [retry_after(7, "seconds")])
    answer = await post(client, json=chat("third"))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"


async def test_an_error_event_in_place_of_the_first_chunk_keeps_an_error_status(client, upstream):
    upstream.script("*", [error_frame(0)])
    answer = await post(client, json=chat("second", stream=True))
    assert answer.status_code >= 400
    assert answer.json()["error"]["message"]


async def test_an_unknown_url_is_404(client):
    answer = await client.get("/v1x/nonesuch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


async def test_models_are_listed(client):
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert "alias" in [row["id"] for row in listed["data"]]


# -- other paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "kwargs"),
    [
        ("POST", "/v1/completions", {"json": {"model": "m", "prompt": "hi"}}),
        ("POST", "/v1/embeddings", {"json": {"model": "m", "input": "hi"}}),
        ("POST", "/v1/responses", {"json": {"model": "m", "input": "hi"}}),
        ("POST", "/v1/moderations", {"json": {"model": "m", "input": "hi"}}),
        ("POST", "/v1/rerank", {"json": {"model": "m", "query": "q", "documents": ["a"]}}),
        ("GET", "/v1/files", {}),
        ("GET", "/v1/files/file-1/content", {}),
        ("DELETE", "/v1/files/file-1", {}),
        ("POST", "/v1/batches", {"json": {"input_file_id": "file-1"}}),
        ("POST", "/v1/images/generations", {"json": {"model": "m", "prompt": "a cat"}}),
        ("POST", "/v1/audio/transcriptions", {"files": {"file": b"RIFF"}, "data": {"model": "m"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_openai_path_is_forwarded_and_metered(client, upstream, gateway, method, path, kwargs):
    before = gateway.metric("farthing_requests_total")
    answer = await client.request(method, path, **kwargs)
    assert answer.status_code == 200, answer.text
    sent = upstream.requests[0]
    assert (sent.method, sent.path) == (method, path)
    assert answer.headers["x-farthing-target"] == "up"
    assert gateway.metric("farthing_requests_total") == before + 1


async def test_a_query_is_forwarded(client, upstream):
    await client.get("/v1/files?limit=2&after=x%20y")
    assert upstream.requests[0].query.rstrip() in ("limit=2&after=x%20y", b"limit=2&after=x%20y")


async def test_a_form_is_forwarded_byte_for_byte(client, upstream):
    body = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff\r\n--b--\r\n'
    kind = "multipart/form-data; boundary=b"
    await client.post("/v1/audio/transcriptions", content=body, headers={"content-type": kind})
    assert upstream.requests[0].body == body
    assert upstream.requests[0].header("content-type") == kind


async def test_binary_answers_come_back_whole(client, upstream):
    sound = bytes(range(256)) * 4096
    upstream.script("*", [status(200, [("content-type", "audio/mpeg")], sound)])
    answer = await post(client, "/v1/audio/speech", json={"model": "m", "input": "hi", "voice": "alloy"})
    assert answer.content == sound
    assert answer.headers["content-type"] == "audio/mpeg"


SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
ERROR = {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}


def fails_late(request):
    """An error event after a chunk that is long gone to the client."""
    yield SSE + CHUNK
    yield Pause(0.1)
    yield b"data: " + json.dumps(ERROR).encode() + b"\n\n"
    yield Close()


async def test_an_error_event_in_a_stream_is_relayed_and_ends_it(client, upstream):
    upstream.script("*", [fails_late])
    answer = await post(client, json=chat("m", stream=True))
    chunk, error, done = events(answer.text)
    assert error == ERROR
    assert done == "[DONE]"
    assert chunk["choices"][0]["finish_reason"] is None
