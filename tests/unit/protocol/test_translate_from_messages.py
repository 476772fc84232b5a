"""Anthropic's answers as chat completions."""

import msgspec
import pytest

from gateway.core.errors import UpstreamBroken
from gateway.protocol import sse
from gateway.protocol.translate_from_messages import MessagesToChatStream, message_to_chat
from gateway.protocol.translate_to_messages import chat_to_messages_request
from tests.support.wire import chat_message, events, fixture, translate

decode = msgspec.json.decode


def stream(name, *, include_usage=True):
    chat = MessagesToChatStream("alias", include_usage=include_usage, created=1_700_000_000)
    return chat, translate(chat, fixture(f"anthropic/{name}.sse"))


def whole(name):
    answer = message_to_chat(fixture(f"anthropic/{name}.json"), model="alias", created=1_700_000_000)
    return answer, decode(answer.body)


def test_text_and_tool_calls_of_a_message():
    answer, chat = whole("tool_use")
    assert (chat["model"], chat["object"], chat["created"]) == ("alias", "chat.completion", 1_700_000_000)
    choice = chat["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me check."
    assert choice["message"]["tool_calls"][0]["id"] == "toolu_01"
    assert chat["usage"] == {
        "prompt_tokens": 3210,
        "completion_tokens": 42,
        "total_tokens": 3252,
        "prompt_tokens_details": {
            "cached_tokens": 3000,
            "cache_write_tokens": 200,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 200},
        },
    }
    assert (answer.id, answer.model) == ("msg_013Zva2CMHLNnjNjJKqJ2EF", "claude-sonnet-4-5-20250929")
    assert (answer.usage_dialect, answer.finish_reasons) == ("anthropic", ("tool_calls",))
    assert answer.usage_obj["cache_creation_input_tokens"] == 200


def test_numbers_in_arguments_keep_their_digits():
    _, chat = whole("tool_use")
    arguments = chat["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert "12345678901234567890" in arguments
    assert "1.0" in arguments


def test_thinking_can_be_sent_back_as_it_was_signed():
    _, chat = whole("thinking")
    message = chat["choices"][0]["message"]
    assert message["reasoning_content"] == "27 * 453 = 12231"
    assert chat["usage"]["completion_tokens_details"] == {"reasoning_tokens": 50}
    question = {"role": "user", "content": "27 * 453?"}
    again = chat_to_messages_request({"messages": [question, message, question]}, "claude-sonnet-4-5")
    assert again["messages"][1]["content"] == decode(fixture("anthropic/thinking.json"))["content"]


def test_a_refusal_is_a_content_filter():
    answer, chat = whole("refusal")
    assert chat["choices"][0]["finish_reason"] == "content_filter"
    assert chat["choices"][0]["message"]["refusal"] == "This could enable harm."
    assert chat["choices"][0]["message"]["content"] == ""
    assert answer.finish_reasons == ("content_filter",)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"content": 1}', b'{"content":[{"type":1}]}', b"\xff"])
def test_a_body_that_is_not_a_message_is_broken(body):
    with pytest.raises(UpstreamBroken):
        message_to_chat(body, model="m", created=0)


def test_text_streams_with_its_usage():
    chat, out = stream("text")
    message = chat_message(out)
    assert (message["content"], message["finish_reason"]) == ("Hello! Grüß dich.", "stop")
    assert message["usage"]["prompt_tokens"] == 165
    assert message["usage"]["prompt_tokens_details"]["cached_tokens"] == 100
    assert message["usage"]["completion_tokens"] == 15
    assert (chat.id, chat.model) == ("msg_01XFDUDYJgAACzvnptvVoYEL", "claude-sonnet-4-5-20250929")
    assert chat.usage_obj["cache_creation"] == {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 30}
    assert (chat.done, chat.truncated, chat.chars) == (True, False, 17)
    assert chat.finish_reasons == ["stop"]


