"""Anthropic's Messages request as a chat request."""

import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.protocol.translate_to_chat import messages_to_chat_request

USER = {"role": "user", "content": "Hi"}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
EPHEMERAL = {"type": "ephemeral"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}


def ask(messages=None, model="qwen3-8b", **fields):
    doc = {"model": "alias", "max_tokens": 9, "messages": messages or [USER], **fields}
    before = copy.deepcopy(doc)
    out = messages_to_chat_request(doc, model)
    assert doc == before, "the caller's document was changed"
    return out


def refused(param, messages=None, **fields):
    with pytest.raises(BadRequest) as caught:
        ask(messages, **fields)
    assert caught.value.param == param


def text(words, **extra):
    return {"type": "text", "text": words, **extra}


def test_the_smallest_request():
    assert ask() == {"model": "qwen3-8b", "max_tokens": 9, "messages": [USER]}


@pytest.mark.parametrize("model", ["o3-mini", "gpt-5", "gpt-5.2-codex", "openai/o4-mini"])
def test_reasoning_models_of_openai_take_the_other_limit(model):
    out = ask(model=model)
    assert (out["max_completion_tokens"], "max_tokens" in out) == (9, False)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-oss-120b", "olmo-2", "deepseek-r1"])
def test_everyone_else_takes_max_tokens(model):
    assert ask(model=model)["max_tokens"] == 9


def test_the_system_prompt_is_one_message():
    blocks = [text("One", cache_control=EPHEMERAL), text("Two")]
    assert ask(system="One")["messages"][0] == {"role": "system", "content": "One"}
    assert ask(system=blocks)["messages"][0] == {"role": "system", "content": "One\n\nTwo"}
    assert ask([USER, {"role": "system", "content": [text("Now")]}])["messages"][1]["content"] == "Now"


def test_user_content_becomes_parts():
    document = {
        "type": "document",
        "title": "a.pdf",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
    }
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    nested = {"type": "document", "source": {"type": "content", "content": [text("in")]}}
    found = {"type": "search_result", "title": "T", "source": "https://example.com", "content": [text("body")]}
    by_url = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    content = [text("See", cache_control=EPHEMERAL), PNG, by_url, document, plain, nested, found]
    assert ask([{"role": "user", "content": content}])["messages"][0]["content"] == [
        text("See"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        text("words"),
        text("in"),
        text("T\nhttps://example.com\n\nbody"),
    ]


def test_a_single_text_block_is_a_string():
    assert ask([{"role": "user", "content": [text("Hi", cache_control=EPHEMERAL)]}])["messages"] == [USER]


def test_a_tool_loop_becomes_calls_and_tool_messages_first():
    messages = [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "signed", "signature": "sig"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "thinking", "thinking": "ours", "signature": ""},
                text("Let me "),
                text("look."),
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "ü"}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                text("hurry"),
                {"type": "tool_result", "tool_use_id": "t1", "content": [text("one"), PNG]},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True},
            ],
        },
    ]
    _, assistant, *rest = ask(messages)["messages"]
    assert assistant == {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning_content": "ours",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}},
            {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    assert rest == [
        {"role": "tool", "tool_call_id": "t1", "content": "one"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": [text("hurry"), image]},
    ]


def test_only_results_make_only_tool_messages():
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "one"}
    assert [m["role"] for m in ask([{"role": "user", "content": [result]}])["messages"]] == ["tool"]


def test_calls_without_text_have_null_content():
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    assert ask([USER, {"role": "assistant", "content": [call]}])["messages"][1]["content"] is None


def test_tools_are_nested():
    strict = {"type": "custom", "name": "g", "input_schema": {"type": "object"}, "strict": True}
    assert ask(tools=[TOOL, strict])["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}, "strict": True}},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tool_choice(choice, expected):
    assert ask(tools=[TOOL], tool_choice=choice)["tool_choice"] == expected
    one = ask(tools=[TOOL], tool_choice={**choice, "disable_parallel_tool_use": True})
    assert one["parallel_tool_calls"] is False


def test_the_rest_of_the_fields():
    out = ask(
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stream=True,
        metadata={"user_id": "u"},
        cache_control=EPHEMERAL,
        service_tier="auto",
        context_management={"edits": []},
        thinking={"type": "adaptive"},
        speed="standard",
        container=None,
    )
    assert out == {
        **ask(),
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u",
    }


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, "high"),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
        ({"output_config": {"effort": "low"}}, "low"),
    ],
)
def test_thinking_becomes_an_effort(fields, effort):
    assert ask(**fields).get("reasoning_effort") == effort


@pytest.mark.parametrize("key", ["output_config", "output_format"])
def test_an_output_format_becomes_a_response_format(key):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    fields = {"output_config": {"format": form}} if key == "output_config" else {"output_format": form}
    named = {"name": "output", "schema": {"type": "object"}, "strict": True}
    assert ask(**fields)["response_format"] == {"type": "json_schema", "json_schema": named}


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("container", {"container": "c"}),
        ("mcp_servers", {"mcp_servers": [{"name": "m"}]}),
        ("inference_geo", {"inference_geo": "eu"}),
        ("speed", {"speed": "fast"}),
        ("a_field_of_the_future", {"a_field_of_the_future": 1}),
        ("tools[0].type", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("tools[0].input_schema", {"tools": [{"name": "f"}]}),
        ("tool_choice.type", {"tools": [TOOL], "tool_choice": {"type": "all"}}),
        ("output_config.effort", {"output_config": {"effort": "extreme"}}),
        ("output_config.format.schema", {"output_config": {"format": {"type": "json_schema"}}}),
        ("thinking", {"thinking": "yes"}),
        ("stop_sequences", {"stop_sequences": "END"}),
        ("metadata.user_id", {"metadata": {"user_id": 1}}),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(param, fields):
    refused(param, **fields)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("messages[0].role", {"role": "tool", "content": "x"}),
        ("messages[0].content", {"role": "user"}),
        ("messages[0].content[0].type", {"role": "user", "content": [{"type": "server_tool_use"}]}),
        ("messages[0].content[0].source.type", {"role": "user", "content": [{**PNG, "source": {"type": "file"}}]}),
        ("messages[0].content[0].tool_use_id", {"role": "user", "content": [{"type": "tool_result"}]}),
        ("messages[0].content[0].type", {"role": "assistant", "content": [PNG]}),
        ("messages[0].content[0].input", {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}),
    ],
)  # fmt: skip
def test_malformed_messages_are_named(param, message):
    refused(param, [message])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "id", "source", "content", "role"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["messages", "system", "tools", "tool_choice", "thinking", "metadata"]), json_values
    )
)
def test_no_document_raises_anything_but_a_bad_request(doc):
    try:
        msgspec.json.encode(messages_to_chat_request({"messages": [USER], **doc}, "m"))
    except BadRequest as error:
        assert error.param
