"""OpenAI's Responses API in front of chat and Messages upstreams."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, UpstreamBroken
from gateway.protocol.translate_responses import responses_to_chat_request, seal
from gateway.protocol.translate_responses_answer import chat_to_response, message_to_response
from gateway.protocol.translate_responses_stream import ChatToResponsesStream, MessagesToResponsesStream
from gateway.protocol.translate_to_messages import chat_to_messages_request
from tests.support.wire import events, fixture, translate

decode = msgspec.json.decode
USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "one"}


def ask(given="Hi", model="qwen3-8b", **fields):
    doc = {"model": "alias", "input": given, **fields}
    before = copy.deepcopy(doc)
    out = responses_to_chat_request(doc, model)
    assert doc == before, "the caller's document was changed"
    return out


def refused(param, given="Hi", **fields):
    with pytest.raises(BadRequest) as caught:
        ask(given, **fields)
    assert caught.value.param == param


def test_the_smallest_request():
    assert ask() == {"model": "qwen3-8b", "messages": [USER]}


def test_instructions_and_messages():
    given = [
        {"role": "developer", "content": "Be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Ho", "annotations": []}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": "Ha"},
    ]
    assert ask(given, instructions="Rules")["messages"] == [
        {"role": "system", "content": "Rules"},
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Ho"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": "Ha"},
    ]


def test_images_and_files():
    parts = [
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.com/b.png", "detail": "auto", "file_id": None},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
    ]
    assert ask([{"role": "user", "content": parts}])["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
    ]


def test_a_tool_loop_with_reasoning_is_one_message_and_its_results():
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "sig"}]
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
        "encrypted_content": seal(blocks),
    }
    said = {"role": "assistant", "content": "Let me look."}
    given = [USER, reasoning, said, CALL, {**CALL, "call_id": "c2"}, OUTPUT, {**OUTPUT, "call_id": "c2"}, reasoning]
    messages = ask(given)["messages"]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert messages == [
        USER,
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "hm",
            "thinking_blocks": blocks,
            "tool_calls": [call, {**call, "id": "c2"}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "one"},
    ]
    to_claude = chat_to_messages_request({"messages": messages}, "claude-sonnet-4-5")["messages"]
    assert [block["type"] for block in to_claude[1]["content"]] == ["thinking", "text", "tool_use", "tool_use"]


def test_the_settings():
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    out = ask(
        tools=[TOOL],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=5,
        temperature=0.5,
        stream=True,
        store=True,
        metadata={"a": "b"},
        include=["reasoning.encrypted_content"],
        truncation="auto",
        background=False,
        previous_response_id=None,
    )
    assert out == {
        **ask(),
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "high",
        "max_tokens": 5,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert ask(model="o3", max_output_tokens=5)["max_completion_tokens"] == 5
    assert "response_format" not in ask(text={"format": {"type": "text"}})


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("previous_response_id", {"previous_response_id": "resp_1"}),
        ("conversation", {"conversation": "conv_1"}),
        ("background", {"background": True}),
        ("prompt", {"prompt": {"id": "p"}}),
        ("max_tool_calls", {"max_tool_calls": 3}),
        ("top_logprobs", {"top_logprobs": 2}),
        ("reasoning.mode", {"reasoning": {"mode": "pro"}}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tools[0].name", {"tools": [{"type": "function"}]}),
        ("tool_choice.type", {"tools": [TOOL], "tool_choice": {"type": "mcp"}}),
        ("text.format.type", {"text": {"format": {"type": "grammar"}}}),
        ("text", {"text": "json"}),
        ("input", {"given": None}),
        ("input[0]", {"given": ["Hi"]}),
        ("input[0].type", {"given": [{"type": "item_reference", "id": "x"}]}),
        ("input[0].role", {"given": [{"role": "tool", "content": ""}]}),
        ("input[0].call_id", {"given": [{"type": "function_call", "name": "f"}]}),
        ("input[0].output", {"given": [{"type": "function_call_output", "call_id": "c"}]}),
        ("input[0].content[0].type", {"given": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
        ("input[0].content[0].file_id", {"given": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
        ("input[0].encrypted_content", {"given": [{"type": "reasoning", "encrypted_content": "farthing:!"}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(param, fields):
    refused(param, **fields)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "call_id", "name", "content", "role"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "instructions"]), json_values
    )
)
def test_no_document_raises_anything_but_a_bad_request(doc):
    try:
        responses_to_chat_request({"input": "Hi", **doc}, "m")
    except BadRequest as error:
        assert error.param


def test_a_completion_becomes_a_response():
    request = {"input": "Hi", "instructions": "Rules", "tools": [TOOL], "temperature": 0.5, "metadata": None}
    answer = chat_to_response(fixture("openai/tools.json"), request=request, model="alias", created=1_700_000_000)
    response = decode(answer.body)
    assert response["output"] == [
        {
            "type": "reasoning",
            "id": "rs_chatcmpl-9f2_0",
            "summary": [],
            "status": "completed",
            "content": [{"type": "reasoning_text", "text": "I should look."}],
        },
        {
            "type": "function_call",
            "id": "fc_chatcmpl-9f2_1",
            "call_id": "call_a",
            "name": "get_weather",
            "arguments": '{"city": "Paris"}',
            "status": "completed",
        },
        {
            "type": "function_call",
            "id": "fc_chatcmpl-9f2_2",
            "call_id": "call_b",
            "name": "list_files",
            "arguments": "",
            "status": "completed",
        },
    ]
    assert response["usage"] == {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 150,
    }
    assert (response["id"], response["status"], response["model"]) == ("resp_chatcmpl-9f2", "completed", "alias")
    assert (response["instructions"], response["tools"], response["metadata"]) == ("Rules", [TOOL], {})
    assert (answer.id, answer.finish_reasons) == ("chatcmpl-9f2", ("completed",))


def test_a_cut_completion_is_incomplete():
    answer = chat_to_response(fixture("openai/tool_cut_by_length.json"), request={}, model="m", created=0)
    response = decode(answer.body)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert {item["status"] for item in response["output"]} == {"incomplete"}


def test_a_message_becomes_a_response_and_its_thinking_can_come_back():
    body = fixture("anthropic/thinking.json")
    answer = message_to_response(body, request={}, model="alias", created=0)
    assert (answer.usage_dialect, answer.usage_obj["output_tokens"]) == ("anthropic", 60)
    output = decode(answer.body)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    chat = responses_to_chat_request({"input": [USER, *output, USER]}, "claude-sonnet-4-5")
    again = chat_to_messages_request(chat, "claude-sonnet-4-5")
    assert again["messages"][1]["content"] == decode(body)["content"]


def run(name, cls=ChatToResponsesStream):
    upstream = "anthropic" if cls is MessagesToResponsesStream else "openai"
    stream = cls(request={"tools": [TOOL]}, model="alias", created=1_700_000_000)
    return stream, translate(stream, fixture(f"{upstream}/{name}.sse"))


def rebuilt(raw):
    """The output items as their events tell them; asserts the order that clients rely on."""
    told = events(raw)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    items, opened, written = [], None, ""
    for event in told[2:]:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert opened is None
            assert event["output_index"] == len(items)
            opened, written = event["item"], ""
        elif kind.endswith(".delta"):
            assert event["item_id"] == opened["id"]
            written += event["delta"]
        elif kind.endswith("_text.done"):
            assert event["text"] == written
        elif kind.endswith("arguments.done"):
            assert event["arguments"] == written
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == opened["id"]
            items.append(event["item"])
            opened = None
    assert opened is None
    return items, told[-1]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("text", ["message"]),
        ("crlf", ["message"]),
        ("no_done", ["message"]),
        ("garbage", ["message"]),
        ("refusal", ["message"]),
        ("reasoning_vllm", ["reasoning", "message"]),
        ("reasoning_renamed", ["reasoning", "message"]),
        ("tools_parallel", ["function_call", "function_call"]),
        ("tools_without_index", ["function_call", "function_call"]),
    ],
)
def test_a_chat_stream_tells_its_items_and_then_the_whole_response(name, kinds):
    stream, out = run(name)
    items, last = rebuilt(out)
    assert [item["type"] for item in items] == kinds
    assert last["type"] == "response.completed"
    assert last["response"]["output"] == items
    assert (stream.done, stream.truncated, stream.finish_reasons) == (True, False, ["completed"])


def test_the_streamed_response_equals_the_whole_one():
    items, last = rebuilt(run("tools_parallel")[1])
    assert [(i["call_id"], i["name"], i["arguments"]) for i in items] == [
        ("call_a", "get_weather", '{"city": "Paris"}'),
        ("call_b", "get_time", '{"tz": "CET"}'),
    ]
    assert last["response"]["usage"]["input_tokens"] == 50
    assert last["response"]["model"] == "alias"


def test_a_call_waits_for_its_name():
    items, _ = rebuilt(run("tool_name_late")[1])
    assert [(i["call_id"], i["name"], i["arguments"]) for i in items] == [("call_z", "f", '{"a":1}')]


def test_the_limit_makes_a_stream_incomplete():
    items, last = rebuilt(run("length")[1])
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert items[0]["status"] == "incomplete"


def test_an_error_in_the_stream_ends_it():
    stream, out = run("error_midstream_vllm")
    assert b"response.completed" not in out
    assert stream.truncated
    error = decode(stream.error)
    assert (error["type"], error["message"], error["code"]) == ("error", "EngineCore died", "500")
    assert error["sequence_number"] == len(events(out))


def test_a_cut_stream_is_truncated():
    stream, out = run("cut")
    assert (stream.done, stream.truncated) == (False, True)
    assert b"output_item.done" not in out


def test_calls_in_turns_are_broken_rather_than_mixed_up():
    with pytest.raises(UpstreamBroken):
        run("tools_interleaved")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("text", ["message"]),
        ("no_message_stop", ["message"]),
        ("tools_parallel", ["message", "function_call", "function_call"]),
        ("thinking", ["reasoning", "message"]),
    ],
)
def test_an_anthropic_stream_tells_its_items(name, kinds):
    stream, out = run(name, MessagesToResponsesStream)
    items, last = rebuilt(out)
    assert [item["type"] for item in items] == kinds
    assert last["response"]["output"] == items
    assert stream.done
    assert (stream.model, stream.usage_dialect) == ("claude-sonnet-4-5-20250929", "anthropic")
    assert stream.usage_obj["input_tokens"] == 25


def test_streamed_thinking_can_come_back():
    items, last = rebuilt(run("thinking", MessagesToResponsesStream)[1])
    assert last["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 50}
    chat = responses_to_chat_request({"input": [USER, *items, USER]}, "m")
    blocks = chat_to_messages_request(chat, "claude-sonnet-4-5")["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "redacted_thinking", "text"]
    assert "index" not in blocks[0]


def test_an_anthropic_error_ends_the_responses_stream():
    stream, out = run("overloaded_midstream", MessagesToResponsesStream)
    assert b"response.completed" not in out
    assert (decode(stream.error)["message"], decode(stream.error)["code"]) == ("Overloaded", "overloaded")
    assert (stream.truncated, stream.usage_obj["input_tokens"]) == (True, 25)
