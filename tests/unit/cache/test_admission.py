"""What may be looked up, and what may be kept."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.admission import AdmissionRule, refuse, refuse_answer, refuse_exact
from gateway.cache.keys import Partition, scope_key, user_of
from gateway.core.exchange import Call, Usage
from tests.support.calls import call, chat

RULE = AdmissionRule()
ASK = "What is the capital of France?"
USER = {"role": "user", "content": ASK}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "5"}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REMOTE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


def judged(one, rule=RULE):
    """(exact, semantic)."""
    scope = scope_key(one, Partition("t", "m", "r"), "v")
    user = user_of(one)
    return refuse_exact(one, user, rule), refuse(one, scope.text if scope else None, user, rule)


def said(*content, **members):
    return call({"messages": [{"role": "user", "content": [*content, {"type": "text", "text": ASK}]}], **members})


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"temperature": 0},
        {"temperature": 1},
        {"n": 1},
        {"logprobs": False},
        {"store": False},
        {"modalities": ["text"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_a_plain_question_is_admitted_to_both(members):
    assert judged(chat(ASK, **members)) == (None, None)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"temperature": 1.1}, "high_temperature"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"store": True}, "stateful"),
        ({"web_search_options": {"search_context_size": "low"}}, "server_tools"),
        ({"tools": [{"type": "web_search"}]}, "server_tools"),
        ({"tools": [{"type": {}}]}, "server_tools"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"modalities": 5}, "audio"),
        ({"audio": {"voice": "alloy"}}, "audio"),
    ],
)
def test_what_has_no_fixed_answer_is_refused_by_both(members, reason):
    assert judged(chat(ASK, **members)) == (reason, reason)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (chat(ASK, n=2), "choices"),
        (said(INLINE), "media"),
        (said({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}), "media"),
        (said({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}), "media"),
        (said({"type": "of a kind to come"}), "media"),
        (call({"messages": [USER, CALLED, RESULT]}), "tool_call"),
        (call({"messages": [USER, CALLED, RESULT, USER]}), "tool_call"),
        (call({"messages": [USER, RESULT, USER]}), "tool_result"),
        (call({"messages": [USER, CALLED]}), "tool_call"),
        (call({"messages": [USER, {"role": "assistant", "content": "Once"}]}), "no_user_text"),
        (call({"messages": []}), "no_user_text"),
        (call({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "5"}]}]}, "messages"), "tool_result"),
        (call({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}, USER]}, "messages"), "tool_call"),
        (call({"input": [{"type": "function_call_output", "call_id": "c", "output": "5"}]}, "responses"), "tool_result"),
        (call({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, USER]}, "responses"), "tool_call"),
        (call({"prompt": "Once upon a time"}, "completions"), "endpoint"),
        (call({"input": "some text"}, "embeddings"), "endpoint"),
        (chat("What is the weather?"), "volatile"),
        (chat("hi"), "short"),
        (chat("Where is my order?"), "personal"),
    ],
)  # fmt: skip
def test_what_only_the_very_same_request_may_share_is_refused_by_the_semantic_cache(one, reason):
    assert judged(one) == (None, reason)


@pytest.mark.parametrize(
    "one",
    [
        said(REMOTE),
        said({"type": "file", "file": {"file_id": "file-1"}}),
        call({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://e.org/a"}}]}]}, "messages"),
        call({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}]}, "messages"),
        call({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://e.org/a"}]}]}, "responses"),
        call({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "responses"),
        call({"input": [{"type": "item_reference", "id": "msg_1"}, USER]}, "responses"),
    ],
)  # fmt: skip
def test_bytes_that_are_elsewhere_may_change(one):
    assert judged(one)[0] == "remote_media"


@pytest.mark.parametrize(
    "doc",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"background": True},
        {"store": True},
    ],
    ids=str,
)
def test_what_goes_on_at_the_provider_is_stateful(doc):
    assert judged(call({"input": ASK, **doc}, "responses"))[0] == "stateful"


def test_the_prompt_of_a_completion_is_its_text():
    assert judged(call({"prompt": "Once upon"}, "completions"))[0] is None
    assert judged(call({"prompt": "Once upon", "logprobs": 0}, "completions"))[0] == "logprobs"


def test_where_users_are_apart_a_request_without_one_is_refused():
    rule = AdmissionRule(user_scoped=True)
    assert judged(chat(ASK), rule) == ("no_user", "no_user")
    assert judged(chat("Where is my order?", user="ada"), rule) == (None, None)


def test_a_follow_up_is_safe_because_earlier_turns_are_scope():
    one = call(
        {
            "messages": [
                USER,
                {"role": "assistant", "content": "Paris."},
                {"role": "user", "content": "And what of Spain?"},
            ]
        }
    )
    assert judged(one) == (None, None)


def test_a_path_that_is_only_forwarded_is_not_cached():
    assert judged(Call("other", "openai", "POST", "/v1/audio/speech", b"", [], b"{}", {"input": "x"})) == (
        "endpoint",
        "endpoint",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "source", "file", "url", "output", "image_url"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(["messages", "input", "tools", "modalities", "include", "logprobs", "store", "audio", "metadata", "temperature", "prompt", "stop"]), JSON),
    st.sampled_from(["chat", "messages", "responses", "completions", "embeddings"]),
)  # fmt: skip
def test_no_body_is_too_odd_to_be_judged(doc, endpoint):
    judged(call(doc, endpoint))


USAGE = Usage(uncached_input=3, output=2)


def choice(finish="stop", **message):
    return {"index": 0, "message": {"role": "assistant", "content": "Paris.", **message}, "finish_reason": finish}


def kept(endpoint, answer, status=200, usage=USAGE, rule=RULE):
    """(exact, semantic)."""
    one, body = call({}, endpoint), answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    return tuple(refuse_answer(one, status, body, usage, rule, semantic=semantic) for semantic in (False, True))


MESSAGE = {"type": "message", "content": [{"type": "text", "text": "Paris."}], "stop_reason": "end_turn"}
RESPONSE = {
    "status": "completed",
    "error": None,
    "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "Paris."}]}],
}
TOOL_USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("chat", {"choices": [choice()]}),
        ("messages", MESSAGE),
        ("messages", {**MESSAGE, "stop_reason": "stop_sequence"}),
        ("responses", RESPONSE),
        ("responses", {**RESPONSE, "store": False}),
        ("completions", {"choices": [{"text": "a", "finish_reason": "stop"}]}),
        ("embeddings", {"data": [{"embedding": [0.1]}]}),
    ],
)
def test_a_clean_answer_is_kept(endpoint, answer):
    assert kept(endpoint, answer) == (None, None)


@pytest.mark.parametrize(
    ("endpoint", "answer", "reason"),
    [
        ("chat", {"choices": [choice("length")]}, "not_finished"),
        ("chat", {"choices": [choice("content_filter")]}, "not_finished"),
        ("chat", {"choices": [choice(None)]}, "not_finished"),
        ("chat", {"choices": [choice(), choice("length")]}, "not_finished"),
        ("chat", {"choices": [choice(refusal="No.", content=None)]}, "refusal"),
        ("chat", {"choices": [choice(content="")]}, "empty"),
        ("chat", {"choices": []}, "empty"),
        ("chat", {"choices": 5}, "damaged"),
        ("chat", {}, "damaged"),
        ("chat", b"[]", "damaged"),
        ("chat", b"<html>", "damaged"),
        ("messages", {**MESSAGE, "stop_reason": "max_tokens"}, "not_finished"),
        ("messages", {**MESSAGE, "stop_reason": "pause_turn"}, "not_finished"),
        ("messages", {**MESSAGE, "stop_reason": "refusal"}, "refusal"),
        ("messages", {**MESSAGE, "content": [{"type": "server_tool_use"}]}, "server_tools"),
        ("messages", {**MESSAGE, "content": []}, "empty"),
        ("responses", {**RESPONSE, "status": "incomplete"}, "not_finished"),
        ("responses", {**RESPONSE, "store": True}, "stateful"),
        ("responses", {**RESPONSE, "output": [{"type": "web_search_call"}]}, "server_tools"),
        (
            "responses",
            {**RESPONSE, "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]},
            "refusal",
        ),
        ("responses", {**RESPONSE, "output": []}, "empty"),
        ("completions", {"choices": [{"text": "a", "finish_reason": "length"}]}, "not_finished"),
        ("completions", {"choices": [{"text": "", "finish_reason": "stop"}]}, "empty"),
        ("embeddings", {"data": []}, "empty"),
    ],
)
def test_any_other_answer_is_not(endpoint, answer, reason):
    assert kept(endpoint, answer) == (reason, reason)


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("chat", {"choices": [choice("tool_calls", content=None, tool_calls=CALLED["tool_calls"])]}),
        ("chat", {"choices": [choice("stop", tool_calls=CALLED["tool_calls"])]}),
        ("chat", {"choices": [choice("function_call", content=None, function_call={"name": "f"})]}),
        ("messages", {**MESSAGE, "content": [TOOL_USE], "stop_reason": "tool_use"}),
        ("responses", {**RESPONSE, "output": [{"type": "function_call", "name": "f", "arguments": "{}"}]}),
    ],
)
def test_a_tool_call_is_kept_for_the_very_same_request_alone(endpoint, answer):
    assert kept(endpoint, answer) == (None, "tool_call")


def test_the_status_the_usage_and_the_size_must_be_right():
    answer = {"choices": [choice()]}
    assert kept("chat", answer, status=206) == ("status", "status")
    assert kept("chat", answer, usage=None) == ("no_usage", "no_usage")
    assert kept("chat", answer, rule=AdmissionRule(max_bytes=20)) == ("too_large", "too_large")
