"""The official SDKs read an answer from the cache, whole or streamed, to the very content that the upstream gave."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.gateway import start_gateway

openai = pytest.importorskip("openai", reason="needs the client libraries: make test-clients")
anthropic = pytest.importorskip("anthropic", reason="needs the client libraries: make test-clients")

TEXT = "The quick brown fox jumps over the lazy dog. " * 20 + "— naïve café 👩‍🚀"
TOKENS = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"' + "Köln " * 40 + '"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
]  # fmt: skip
BLOCKS = [
    {"type": "thinking", "thinking": "Let me see. " * 20, "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    {"type": "text", "text": TEXT, "citations": [{"type": "char_location", "cited_text": "fox", "document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 3, "file_id": None}]},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln " * 30, "days": 3}},
    {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
]  # fmt: skip
OUTPUT = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Thinking. " * 20}], "status": "completed"},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Köln"}', "status": "completed"},
]  # fmt: skip


def _chat(message, reason):
    choice = {"index": 0, "message": {"role": "assistant", "refusal": None, **message}, "finish_reason": reason}
    return {"id": "chatcmpl-old", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": TOKENS}  # fmt: skip


ANSWERS = {
    "/v1/chat/completions": _chat({"content": TEXT}, "stop"),
    "tools": _chat({"content": None, "tool_calls": CALLS}, "tool_calls"),
    "/v1/completions": {"id": "cmpl-old", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}], "usage": TOKENS},
    "/v1/messages": {"id": "msg_old", "type": "message", "role": "assistant", "model": "claude", "content": BLOCKS, "stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 5}},
    "/v1/responses": {"id": "resp_old", "object": "response", "created_at": 1, "status": "completed", "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "model": "m", "output": OUTPUT, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "store": False, "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 15}},
}  # fmt: skip
ASKED = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class _Upstream(BaseHTTPRequestHandler):
    """Answers each path with its document, never streamed."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        body = json.dumps(ANSWERS["tools" if "chat" in path and asked.get("tools") else path]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def _upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def caching():
    with _upstream() as url:
        targets = {
            "up": {"provider": "openai_compatible", "base_url": url},
            "claude": {"provider": "anthropic", "base_url": url, "auth": "none"},
        }
        routes = [
            {"name": "claude", "match": {"models": ["claude"]}, "target": "claude"},
            {"name": "rest", "match": {}, "target": "up"},
        ]
        policy = {"version": 1, "defaults": {"cache": {"exact": "1h"}}, "targets": targets, "routes": routes}
        with start_gateway(json.dumps(policy)) as live:
            yield live


@pytest.fixture(scope="module")
def client(caching):
    with openai.OpenAI(base_url=f"{caching.url}/v1", api_key="sk-unused", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def claude(caching):
    with anthropic.Anthropic(base_url=caching.url, api_key="sk-unused", max_retries=0) as made:
        yield made


def _replayed(caching, create, **asked):
    """The answer as the cache gives it the second time."""
    before = caching.metric("farthing_cache_answers_kept_total")
    first = create(**asked)
    assert first.headers["x-farthing-cache"] == "miss"
    deadline = time.monotonic() + 5
    while caching.metric("farthing_cache_answers_kept_total") == before:
        assert time.monotonic() < deadline, caching.log
        time.sleep(0.01)  # until the answer is kept
    again = create(**asked)
    assert again.headers["x-farthing-cache"] == "exact"
    assert again.parse().id != first.parse().id
    return again.parse()


def _from_cache(response):
    assert response.headers["x-farthing-cache"] == "exact"
    assert response.headers["content-type"].startswith("text/event-stream")


def test_chat_text(caching, client):
    asked = {"model": "m", "messages": ASKED}
    whole = _replayed(caching, client.chat.completions.with_raw_response.create, **asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        streamed = stream.get_final_completion()
        _from_cache(stream._response)
    assert whole.choices[0].message.content == streamed.choices[0].message.content == TEXT
    assert whole.usage.total_tokens == streamed.usage.total_tokens == TOKENS["total_tokens"]
    assert streamed.choices[0].finish_reason == "stop"
    assert len({whole.id, streamed.id, "chatcmpl-old"}) == 3


def test_chat_tool_calls(caching, client):
    asked = {"model": "m", "messages": ASKED, "tools": TOOLS}
    whole = _replayed(caching, client.chat.completions.with_raw_response.create, **asked)
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()
        _from_cache(stream._response)
    for answer in (whole, streamed):
        made = answer.choices[0].message.tool_calls
        assert [(call.id, call.function.name, call.function.arguments) for call in made] == [
            (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in CALLS
        ]


def test_completions(caching, client):
    asked = {"model": "m", "prompt": "Hi"}
    assert _replayed(caching, client.completions.with_raw_response.create, **asked).choices[0].text == TEXT
    with client.completions.create(**asked, stream=True) as stream:
        _from_cache(stream.response)
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == TEXT


def test_responses(caching, client):
    asked = {"model": "m", "input": "Hi", "store": False}
    whole = _replayed(caching, client.responses.with_raw_response.create, **asked)
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
        _from_cache(stream._response)
    assert whole.output_text == streamed.output_text == TEXT
    assert whole.output[2].arguments == streamed.output[2].arguments == OUTPUT[2]["arguments"]
    assert whole.usage.total_tokens == streamed.usage.total_tokens == 15
    assert kinds[-1] == "response.completed"


def test_messages(caching, claude):
    asked = {"model": "claude", "max_tokens": 100, "messages": ASKED}
    whole = _replayed(caching, claude.messages.with_raw_response.create, **asked)
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
        _from_cache(stream.response)
    for answer in (whole, streamed):
        assert answer.stop_reason == "tool_use"
        assert answer.usage.output_tokens == 5
        assert [block.type for block in answer.content] == [block["type"] for block in BLOCKS]
        assert answer.content[0].thinking == BLOCKS[0]["thinking"]
        assert answer.content[0].signature == "c2ln"
        assert answer.content[2].text == TEXT
        assert answer.content[2].citations[0].cited_text == "fox"
        assert answer.content[3].input == BLOCKS[3]["input"]
        assert answer.content[4].input == {}
