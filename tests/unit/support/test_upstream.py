"""The fake upstream does what it promises, seen by an ordinary client and by a bare socket."""

import asyncio
import email.utils
import gzip
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.support.answers import Shape
from tests.support.faults import (
    FAULTS,
    Close,
    Pause,
    clean_cut,
    content_filter,
    cut,
    dressed,
    endless,
    error_frame,
    flaky,
    garbage,
    gzipped,
    hang_up,
    html,
    huge,
    interim,
    no_last_chunk,
    odd_headers,
    ok,
    redirect,
    replay,
    reset,
    retry_after,
    segmented,
    short_length,
    stale,
    stall,
    status,
    upper_case,
)
from tests.support.upstream import Upstream, refused_url, silent_url, unreachable_url

CHAT = "/v1/chat/completions"


@pytest.fixture
async def up():
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(up):
    async with httpx.AsyncClient(base_url=up.url, timeout=5) as found:
        yield found


def ask(model: str = "m", **fields) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


def stream(model: str = "m", **fields) -> dict:
    return ask(model, stream=True, **fields)


def events(text: str) -> list:
    """The data of server-sent events, JSON decoded but for `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def content(found: list, index: int = 0) -> str:
    choices = [choice for event in found if event != "[DONE]" for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)


async def raw(up: Upstream, doc: dict, path: str = CHAT) -> tuple[bytes, type[BaseException] | None]:
    """All bytes of the answer to one request on a connection of its own, and the error that ended them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(up.url.rpartition(":")[2]))
    body = json.dumps(doc).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    data, error = b"", None
    try:
        async with asyncio.timeout(0.3):
            while chunk := await reader.read(65536):
                data += chunk
    except (ConnectionResetError, TimeoutError) as exc:
        error = type(exc)
    writer.close()
    return data, error