def test_the_chunks_are_those_of_a_chat_stream():
    *chunks, last, done = events(stream("text")[1])
    assert done == "[DONE]"
    assert last["choices"] == []
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert {chunk["id"] for chunk in chunks} == {"msg_01XFDUDYJgAACzvnptvVoYEL"}
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["model"] == "alias" for chunk in chunks)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]


def test_usage_is_sent_only_when_asked_for_and_kept_anyway():
    chat, out = stream("text", include_usage=False)
    assert b"usage" not in out
    assert out.endswith(sse.DONE)
    assert chat.usage_obj["output_tokens"] == 15


def test_parallel_tool_calls_are_counted_apart_from_content_blocks():
    _, out = stream("tools_parallel")
    message = chat_message(out)
    assert message["content"] == "Looking it up."
    assert message["tool_calls"] == [
        {"id": "toolu_01A", "name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"id": "toolu_01B", "name": "get_time", "arguments": '{"tz": "CET"}'},
    ]
    assert message["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("name", "arguments"), [("tool_without_arguments", "{}"), ("tool_input_at_once", '{"a":1,"b":2}')]
)
def test_arguments_are_always_json(name, arguments):
    assert chat_message(stream(name)[1])["tool_calls"][0]["arguments"] == arguments


def test_thinking_streams_and_its_signature_follows():
    _, out = stream("thinking")
    message = chat_message(out)
    assert message["reasoning_content"] == "27 * 453 = 12231"
    assert message["content"] == "12231"
    assert message["thinking_blocks"] == [
        {
            "index": 0,
            "type": "thinking",
            "thinking": "27 * 453 = 12231",
            "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds",
        },
        {"index": 1, "type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
    ]
    assert message["usage"]["completion_tokens_details"] == {"reasoning_tokens": 50}


def test_an_error_in_the_stream_ends_it_without_a_finish_reason():
    chat, out = stream("overloaded_midstream")
    assert chat_message(out)["content"] == "Once upon"
    assert b"[DONE]" not in out
    assert (chat.finish_reasons, chat.done, chat.truncated) == ([], False, True)
    assert decode(chat.error) == {
        "error": {"message": "Overloaded", "type": "server_error", "param": None, "code": "overloaded"}
    }
    assert chat.feed(sse.Event(None, b'{"type":"message_stop"}', b"")) == b""
    assert chat.usage_obj["input_tokens"] == 25


def test_a_cut_stream_is_truncated():
    chat, out = stream("cut")
    assert (chat.done, chat.truncated, chat.error) == (False, True, None)
    assert b"[DONE]" not in out


def test_a_stream_without_its_last_event_is_completed():
    chat, out = stream("no_message_stop")
    assert (chat.done, chat.truncated) == (True, False)
    assert out.endswith(sse.DONE)
    assert chat_message(out)["usage"]["completion_tokens"] == 3


def test_a_refused_stream_says_why():
    message = chat_message(stream("refusal")[1])
    assert (message["finish_reason"], message["refusal"]) == ("content_filter", "This could enable harm.")


def test_later_counts_replace_earlier_ones_and_null_does_not():
    message = chat_message(stream("max_tokens_and_corrected_input")[1])
    assert message["finish_reason"] == "length"
    assert message["usage"]["prompt_tokens"] == 31 + 7
    assert message["usage"]["prompt_tokens_details"]["cached_tokens"] == 7


def test_server_tools_and_unknown_events_are_left_out():
    chat, out = stream("server_tool_and_new_events")
    message = chat_message(out)
    assert (message["content"], message["tool_calls"], message["finish_reason"]) == ("Found.", [], "stop")
    assert chat.malformed == 0


def test_a_few_malformed_events_are_dropped_and_many_are_broken():
    chat = MessagesToChatStream("m", include_usage=False, created=0)
    for data in (b"{", b"\xff", b'{"type": 1}'):
        assert chat.feed(sse.Event(None, data, data)) == b""
    assert chat.malformed == 3
    with pytest.raises(UpstreamBroken):
        chat.feed(sse.Event(None, b"{", b"{"))
