"""The official SDKs as the judges of what translations write: their types, and their own stream accumulators."""

import sys
from typing import Any

import msgspec
import pytest

from gateway.protocol.translate_from_chat import ChatToMessagesStream, chat_to_message
from gateway.protocol.translate_from_messages import MessagesToChatStream, message_to_chat
from gateway.protocol.translate_responses import responses_to_chat_request
from gateway.protocol.translate_responses_answer import chat_to_response, message_to_response
from gateway.protocol.translate_responses_stream import ChatToResponsesStream, MessagesToResponsesStream
from gateway.protocol.translate_to_chat import messages_to_chat_request
from gateway.protocol.translate_to_messages import chat_to_messages_request
from tests.support.wire import FIXTURES, anthropic_message, chat_message, events, fixture, translate

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
pydantic = pytest.importorskip("pydantic")

ANTHROPIC_STREAMS = sorted(path.stem for path in (FIXTURES / "anthropic").glob("*.sse"))
OPENAI_STREAMS = sorted(path.stem for path in (FIXTURES / "openai").glob("*.sse") if path.stem != "tools_interleaved")
OPENAI_ANSWERS = sorted(path.stem for path in (FIXTURES / "openai").glob("*.json") if path.stem != "tool_not_json")
ANTHROPIC_ANSWERS = sorted(path.stem for path in (FIXTURES / "anthropic").glob("*.json"))

USER = {"role": "user", "content": "Hi"}
CHAT_REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Rules", "cache_control": {"type": "ephemeral"}},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "reasoning_effort": "high",
    "stop": ["END"],
    "user": "u",
}


def validate(type_: Any, value: Any) -> Any:
    """`value` as `type_`; lazily validated arrays are walked to the end."""

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: walk(inner) for key, inner in item.items()}
        if isinstance(item, (str, bytes, int, float, type(None), pydantic.BaseModel)):
            return item
        return [walk(inner) for inner in item]

    adapter = pydantic.TypeAdapter(type_)  # outlives the walk: lazy arrays validate through it
    return walk(adapter.validate_python(value))


def client(sdk: Any, cls: str, body: bytes) -> Any:
    """The SDK's client in front of a server that answers everything with the stream `body`."""
    http = sys.modules[sdk.DefaultHttpxClient.__mro__[1].__module__.split(".")[0]]
    answer = {"content": body, "headers": {"content-type": "text/event-stream"}}
    transport = http.MockTransport(lambda request: http.Response(200, **answer))
    wire = sdk.DefaultHttpxClient(transport=transport)
    return getattr(sdk, cls)(api_key="k", base_url="http://upstream.invalid", http_client=wire, max_retries=0)


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-7"])
def test_a_messages_request_is_one_to_anthropics_sdk(model):
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    out = chat_to_messages_request(CHAT_REQUEST, model)
    assert validate(MessageCreateParamsNonStreaming, out) == out


def test_chat_requests_are_ones_to_openais_sdk():
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    plain = {**CHAT_REQUEST, "messages": [*CHAT_REQUEST["messages"][1:2], USER]}
    there = chat_to_messages_request({**CHAT_REQUEST, "reasoning_effort": None}, "claude-sonnet-4-5")
    back = messages_to_chat_request({**there, "stream": None}, "gpt-4o")
    responses = responses_to_chat_request({"input": [USER], "reasoning": {"effort": "low"}}, "o3")
    for request in (plain, back, responses):
        validate(CompletionCreateParamsNonStreaming, request)
    assert [message["role"] for message in back["messages"]] == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize("name", OPENAI_ANSWERS)
def test_answers_are_messages_to_anthropics_sdk(name):
    body = chat_to_message(fixture(f"openai/{name}.json"), model="m").body
    validate(anthropic.types.Message, msgspec.json.decode(body))


@pytest.mark.parametrize("name", ANTHROPIC_ANSWERS)
def test_answers_are_completions_to_openais_sdk(name):
    body = message_to_chat(fixture(f"anthropic/{name}.json"), model="m", created=1).body
    validate(openai.types.chat.ChatCompletion, msgspec.json.decode(body))