class TestGoodAnswers:
    async def test_chat_answers_and_the_request_is_recorded(self, up, client):
        answer = await client.post(CHAT + "?a=1", json=ask(metadata={"nonce": "n-7"}), headers={"X-Case": "Kept"})
        assert answer.json()["choices"][0]["message"]["content"].endswith("[nonce:n-7]")
        assert answer.json()["usage"]["completion_tokens"] == 4
        (request,) = up.requests
        assert (request.method, request.path, request.query) == ("POST", CHAT, "a=1")
        assert ("X-Case", "Kept") in request.headers
        assert request.json["metadata"] == {"nonce": "n-7"}
        assert request.completed
        assert not request.aborted.is_set()
        assert up.count(CHAT) == up.count() == 1
        assert up.count("/other") == 0

    async def test_a_stream_has_the_same_text_and_ends_with_done(self, client):
        found = events((await client.post(CHAT, json=stream(metadata={"nonce": "n"}))).text)
        assert found[-1] == "[DONE]"
        assert content(found) == "word0 word1 word2 word3 [nonce:n]"
        assert found[0]["choices"][0]["delta"]["role"] == "assistant"
        assert found[-2]["choices"][0]["finish_reason"] == "stop"
        assert not any("usage" in event for event in found[:-1])

    async def test_usage_is_reported_only_when_asked_for(self, up, client):
        up.default = ok(Shape(chunks=3, prompt_tokens=20, cached_tokens=8))
        found = events((await client.post(CHAT, json=stream(stream_options={"include_usage": True}))).text)
        *chunks, last, done = found
        assert done == "[DONE]"
        assert all(chunk["usage"] is None for chunk in chunks)
        assert last["choices"] == []
        assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (20, 3)

    async def test_two_choices_and_logprobs(self, client):
        found = events((await client.post(CHAT, json=stream(n=2, logprobs=True))).text)
        assert content(found, 0) == content(found, 1) == "word0 word1 word2 word3 "
        scored = [event["choices"][0] for event in found[:-1] if event["choices"][0]["delta"].get("content")]
        assert all(entry["logprobs"]["content"][0]["token"] == entry["delta"]["content"] for entry in scored)

    async def test_a_tool_call_comes_in_deltas(self, client):
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        doc = stream(tools=tools, tool_choice="required", metadata={"nonce": "n"})
        found = events((await client.post(CHAT, json=doc)).text)
        calls = [call for event in found[:-1] for call in event["choices"][0]["delta"].get("tool_calls", [])]
        assert calls[0]["function"]["name"] == "f"
        assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"nonce": "n"}
        assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"

    async def test_reasoning_and_unknown_fields(self, up, client):
        up.default = ok(Shape(reasoning=True, extra=True))
        found = events((await client.post(CHAT, json=stream())).text)
        assert found[1]["choices"][0]["delta"] == {"reasoning_content": "think 0 "}
        assert "x_unknown" in found[1]
        whole = (await client.post(CHAT, json=ask())).json()
        assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2

    async def test_crlf_and_comments(self, up, client):
        up.default = ok(Shape(newline="\r\n", comments=True))
        text = (await client.post(CHAT, json=stream())).text
        assert text.startswith(": keep-alive 0\r\n\r\ndata: ")
        assert events(text)[-1] == "[DONE]"

    async def test_anthropic_messages(self, client):
        doc = ask(max_tokens=9, metadata={"nonce": "n"})
        whole = (await client.post("/v1/messages", json=doc)).json()
        assert whole["content"][0]["text"].endswith("[nonce:n]")
        assert whole["usage"]["output_tokens"] == 4
        found = events((await client.post("/v1/messages", json={**doc, "stream": True})).text)
        assert [event["type"] for event in found[:3]] == ["message_start", "content_block_start", "ping"]
        assert [event["type"] for event in found[-2:]] == ["message_delta", "message_stop"]
        texts = [event["delta"]["text"] for event in found if event["type"] == "content_block_delta"]
        assert "".join(texts) == whole["content"][0]["text"]

    async def test_responses(self, client):
        doc = {"model": "m", "input": "hi"}
        whole = (await client.post("/v1/responses", json=doc)).json()
        found = events((await client.post("/v1/responses", json={**doc, "stream": True})).text)
        assert found[-1]["response"] == whole
        assert [event["sequence_number"] for event in found] == list(range(len(found)))

    async def test_completions_embeddings_models_and_health(self, client):
        assert (await client.post("/v1/completions", json={"prompt": "x"})).json()["object"] == "text_completion"
        found = events((await client.post("/v1/completions", json={"prompt": "x", "stream": True})).text)
        assert found[-1] == "[DONE]"
        data = (await client.post("/v1/embeddings", json={"input": ["a", "b"]})).json()["data"]
        assert [item["index"] for item in data] == [0, 1]
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "m1"
        assert (await client.get("/health")).status_code == 200

    async def test_any_other_path_echoes_the_request(self, client):
        echo = (await client.put("/odd?q=1", content=b"body")).json()
        assert (echo["method"], echo["path"], echo["query"], echo["body"]) == ("PUT", "/odd", "q=1", "body")

    async def test_a_chunked_request_body_is_read(self, up, client):
        async def parts():
            yield b'{"model":'
            yield b'"m","messages":[]}'

        assert (await client.post(CHAT, content=parts())).status_code == 200
        assert up.requests[0].model == "m"

    async def test_a_connection_is_kept_alive(self, up, client):
        for _ in range(3):
            await client.post(CHAT, json=stream())
        assert up.connections == 1


class TestScripts:
    async def test_answer_in_order_then_the_default_again(self, up, client):
        up.script(CHAT, [status(503), status(500)])
        assert [(await client.post(CHAT, json=ask())).status_code for _ in range(3)] == [503, 500, 200]

    async def test_a_script_for_any_path_comes_second(self, up, client):
        up.script("*", [status(500)])
        up.script(CHAT, [status(503)])
        assert [(await client.post(CHAT, json=ask())).status_code for _ in range(3)] == [503, 500, 200]

    async def test_the_model_picks_a_fault(self, client):
        assert (await client.post(CHAT, json=ask("fault:429:7"))).headers["retry-after"] == "7"
        assert (await client.post(CHAT, json=ask("fault:529"))).status_code == 529
        assert (await client.post(CHAT, json=ask("fault:no-such"))).json()["error"]["message"] == "unknown fault"

    @pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"half-open", "stall", "endless", "slow", "huge"}))
    async def test_each_named_fault_ends_for_streams_and_for_bodies(self, up, name):
        for doc in (stream(f"fault:{name}"), ask(f"fault:{name}")):
            await raw(up, {**doc})
            await asyncio.wait_for(up.requests[-1].over.wait(), 1)
            assert up.requests[-1].completed

    async def test_flaky_fails_so_many_times_per_model(self, up, client):
        up.default = flaky(2)
        codes = [(await client.post(CHAT, json=ask(model))).status_code for model in ("a", "a", "b", "a", "b", "b")]
        assert codes == [503, 503, 503, 200, 503, 200]

    async def test_a_request_can_be_awaited(self, up, client):
        call = asyncio.create_task(client.post(CHAT, json=ask()))
        assert (await up.received()).path == CHAT
        await call
        with pytest.raises(TimeoutError):
            await up.received(2, timeout_s=0.01)


