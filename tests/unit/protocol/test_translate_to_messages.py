"""A chat request as Anthropic's Messages request."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.protocol.translate_to_messages import chat_to_messages_request

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
EPHEMERAL = {"type": "ephemeral"}
OLD, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-7"


def ask(messages=None, model=OLD, **fields):
    doc = {"model": "alias", "messages": messages or [USER], **fields}
    before = copy.deepcopy(doc)
    out = chat_to_messages_request(doc, model)
    assert doc == before, "the caller's document was changed"
    return out


def refused(param, messages=None, model=OLD, **fields):
    with pytest.raises(BadRequest) as caught:
        ask(messages, model, **fields)
    assert caught.value.param == param
    return caught.value


def text(words, **extra):
    return {"type": "text", "text": words, **extra}


def test_the_smallest_request():
    assert ask() == {
        "model": OLD,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_either_limit_is_the_limit(key):
    assert ask(**{key: 7})["max_tokens"] == 7


def test_system_and_developer_messages_are_hoisted_with_their_cache_marks():
    out = ask(
        [
            {"role": "system", "content": "One"},
            USER,
            {"role": "developer", "content": [text("Two", cache_control=EPHEMERAL), text("")]},
            {"role": "system", "content": "Three", "cache_control": EPHEMERAL},
        ]
    )
    assert out["system"] == [
        text("One"),
        text("Two", cache_control=EPHEMERAL),
        text("Three", cache_control=EPHEMERAL),
    ]
    assert len(out["messages"]) == 1


def test_consecutive_messages_of_one_role_become_one_turn():
    out = ask([USER, {"role": "user", "content": "there"}, {"role": "assistant", "content": "Yes"}, USER])
    assert [turn["role"] for turn in out["messages"]] == ["user", "assistant", "user"]
    assert out["messages"][0]["content"] == [text("Hi"), text("there")]


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "s"}], [{"role": "user", "content": " \n"}]])
def test_a_request_without_a_turn_is_refused(messages):
    refused("messages", messages)


def test_images_and_files_become_blocks():
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}, "cache_control": EPHEMERAL},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,SMOk"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/b.pdf"}},
    ]
    assert ask([{"role": "user", "content": parts, "cache_control": EPHEMERAL}])["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {
            "type": "image",
            "source": {"type": "url", "url": "https://example.com/a.jpg"},
            "cache_control": EPHEMERAL,
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hä"}},
        {**parts[4], "cache_control": EPHEMERAL},
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {}}, "type"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {}}, "image_url.url"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "file", "file": {"file_data": "JVBE"}}, "file.file_data"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,!"}}, "file.file_data"),
        ({"type": "text"}, "text"),
    ],
)
def test_a_part_that_cannot_be_said_is_refused_by_name(part, param):
    refused(f"messages[0].content[0].{param}", [{"role": "user", "content": [part]}])


def test_a_tool_loop_becomes_tool_use_and_one_turn_of_results():
    second = {"id": "functions.g:1", "type": "function", "function": {"name": "g", "arguments": ""}}
    out = ask(
        [
            USER,
            {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, second]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "user", "content": "hurry"},
            {"role": "tool", "tool_call_id": "functions.g:1", "content": [text("two")]},
        ]
    )
    assert out["messages"][1]["content"] == [
        text("Let me look."),
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "functions_g_1", "name": "g", "input": {}},
    ]
    assert out["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "functions_g_1", "content": [text("two")]},
        text("hurry"),
    ]


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", '"a"', "[" * 100_000])
def test_arguments_that_are_not_an_object_are_refused(arguments):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    where = "messages[1].tool_calls[0].function.arguments"
    refused(where, [USER, {"role": "assistant", "tool_calls": [call]}])


def test_signed_thinking_goes_back_first_and_unsigned_does_not():
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    blocks = [{"index": 0, **signed}, {"type": "thinking", "thinking": "x", "signature": ""}]
    redacted = {"type": "redacted_thinking", "data": "d"}
    answer = {
        "role": "assistant",
        "content": "4",
        "reasoning_content": "hmx",
        "thinking_blocks": [*blocks, redacted],
    }
    assert ask([USER, answer, USER])["messages"][1]["content"] == [signed, redacted, text("4")]


def test_refusals_of_earlier_turns_are_text():
    parts = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    whole = {"role": "assistant", "content": None, "refusal": "No."}
    assert ask([USER, parts, USER])["messages"] == ask([USER, whole, USER])["messages"]


def test_tools_are_flattened():
    strict = {"type": "function", "function": {"name": "g", "strict": True}, "cache_control": EPHEMERAL}
    loose = {"type": "function", "function": {"name": "h", "parameters": {"properties": {"a": {}}}}}
    assert ask(tools=[TOOL, strict, loose])["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        {
            "name": "g",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": EPHEMERAL,
        },
        {"name": "h", "input_schema": {"type": "object", "properties": {"a": {}}}},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice, parallel, expected):
    assert ask(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == expected


def test_a_choice_without_tools_is_not_sent():
    assert "tool_choice" not in ask(tool_choice="none", tools=[])


def test_a_json_schema_becomes_an_output_format():
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    assert ask(response_format=form)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    both = ask(model=NEW, response_format=form, reasoning_effort="high")
    assert both["output_config"] == {"format": {"type": "json_schema", "schema": schema}, "effort": "high"}
    assert "output_config" not in ask(response_format={"type": "text"})


def test_stop_user_and_the_rest():
    out = ask(stop="END", user="u1", service_tier="default", temperature=1.5, top_p=0.5, top_k=3, stream=True)
    assert out["stop_sequences"] == ["END"]
    assert out["metadata"] == {"user_id": "u1"}
    assert out["service_tier"] == "standard_only"
    assert (out["temperature"], out["top_p"], out["top_k"], out["stream"]) == (1.5, 0.5, 3, True)
    assert ask(stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert ask(safety_identifier="s")["metadata"] == {"user_id": "s"}


def test_extras_of_anthropic_pass():
    thinking = {"type": "enabled", "budget_tokens": 2000}
    out = ask(thinking=thinking, cache_control=EPHEMERAL, reasoning_effort="low")
    assert (out["thinking"], out["cache_control"]) == (thinking, EPHEMERAL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("verbosity", "low"),
        ("guided_json", {}),
        ("a_field_of_the_future", False),
        ("service_tier", "flex"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field, value):
    assert refused(field, **{field: value}).code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("logprobs", False),
        ("frequency_penalty", 0.0),
        ("logit_bias", {}),
        ("modalities", ["text"]),
        ("audio", None),
        ("store", True),
        ("metadata", {"a": "b"}),
        ("seed", 7),
        ("prediction", {"type": "content", "content": "x"}),
        ("prompt_cache_key", "k"),
        ("stream_options", {"include_usage": True}),
        ("service_tier", "auto"),
        ("verbosity", "medium"),
    ],
)
def test_what_asks_for_nothing_is_left_out(field, value):
    assert ask(**{field: value}) == ask()


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("tools", {"tools": {"type": "function"}}),
        ("tools[0]", {"tools": ["f"]}),
        ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "c"}}]}),
        ("tools[0].function", {"tools": [{"type": "function"}]}),
        ("tools[0].function.name", {"tools": [{"type": "function", "function": {}}]}),
        ("tools[0].function.parameters", {"tools": [{"type": "function", "function": {"parameters": [1]}}]}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": "maybe"}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": ["auto"]}),
        ("tool_choice.type", {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}),
        ("stop", {"stop": [1]}),
        ("stop", {"stop": {"a": 1}}),
        ("response_format", {"response_format": "json"}),
        ("response_format.type", {"response_format": {"type": "json_object"}}),
        ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
        ("response_format.json_schema.schema", {"response_format": {"type": "json_schema", "json_schema": {}}}),
        ("user", {"user": 7}),
        ("reasoning_effort", {"reasoning_effort": "extreme"}),
        ("reasoning_effort", {"reasoning_effort": {}}),
    ],
)
def test_malformed_fields_are_named(param, fields):
    refused(param, **fields)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("messages[0]", "hi"),
        ("messages[0].role", {"role": "function", "content": ""}),
        ("messages[0].role", {"content": "x"}),
        ("messages[0].content", {"role": "user"}),
        ("messages[0].content[0]", {"role": "user", "content": ["x"]}),
        ("messages[0].content[0].type", {"role": "system", "content": [{"type": "image_url"}]}),
        ("messages[0].tool_call_id", {"role": "tool", "content": "x"}),
        ("messages[0].tool_calls", {"role": "assistant", "tool_calls": {"a": 1}}),
        ("messages[0].tool_calls[0].type", {"role": "assistant", "tool_calls": [{"type": "custom"}]}),
        ("messages[0].tool_calls[0].function", {"role": "assistant", "tool_calls": [{"id": "1"}]}),
        ("messages[0].function_call", {"role": "assistant", "function_call": {"name": "f"}}),
        ("messages[0].thinking_blocks[0]", {"role": "assistant", "thinking_blocks": [1]}),
    ],
)
def test_malformed_messages_are_named(param, message):
    refused(param, [message])


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-7-sonnet-20250219",
        "claude-sonnet-4-20250514",
        "claude-sonnet-4@20250514",
        "anthropic.claude-opus-4-1-20250805-v1:0",
        "claude-haiku-4-5",
        "claude-opus-4-0",
    ],
)
def test_older_models_think_by_budget(model):
    out = ask(model=model, reasoning_effort="medium")
    assert out["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert out["max_tokens"] == 4096 + 8192
    assert "thinking" not in ask(model=model, reasoning_effort="none")


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-6-20260217", "claude-opus-4-7", "claude-opus-5"])
def test_newer_models_think_by_effort(model):
    out = ask(model=model, reasoning_effort="minimal", max_tokens=100)
    assert (out["thinking"], out["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    assert out["max_tokens"] == 100
    assert ask(model=model, reasoning_effort="none")["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(("limit", "budget"), [(1025, 1024), (2000, 1600), (100_000, 16_384)])
def test_the_budget_leaves_room_for_the_answer(limit, budget):
    out = ask(reasoning_effort="high", max_completion_tokens=limit)
    assert (out["max_tokens"], out["thinking"]["budget_tokens"]) == (limit, budget)


def test_a_limit_too_small_to_think_is_said():
    refused("reasoning_effort", reasoning_effort="low", max_completion_tokens=1024)


def test_an_older_model_does_not_begin_to_think_within_a_tool_loop():
    signed = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    call = {"role": "assistant", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    assert "thinking" not in ask([USER, call, result], reasoning_effort="low")
    assert "thinking" in ask([USER, {**call, "thinking_blocks": [signed]}, result], reasoning_effort="low")
    assert "thinking" in ask([USER, call, result, {"role": "assistant", "content": "1"}, USER], reasoning_effort="low")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "id", "function", "url", "content", "role"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "tool_choice", "stop", "response_format", "reasoning_effort", "user"]),
        json_values,
    )
)
def test_no_document_raises_anything_but_a_bad_request(doc):
    try:
        chat_to_messages_request({"messages": [USER], **doc}, OLD)
    except BadRequest as error:
        assert error.param