@pytest.mark.parametrize("name", [*OPENAI_ANSWERS, "tool_not_json"])
def test_completions_are_responses_to_openais_sdk(name):
    body = chat_to_response(fixture(f"openai/{name}.json"), request={}, model="m", created=1).body
    validate(openai.types.responses.Response, msgspec.json.decode(body))


@pytest.mark.parametrize("name", ANTHROPIC_ANSWERS)
def test_messages_are_responses_to_openais_sdk(name):
    body = message_to_response(fixture(f"anthropic/{name}.json"), request={}, model="m", created=1).body
    validate(openai.types.responses.Response, msgspec.json.decode(body))


@pytest.mark.parametrize("name", ANTHROPIC_STREAMS)
def test_openais_sdk_reads_the_chunks(name):
    from openai.lib.streaming.chat import ChatCompletionStreamState

    stream = MessagesToChatStream("m", include_usage=True, created=1)
    out = translate(stream, fixture(f"anthropic/{name}.sse"))
    state = ChatCompletionStreamState()
    chat = client(openai, "OpenAI", out).chat.completions.create(model="m", messages=[USER], stream=True)
    for chunk in chat:
        validate(openai.types.chat.ChatCompletionChunk, chunk.to_dict())
        state.handle_chunk(chunk)
    final = state.current_completion_snapshot
    ours = chat_message(out)
    message = final.choices[0].message
    assert final.choices[0].finish_reason == ours["finish_reason"]
    assert message.content == ours["content"]
    assert [call.function.arguments for call in message.tool_calls or []] == [
        call["arguments"] for call in ours["tool_calls"]
    ]
    assert (final.usage.completion_tokens if final.usage else None) == (
        ours["usage"]["completion_tokens"] if ours["usage"] else None
    )


@pytest.mark.parametrize("name", OPENAI_STREAMS)
def test_anthropics_sdk_reads_the_events(name):
    stream = ChatToMessagesStream("m")
    out = translate(stream, fixture(f"openai/{name}.sse"))
    for event in events(out):
        validate(anthropic.types.RawMessageStreamEvent, event)
    with client(anthropic, "Anthropic", out).messages.stream(model="m", max_tokens=9, messages=[USER]) as told:
        final = told.get_final_message()
    ours = anthropic_message(out)
    assert final.stop_reason == ours["stop_reason"]
    assert [block.type for block in final.content] == [block["type"] for block in ours["content"]]
    assert [block.input for block in final.content if block.type == "tool_use"] == [
        block["input"] for block in ours["content"] if block["type"] == "tool_use"
    ]
    if stream.usage_obj:
        assert final.usage.output_tokens == stream.usage_obj["completion_tokens"]


@pytest.mark.parametrize(
    ("cls", "upstream", "name"),
    [(ChatToResponsesStream, "openai", name) for name in OPENAI_STREAMS]
    + [(MessagesToResponsesStream, "anthropic", name) for name in ANTHROPIC_STREAMS],
)
def test_openais_sdk_reads_the_events_of_a_response(cls, upstream, name):
    stream = cls(request={}, model="m", created=1)
    out = translate(stream, fixture(f"{upstream}/{name}.sse"))
    with client(openai, "OpenAI", out).responses.stream(model="m", input="Hi") as told:
        seen = [event.type for event in told]
        assert len(seen) >= len(events(out))
        if stream.finish_reasons == ["completed"]:
            final = told.get_final_response()
            assert final.status == stream.finish_reasons[0]
            assert [item.type for item in final.output] == [i["type"] for i in events(out)[-1]["response"]["output"]]


@pytest.mark.parametrize("name", OPENAI_STREAMS)
def test_response_events_are_ones_to_openais_sdk(name):
    stream = ChatToResponsesStream(request={}, model="m", created=1)
    for event in events(translate(stream, fixture(f"openai/{name}.sse"))):
        validate(openai.types.responses.ResponseStreamEvent, event)


@pytest.mark.parametrize("name", ANTHROPIC_STREAMS)
def test_response_events_from_anthropic_are_ones_to_openais_sdk(name):
    stream = MessagesToResponsesStream(request={}, model="m", created=1)
    for event in events(translate(stream, fixture(f"anthropic/{name}.sse"))):
        validate(openai.types.responses.ResponseStreamEvent, event)