class TestErrorAnswers:
    async def test_retry_after_in_three_forms(self, up, client):
        up.script(CHAT, [retry_after(3), retry_after(3, "date"), retry_after(0.25, "ms", 503)])
        seconds, date, ms = [await client.post(CHAT, json=ask()) for _ in range(3)]
        assert seconds.headers["retry-after"] == "3"
        at = email.utils.parsedate_to_datetime(date.headers["retry-after"]).timestamp()
        assert 1 < at - time.time() <= 3.1
        assert ms.headers["retry-after-ms"] == "250"
        assert ms.status_code == 503

    async def test_errors_have_the_shape_of_their_api(self, client):
        openai = (await client.post(CHAT, json=ask("fault:500"))).json()
        assert set(openai["error"]) == {"message", "type", "param", "code"}
        anthropic = (await client.post("/v1/messages", json=ask("fault:529"))).json()
        assert anthropic["error"]["type"] == "overloaded_error"

    async def test_content_filter_html_and_redirect(self, up, client):
        up.script(CHAT, [content_filter, html(), redirect("http://127.0.0.1:9/")])
        filtered, page, moved = [await client.post(CHAT, json=ask()) for _ in range(3)]
        assert filtered.json()["error"]["code"] == "content_filter"
        assert page.headers["content-type"] == "text/html"
        assert page.status_code == 502
        assert (moved.status_code, moved.headers["location"]) == (307, "http://127.0.0.1:9/")


