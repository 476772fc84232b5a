"""Chat completions as Anthropic's answers."""

import msgspec
import pytest

from gateway.core.errors import UpstreamBroken
from gateway.protocol import sse
from gateway.protocol.translate_from_chat import ChatToMessagesStream, chat_to_message
from tests.support.wire import anthropic_message, events, fixture, translate

decode = msgspec.json.decode


def stream(name):
    messages = ChatToMessagesStream("alias")
    return messages, translate(messages, fixture(f"openai/{name}.sse"))


def whole(name):
    answer = chat_to_message(fixture(f"openai/{name}.json"), model="alias")
    return answer, decode(answer.body)


def test_reasoning_and_calls_of_a_completion():
    answer, message = whole("tools")
    assert message == {
        "id": "chatcmpl-9f2",
        "type": "message",
        "role": "assistant",
        "model": "alias",
        "content": [
            {"type": "thinking", "thinking": "I should look.", "signature": ""},
            {"type": "tool_use", "id": "call_a", "name": "get_weather", "input": {"city": "Paris"}},
            {"type": "tool_use", "id": "call_b", "name": "list_files", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 56,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 64,
            "output_tokens": 30,
        },
    }
    assert (answer.usage_dialect, answer.finish_reasons, answer.model) == ("openai", ("tool_use",), "qwen3-8b")


@pytest.mark.parametrize(
    ("name", "reason", "sequence"),
    [("forced_tool_stop", "tool_use", None), ("stop_string_vllm", "stop_sequence", "3"), ("refusal", "end_turn", None)],
)
def test_stop_reasons(name, reason, sequence):
    _, message = whole(name)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_refusal_is_text_and_reasoning_tokens_are_thinking():
    _, message = whole("refusal")
    assert message["content"] == [{"type": "text", "text": "I can't help."}]
    assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


def test_a_call_cut_by_the_limit_is_left_out():
    _, message = whole("tool_cut_by_length")
    assert message["content"] == [{"type": "text", "text": "Well,"}]
    assert message["stop_reason"] == "max_tokens"


def test_arguments_that_are_not_json_are_the_upstreams_fault():
    with pytest.raises(UpstreamBroken):
        whole("tool_not_json")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":0}]}', b"\xff"])
def test_a_body_that_is_not_a_completion_is_broken(body):
    with pytest.raises(UpstreamBroken):
        chat_to_message(body, model="m")


@pytest.mark.parametrize("name", ["text", "crlf", "no_done", "length", "refusal", "garbage"])
def test_every_stream_of_text_is_one_text_block(name):
    messages, out = stream(name)
    message = anthropic_message(out)
    assert [block["type"] for block in message["content"]] == ["text"]
    assert (message["id"], message["model"]) == ("chatcmpl-9f2", "alias")
    assert (messages.done, messages.truncated, messages.error) == (True, False, None)
    assert messages.chars == len(message["content"][0]["text"])


def test_the_counts_come_with_the_end():
    messages, out = stream("text")
    message = anthropic_message(out)
    assert message["content"][0]["text"] == "Hello wörld"
    assert message["stop_reason"] == "end_turn"
    assert message["usage"] == {
        "input_tokens": 56,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 64,
        "output_tokens": 2,
    }
    assert events(out)[0]["message"]["usage"]["output_tokens"] == 0
    assert messages.usage_obj["prompt_tokens"] == 120
    assert messages.finish_reasons == ["end_turn"]


@pytest.mark.parametrize(("name", "thought"), [("reasoning_vllm", "Let me see."), ("reasoning_renamed", "Hm.")])
def test_reasoning_under_either_name_is_a_thinking_block(name, thought):
    message = anthropic_message(stream(name)[1])
    assert message["content"] == [
        {"type": "thinking", "thinking": thought, "signature": ""},
        {"type": "text", "text": "4"},
    ]


def test_parallel_calls_are_a_block_each():
    message = anthropic_message(stream("tools_parallel")[1])
    assert message["content"] == [
        {"type": "tool_use", "id": "call_a", "name": "get_weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "call_b", "name": "get_time", "input": {"tz": "CET"}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_calls_without_an_index_are_told_apart_by_id():
    message = anthropic_message(stream("tools_without_index")[1])
    assert [(block["id"], block["input"]) for block in message["content"]] == [("x1", {"a": 1}), ("x2", {})]
    assert message["stop_reason"] == "tool_use"


def test_a_call_waits_for_its_name():
    message = anthropic_message(stream("tool_name_late")[1])
    assert message["content"] == [{"type": "tool_use", "id": "call_z", "name": "f", "input": {"a": 1}}]


def test_calls_in_turns_are_broken_rather_than_mixed_up():
    with pytest.raises(UpstreamBroken):
        stream("tools_interleaved")


def test_the_stop_string_of_vllm_is_the_stop_sequence():
    message = anthropic_message(stream("stop_string_vllm")[1])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "3")


def test_the_limit_is_max_tokens():
    assert anthropic_message(stream("length")[1])["stop_reason"] == "max_tokens"


def test_an_error_in_the_stream_ends_it_without_a_stop_reason():
    messages, out = stream("error_midstream_vllm")
    assert anthropic_message(out)["stop_reason"] is None
    assert b"message_stop" not in out
    assert messages.truncated
    assert decode(messages.error) == {"type": "error", "error": {"type": "api_error", "message": "EngineCore died"}}


def test_a_cut_stream_is_truncated():
    messages, out = stream("cut")
    assert (messages.done, messages.truncated) == (False, True)
    assert b"message_delta" not in out


def test_done_without_a_finish_reason_is_not_an_end():
    messages = ChatToMessagesStream("m")
    translate(messages, fixture("openai/cut.sse") + sse.DONE)
    assert (messages.done, messages.truncated) == (False, True)


def test_garbage_is_counted():
    assert stream("garbage")[0].malformed == 1
