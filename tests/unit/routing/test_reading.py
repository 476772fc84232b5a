"""What of a request's body is read, endpoint by endpoint, and that no body makes it raise."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call, Identity
from gateway.routing.reading import Caller, Request, caller_of, read_request
from tests.support.calls import call, chat

KEYS = st.sampled_from([
    "messages", "input", "prompt", "role", "content", "type", "text", "tools", "system", "instructions", "output",
    "response_format", "reasoning_effort", "reasoning", "effort", "format",
])  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(["user", "text", "tool", "system"])
)
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30
)


@given(st.dictionaries(KEYS, BODIES, max_size=6))
def test_no_body_makes_it_raise(doc):
    found = read_request(Call("chat", "openai", "POST", "/", b"", [], msgspec.json.encode(doc), doc, "m"))
    assert isinstance(found.text, str)
    assert all(isinstance(x, (int, float)) for x in found[1:])


@pytest.mark.parametrize(
    ("endpoint", "doc"),
    [
        ("chat", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}),
        ("completions", {"prompt": "Hi"}),
        ("completions", {"prompt": ["Hi"]}),
        ("responses", {"input": "Hi"}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}),
        ("messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}),
    ],
)
def test_the_user_text_is_found(endpoint, doc):
    assert read_request(call(doc, endpoint))._replace(requested_tokens=0) == Request("Hi", turns=1)


def test_the_last_user_text_counts_and_earlier_turns_are_history():
    found = read_request(
        call(
            {
                "messages": [
                    {"role": "system", "content": "12345"},
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "answer"},
                    {"role": "user", "content": "second"},
                ]
            }
        )
    )
    assert found == Request("second", turns=4, system_characters=5, history_characters=11)


def test_a_tool_loop_keeps_the_question_and_counts_its_results():
    found = read_request(
        call(
            {
                "messages": [
                    {"role": "user", "content": "weather?"},
                    {"role": "assistant", "content": None, "tool_calls": [{}]},
                    {"role": "tool", "tool_call_id": "a", "content": "rain"},
                ],
                "tools": [{"type": "function"}],
            }
        )
    )
    assert (found.text, found.tools, found.tool_turns, found.history_characters) == ("weather?", 1, 1, 4)


def test_anthropic_tool_results_and_images_are_counted():
    content = [
        {"type": "tool_result", "content": "x"},
        {"type": "image", "source": {}},
        {"type": "text", "text": "what is it"},
    ]
    doc = {"system": [{"type": "text", "text": "abc"}], "messages": [{"role": "user", "content": content}]}
    found = read_request(call({**doc, "max_tokens": 9}, "messages"))
    assert found == Request("what is it", 1, system_characters=3, tool_turns=1, images=1, requested_tokens=9)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, 1),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 2),
        ({"text": {"format": {"type": "json_schema"}}}, 2),
        ({"response_format": {"type": "text"}}, 0),
    ],
)
def test_an_answer_in_json_is_noticed(members, expected):
    assert read_request(call({"input": "x", **members}, "responses")).structured == expected


def test_the_effort_of_either_api_is_read():
    assert read_request(chat("x", reasoning_effort="high")).reasoning_effort == 2
    assert read_request(call({"input": "x", "reasoning": {"effort": "low"}}, "responses")).reasoning_effort == 0.5


def test_a_body_that_is_not_json_has_an_empty_text():
    assert read_request(Call("other", "openai", "POST", "/", b"", [], b"")) == Request("")


def test_only_the_last_turns_of_an_endless_conversation_are_read():
    turns = [{"role": "user", "content": "x"}] * 5_000
    assert read_request(call({"messages": turns})).turns == 256


def test_the_caller_is_named_by_tenant_and_tags():
    assert caller_of(Identity("acme", "k", frozenset(["b", "a"]))) == Caller("acme", ("a", "b"))
    assert caller_of(None) == Caller()