class TestConnections:
    @pytest.mark.parametrize("doc", [stream(), ask()])
    async def test_reset_before_any_byte_after_the_head_and_in_the_body(self, up, doc):
        up.script(CHAT, [reset(), reset(0), reset(2)])
        nothing, head, body = [await raw(up, doc) for _ in range(3)]
        assert nothing == (b"", ConnectionResetError)
        assert head[0].endswith(b"\r\n\r\n")
        assert head[1] is body[1] is ConnectionResetError
        assert len(body[0]) > len(head[0])
        assert b"[DONE]" not in body[0]

    @pytest.mark.parametrize("doc", [stream(), ask()])
    async def test_cut_ends_with_fin_before_the_body_is_complete(self, up, doc):
        up.script(CHAT, [cut(2)])
        data, error = await raw(up, doc)
        assert error is None
        assert b"200 OK" in data
        up.script(CHAT, [cut(2)])
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(up.url + CHAT, json=doc)

    async def test_short_bodies_and_a_missing_last_chunk_are_protocol_errors(self, up, client):
        for behaviour in (short_length, no_last_chunk):
            up.script(CHAT, [behaviour])
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(CHAT, json=stream())
        up.script(CHAT, [no_last_chunk])
        assert b"[DONE]" in (await raw(up, stream()))[0]

    async def test_a_clean_cut_is_valid_http_without_an_end(self, up, client):
        up.script(CHAT, [clean_cut(2)])
        found = events((await client.post(CHAT, json=stream())).text)
        assert content(found) == "word0 "
        assert found[-1] != "[DONE]"

    async def test_hang_up_closes_without_a_byte(self, up):
        up.script(CHAT, [hang_up])
        assert await raw(up, ask()) == (b"", None)

    async def test_stall_sends_so_many_events_and_then_nothing(self, up):
        up.script(CHAT, [stall(), stall(0), stall(2)])
        nothing, head, body = [await raw(up, stream()) for _ in range(3)]
        assert nothing == (b"", TimeoutError)
        assert head[0].endswith(b"\r\n\r\n")
        assert body[0].count(b"data: ") == 2
        assert body[1] is TimeoutError

    async def test_a_client_that_leaves_is_noticed_at_once(self, up):
        up.default = stall(1)
        async with httpx.AsyncClient() as client, client.stream("POST", up.url + CHAT, json=stream()) as answer:
            assert answer.status_code == 200
            assert not up.requests[0].aborted.is_set()
        left = time.monotonic()
        await asyncio.wait_for(up.requests[0].aborted.wait(), 1)
        assert up.requests[0].aborted_at - left < 0.5
        assert not up.requests[0].completed
        assert up.in_flight == 0

    async def test_a_client_that_leaves_before_the_head_is_noticed(self, up):
        up.default = stall()
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(up.url + CHAT, json=ask(), timeout=0.05)
        await asyncio.wait_for(up.requests[0].aborted.wait(), 1)

    async def test_an_endless_stream_runs_until_the_client_leaves(self, up):
        up.default = endless()
        async with httpx.AsyncClient() as client, client.stream("POST", up.url + CHAT, json=stream()) as answer:
            size = 0
            async for chunk in answer.aiter_bytes():
                size += len(chunk)
                if size > 200_000:
                    break
        await asyncio.wait_for(up.requests[0].aborted.wait(), 1)

    async def test_a_stale_connection_dies_at_its_reuse(self, up, client):
        up.script(CHAT, [stale])
        assert (await client.post(CHAT, json=ask())).status_code == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.post(CHAT, json=ask())
        assert (up.reused_stale, up.count()) == (1, 1)
        assert (await client.post(CHAT, json=ask())).status_code == 200

    async def test_idle_connections_can_be_dropped(self, up, client):
        await client.post(CHAT, json=ask())
        await up.drop_idle()
        await client.post(CHAT, json=ask())
        assert up.connections == 2

    async def test_refused_silent_and_unreachable(self):
        async with httpx.AsyncClient(timeout=0.1) as client:
            with refused_url() as url, pytest.raises(httpx.ConnectError):
                await client.get(url)
            with silent_url() as url, pytest.raises(httpx.ReadTimeout):
                await client.get(url)
            with unreachable_url() as url, pytest.raises(httpx.ConnectTimeout):
                await client.get(url)


