"""A stream becomes an answer, an answer becomes a stream, and nothing is lost on either way."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import replay
from gateway.cache.replay import assemble
from gateway.core.exchange import Usage
from tests.support.calls import call, chat
from tests.support.wire import events, fixture

CREATED = 1_800_000_000
NEW = "0" * 31 + "7"
USAGE = Usage(uncached_input=10, cache_read=2, output=5, reasoning=1)
TEXT = "The quick brown fox jumps over the lazy dog. " * 20 + "— naïve café 👩‍🚀"
TOKENS = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 2},
}

CHAT = {
    "id": "chatcmpl-old",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": TEXT,
                "refusal": None,
                "annotations": [],
                "reasoning_content": "Hm. " * 30,
            },
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": "END",
        }
    ],
    "usage": TOKENS,
    "service_tier": "default",
    "system_fingerprint": "fp",
    "x_vendor": {"deep": [1, None]},
}
CALLS = [
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"' + "Köln " * 40 + '"}'},
    },
    {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
]
TOOLS = {**CHAT, "choices": [{"index": 0, "message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": CALLS}, "logprobs": None, "finish_reason": "tool_calls"}]}  # fmt: skip
TWO = {**CHAT, "choices": [CHAT["choices"][0], {"index": 1, "message": {"role": "assistant", "content": "Another."}, "logprobs": None, "finish_reason": "stop"}]}  # fmt: skip
EMPTY = {**CHAT, "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": "stop"}]}  # fmt: skip
REFUSAL = {**CHAT, "choices": [{"index": 0, "message": {"role": "assistant", "content": None, "refusal": "I cannot."}, "logprobs": None, "finish_reason": "stop"}]}  # fmt: skip
COMPLETION = {"id": "cmpl-old", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}, {"text": "", "index": 1, "logprobs": None, "finish_reason": "stop"}], "usage": TOKENS}  # fmt: skip
MESSAGE = {
    "id": "msg_old",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "Let me see. " * 20, "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": TEXT, "citations": [{"type": "char_location", "cited_text": "fox", "document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 3, "file_id": None}]},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln " * 30, "days": 3}},
        {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0, "output_tokens": 5, "service_tier": "standard"},
    "x_vendor": 1,
}  # fmt: skip
RESPONSE = {
    "id": "resp_old",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {"trace": "of another caller"},
    "model": "gpt-4o",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Thinking. " * 20}], "content": [{"type": "reasoning_text", "text": "Deep."}], "encrypted_content": "x", "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": TEXT, "annotations": [{"type": "url_citation", "url": "https://example.org", "title": "t", "start_index": 0, "end_index": 3}], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Köln"}', "status": "completed"},
    ],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "store": False,
    "user": None,
    "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 15},
    "x_vendor": [1],
}  # fmt: skip
KEPT = {
    "chat": [CHAT, TOOLS, TWO, EMPTY, REFUSAL],
    "completions": [COMPLETION],
    "messages": [MESSAGE],
    "responses": [RESPONSE],
}
EVERY = [(endpoint, answer) for endpoint, answers in KEPT.items() for answer in answers]


def asking(endpoint, **members):
    return call({"messages": [], **members}, endpoint)


def replayed(endpoint, answer, **members):
    asked = asking(endpoint, stream=True, **members)
    return b"".join(replay.stream(endpoint, msgspec.json.encode(answer), asked, NEW, CREATED))


def renewed(endpoint, answer):
    prefix = {"chat": "chatcmpl-", "completions": "cmpl-", "messages": "msg_", "responses": "resp_"}[endpoint]
    out = {**answer, "id": prefix + NEW}
    if endpoint != "messages":
        out["created_at" if endpoint == "responses" else "created"] = CREATED
    if endpoint == "responses":
        out["metadata"] = {}
    return out


@pytest.mark.parametrize(("endpoint", "answer"), EVERY)
def test_a_replayed_stream_adds_up_to_the_kept_answer_with_a_new_id_and_time(endpoint, answer):
    raw = replayed(endpoint, answer, stream_options={"include_usage": True})
    assert json.loads(assemble(endpoint, raw, None)) == renewed(endpoint, answer)


@pytest.mark.parametrize(("endpoint", "answer"), EVERY)
def test_a_replayed_body_is_the_kept_answer_with_a_new_id_and_time(endpoint, answer):
    body = replay.body(endpoint, msgspec.json.encode(answer), asking(endpoint), NEW, CREATED)
    assert json.loads(body) == renewed(endpoint, answer)


def test_embeddings_are_replayed_as_they_are():
    kept = b'{"object":"list","data":[{"index":0,"embedding":[0.1]}],"model":"e","usage":{"prompt_tokens":1}}'
    assert replay.body("embeddings", kept, call({"input": "x"}, "embeddings"), NEW, CREATED) == kept


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_usage_is_reported_in_a_stream_only_where_it_was_asked_for(endpoint):
    answer = KEPT[endpoint][0]
    *chunks, last, done = events(replayed(endpoint, answer, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"] == TOKENS
    assert all(chunk["usage"] is None for chunk in chunks)
    *chunks, done = events(replayed(endpoint, answer))
    assert done == "[DONE]"
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_a_chat_stream_begins_with_the_role_and_ends_with_the_finish_reason():
    chunks = events(replayed("chat", CHAT))[:-1]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[0]["choices"][0]["delta"]["content"] == ""
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert {(c["id"], c["created"], c["object"]) for c in chunks} == {
        (f"chatcmpl-{NEW}", CREATED, "chat.completion.chunk")
    }
    assert 4 < len(chunks) < 20


def test_each_tool_call_is_opened_once_and_its_arguments_follow_by_index():
    deltas = [c["choices"][0]["delta"] for c in events(replayed("chat", TOOLS))[:-1]]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    opened = [p for p in pieces if "id" in p]
    assert [(p["index"], p["id"], p["type"], p["function"]["name"]) for p in opened] == [
        (0, "call_1", "function", "weather"),
        (1, "call_2", "function", "clock"),
    ]
    assert all(p["function"]["arguments"] == "" for p in opened)
    assert "".join(p["function"]["arguments"] for p in pieces if p["index"] == 0) == CALLS[0]["function"]["arguments"]
    assert all(set(p) == {"index", "function"} for p in pieces if "id" not in p)


def test_the_terminal_event_is_the_last_piece_so_that_a_comment_can_go_before_it():
    assert (
        replay.stream("chat", msgspec.json.encode(CHAT), chat("x", stream=True), NEW, CREATED)[-1]
        == b"data: [DONE]\n\n"
    )
    assert (
        b"message_stop" in replay.stream("messages", msgspec.json.encode(MESSAGE), asking("messages"), NEW, CREATED)[-1]
    )


def test_an_anthropic_stream_follows_the_grammar():
    kinds = [event["type"] for event in events(replayed("messages", MESSAGE))]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    open_block = None
    for event in events(replayed("messages", MESSAGE)):
        if event["type"] == "content_block_start":
            assert open_block is None
            open_block = event["index"]
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_block
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None


def test_a_responses_stream_counts_its_events_and_closes_what_it_opens():
    told = events(replayed("responses", RESPONSE))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = [event["type"] for event in told]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 3
    assert told[0]["response"]["output"] == []
    assert told[0]["response"]["status"] == "in_progress"


def test_a_response_repeats_the_metadata_of_its_own_caller():
    asked = call({"input": "x", "metadata": {"trace": "mine"}, "user": "me"}, "responses")
    body = json.loads(replay.body("responses", msgspec.json.encode(RESPONSE), asked, NEW, CREATED))
    assert body["metadata"] == {"trace": "mine"}
    assert body["user"] == "me"
    assert "safety_identifier" not in body


def test_usage_that_the_caller_did_not_ask_for_comes_from_the_record():
    stripped = replayed("chat", CHAT)
    assert json.loads(assemble("chat", stripped, None))["usage"] is None
    usage = json.loads(assemble("chat", stripped, USAGE))["usage"]
    assert usage["prompt_tokens"] == 12
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == 17
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2


@pytest.mark.parametrize(("endpoint", "answer"), EVERY)
def test_a_cut_stream_is_not_an_answer(endpoint, answer):
    raw = replayed(endpoint, answer)
    ends = [i + 2 for i in range(len(raw)) if raw[i : i + 2] == b"\n\n"]
    for end in [0, *ends[:-1], ends[-1] // 2]:
        assert assemble(endpoint, raw[:end], USAGE) is None


@pytest.mark.parametrize(("endpoint", "answer"), EVERY)
def test_a_stream_with_an_error_in_it_is_not_an_answer(endpoint, answer):
    error = b'event: error\ndata: {"type":"error","error":{"message":"overloaded"}}\n\n'
    first, *rest = replay.stream(endpoint, msgspec.json.encode(answer), asking(endpoint, stream=True), NEW, CREATED)
    assert assemble(endpoint, first + error + b"".join(rest), USAGE) is None


def test_the_comment_with_the_cost_is_not_part_of_the_answer():
    *chunks, done = replay.stream("chat", msgspec.json.encode(CHAT), chat("x", stream=True), NEW, CREATED)
    stamped = b"".join(chunks) + b": x-farthing-cost-usd=0.000001 x-farthing-request-id=1\n\n" + done
    assert json.loads(assemble("chat", stamped, USAGE))["choices"] == CHAT["choices"]


@pytest.mark.parametrize(
    ("name", "content", "calls"),
    [
        ("text.sse", True, 0),
        ("tools_parallel.sse", False, 2),
        ("tools_without_index.sse", False, 2),
        ("tool_name_late.sse", False, 1),
        ("reasoning_vllm.sse", True, 0),
        ("crlf.sse", True, 0),
    ],
)
def test_recorded_streams_of_real_servers_add_up(name, content, calls):
    message = json.loads(assemble("chat", fixture(f"openai/{name}"), USAGE))["choices"][0]["message"]
    assert bool(message["content"]) is content
    made = message.get("tool_calls") or []
    assert len(made) == calls
    for one in made:
        assert one["function"]["name"]
        assert isinstance(json.loads(one["function"]["arguments"] or "{}"), dict)
        assert "index" not in one


@pytest.mark.parametrize("name", ["cut.sse", "garbage.sse", "error_midstream_vllm.sse", "no_done.sse"])
def test_recorded_streams_that_broke_do_not(name):
    assert assemble("chat", fixture(f"openai/{name}"), USAGE) is None


@pytest.mark.parametrize(
    "name",
    [
        "text.sse",
        "thinking.sse",
        "tools_parallel.sse",
        "tool_without_arguments.sse",
        "tool_input_at_once.sse",
        "max_tokens_and_corrected_input.sse",
    ],
)
def test_recorded_anthropic_streams_add_up_and_replay_to_the_same(name):
    kept = assemble("messages", fixture(f"anthropic/{name}"), None)
    again = b"".join(replay.stream("messages", kept, asking("messages", stream=True), NEW, CREATED))
    assert json.loads(assemble("messages", again, None)) == {**json.loads(kept), "id": f"msg_{NEW}"}


@pytest.mark.parametrize("name", ["cut.sse", "no_message_stop.sse", "overloaded_midstream.sse"])
def test_recorded_anthropic_streams_that_broke_do_not(name):
    assert assemble("messages", fixture(f"anthropic/{name}"), None) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"data: [DONE]\n\n",
        b"data: 5\n\ndata: [DONE]\n\n",
        b"data: {}\n\n",
        b"\xff\xfe",
        b"data: {\n\n",
        b'data: {"choices":5}\n\ndata: [DONE]\n\n',
    ],
)
@pytest.mark.parametrize("endpoint", ["chat", "completions", "messages", "responses", "embeddings"])
def test_what_is_no_stream_is_no_answer(endpoint, raw):
    assert assemble(endpoint, raw, USAGE) is None


def test_arguments_sent_as_an_object_are_replayed_as_they_came():
    call_ = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    answer = {
        **TOOLS,
        "choices": [{**TOOLS["choices"][0], "message": {"role": "assistant", "content": None, "tool_calls": [call_]}}],
    }
    assert json.loads(assemble("chat", replayed("chat", answer), None))["choices"][0]["message"]["tool_calls"] == [
        call_
    ]


def test_a_deprecated_function_call_survives():
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    answer = {**CHAT, "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "function_call"}]}
    assert json.loads(assemble("chat", replayed("chat", answer), None))["choices"][0]["message"] == message


@pytest.mark.parametrize(
    ("endpoint", "kept", "can"),
    [
        ("chat", CHAT, True),
        ("chat", {"choices": 5}, False),
        ("chat", {"choices": [{"index": 0}]}, False),
        ("messages", MESSAGE, True),
        ("messages", {"content": [{"type": "text"}]}, False),
        ("responses", RESPONSE, True),
        ("responses", {"status": "completed", "output": [{"type": "function_call"}]}, False),
        ("completions", COMPLETION, True),
        ("embeddings", {"data": []}, True),
    ],
)
def test_an_answer_that_could_not_be_replayed_is_known_before_it_is_kept(endpoint, kept, can):
    assert replay.replayable(endpoint, msgspec.json.encode(kept), asking(endpoint)) is can


TEXTS = st.text(max_size=300)
TOOL_CALLS = st.lists(st.fixed_dictionaries({"id": st.uuids().map(str), "type": st.just("function"), "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=9), "arguments": TEXTS})}), min_size=1, max_size=3)  # fmt: skip
SPOKEN = st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS}, optional={"tool_calls": TOOL_CALLS, "refusal": st.none() | TEXTS, "reasoning_content": TEXTS, "x": st.none() | st.integers() | st.lists(st.integers(), max_size=3)})  # fmt: skip


@given(st.lists(SPOKEN, min_size=1, max_size=3))
def test_any_chat_answer_survives_being_streamed_and_put_together(messages):
    choices = [{"index": i, "message": m, "logprobs": None, "finish_reason": "stop"} for i, m in enumerate(messages)]
    answer = {**CHAT, "choices": choices}
    raw = replayed("chat", answer, stream_options={"include_usage": True})
    assert json.loads(assemble("chat", raw, None)) == renewed("chat", answer)


JSON = st.recursive(st.none() | st.booleans() | st.integers(0, 2) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "delta", "index", "type", "content", "tool_calls", "finish_reason", "usage", "message", "response", "content_block", "text"]), inner, max_size=4), max_leaves=10)  # fmt: skip


@given(st.lists(JSON, max_size=4), st.sampled_from(["chat", "completions", "messages", "responses"]))
def test_no_stream_is_too_odd_to_be_refused(events_, endpoint):
    raw = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events_) + b"data: [DONE]\n\n"
    kept = assemble(endpoint, raw, USAGE)
    assert kept is None or isinstance(replay.replayable(endpoint, kept, asking(endpoint)), bool)