class TestBytes:
    async def test_segments_of_any_size_carry_the_same_answer(self, up, client):
        expected = (await client.post(CHAT, json=stream())).text
        for size in (1, 7, 1000):
            up.script(CHAT, [segmented(size)])
            assert (await client.post(CHAT, json=stream())).text == expected

    async def test_slow_bytes_take_their_time(self, up, client):
        up.script("/health", [segmented(50, 0.01)])
        started = time.monotonic()
        await client.get("/health")
        assert time.monotonic() - started > 0.02

    async def test_garbage_stands_between_good_events(self, up, client):
        up.script(CHAT, [garbage(2)])
        lines = [line for line in (await client.post(CHAT, json=stream())).text.split("\n\n") if line]
        assert lines[2] == "data: {this is not json"
        assert lines[-1] == "data: [DONE]"

    async def test_binary_garbage_is_not_utf8(self, client):
        body = (await client.post(CHAT, json=stream("fault:binary"))).content
        with pytest.raises(UnicodeDecodeError):
            body.decode()

    async def test_a_huge_event_is_one_chunk(self, up):
        up.default = huge(3 << 20)
        data, _ = await raw(up, stream())
        sizes = [int(line, 16) for line in data.split(b"\r\n") if 0 < len(line) < 8 and line.isalnum()]
        assert max(sizes) > 3 << 20
        assert b"[DONE]" in data

    async def test_an_error_frame_ends_the_stream(self, up, client):
        up.script(CHAT, [error_frame(2)])
        found = events((await client.post(CHAT, json=stream())).text)
        assert set(found[2]["error"]) == {"message", "type", "param", "code"}
        assert len(found) == 3

    async def test_done_can_be_missing(self, client):
        found = events((await client.post(CHAT, json=stream("fault:no-done"))).text)
        assert found[-1]["choices"][0]["finish_reason"] == "stop"

    async def test_gzip_is_sent_even_if_identity_was_asked_for(self, up, client):
        up.script(CHAT, [gzipped, gzipped])
        plain = (await client.post(CHAT, json=stream())).text
        assert events(plain)[-1] == "[DONE]"
        async with client.stream("POST", CHAT, json=stream(), headers={"accept-encoding": "identity"}) as answer:
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert gzip.decompress(body).decode() == plain

    async def test_interim_responses_come_first(self, up, client):
        up.script(CHAT, [interim()])
        data, _ = await raw(up, ask())
        assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n")
        up.script(CHAT, [interim()])
        assert (await client.post(CHAT, json=ask())).status_code == 200

    async def test_expect_is_answered_with_continue(self, up, client):
        answer = await client.post(CHAT, json=ask(), headers={"expect": "100-continue"})
        assert answer.status_code == 200

    async def test_odd_and_upper_case_headers(self, up, client):
        up.script(CHAT, [odd_headers, upper_case])
        odd = await client.post(CHAT, json=ask())
        assert odd.headers.get_list("x-repeated") == ["one", "two"]
        assert odd.headers["x-empty"] == ""
        upper = await client.post(CHAT, json=ask())
        assert all(name.isupper() or b"-" in name for name, _ in upper.headers.raw)
        assert (b"X-REQUEST-ID", b"req_up_1") in upper.headers.raw

    async def test_extensions_and_trailers(self, up, client):
        up.script(CHAT, [dressed(framing="chunked", extensions=True, trailers=(("x-late", "yes"),))] * 2)
        data, _ = await raw(up, stream())
        assert b";name=" in data
        assert data.endswith(b"0\r\nx-late: yes\r\n\r\n")
        assert events((await client.post(CHAT, json=stream())).text)[-1] == "[DONE]"

    async def test_a_body_may_end_with_its_connection(self, up, client):
        up.script(CHAT, [dressed(framing="close")])
        answer = await client.post(CHAT, json=stream())
        assert "content-length" not in answer.headers
        assert events(answer.text)[-1] == "[DONE]"

    async def test_recorded_bytes_are_replayed(self, up, client, tmp_path: Path):
        fixture = tmp_path / "answer.http"
        fixture.write_bytes(b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nhi")
        up.script(CHAT, [replay(fixture), replay(b"data: 1\n\n")])
        teapot, body = [await client.post(CHAT, json=ask()) for _ in range(2)]
        assert (teapot.status_code, teapot.text) == (418, "hi")
        assert (body.headers["content-type"], body.text) == ("text/event-stream", "data: 1\n\n")


class TestLife:
    async def test_stop_is_quick_with_stalled_streams_and_endless_ones(self):
        async with Upstream(stall(1)) as up, httpx.AsyncClient() as client:
            up.script(CHAT, [endless(), stall()])
            calls = [asyncio.create_task(client.post(up.url + CHAT, json=stream())) for _ in range(6)]
            await up.received(6)
            assert (up.in_flight, up.peak) == (6, 6)
            started = time.monotonic()
            await up.stop()
            assert time.monotonic() - started < 1
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, httpx.TransportError) for error in ended)
            assert all(request.aborted.is_set() for request in up.requests)

    async def test_it_comes_back_on_the_same_port(self):
        async with Upstream() as up, httpx.AsyncClient() as client:
            url = up.url
            await up.stop()
            with pytest.raises(httpx.ConnectError):
                await client.get(url + "/health")
            await up.start()
            assert up.url == url
            assert (await client.get(url + "/health")).status_code == 200

    async def test_a_mistake_in_a_behaviour_is_raised_by_stop(self):
        def mistaken(request):
            yield b"HTTP/1.1 200 OK\r\n"
            raise LookupError("mistake")

        up = Upstream(mistaken)
        await up.start()
        await raw(up, ask())
        with pytest.raises(LookupError, match="mistake"):
            await up.stop()

    async def test_what_is_not_http_is_refused(self, up):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(up.url.rpartition(":")[2]))
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()

    async def test_a_behaviour_is_any_function_that_yields_steps(self, up, client):
        def behave(request):
            yield b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab"
            yield Pause(0.01)
            yield b"cd"
            yield Close()

        up.default = behave
        assert (await client.get("/")).text == "abcd"
