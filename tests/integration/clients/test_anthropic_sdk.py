"""The official Anthropic SDK in front of a target that speaks OpenAI's format."""

import pytest

anthropic = pytest.importorskip("anthropic", reason="needs the client libraries: make test-clients")

MESSAGES = [{"role": "user", "content": "Say hello to Ada."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def client(gateway):
    with anthropic.Anthropic(base_url=gateway.url, api_key="sk-unused", max_retries=0) as made:
        yield made


def test_messages(client):
    answer = client.messages.create(model="sandbox-small", max_tokens=100, messages=MESSAGES, system="Be brief.")
    assert answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


def test_stream(client):
    with client.messages.stream(model="sandbox-small", max_tokens=100, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def test_tools(client):
    answer = client.messages.create(
        model="sandbox-small", max_tokens=100, messages=MESSAGES, tools=[WEATHER], tool_choice={"type": "any"}
    )
    assert answer.stop_reason == "tool_use"
    block = next(block for block in answer.content if block.type == "tool_use")
    assert block.name == "get_weather"
    assert isinstance(block.input["city"], str)


def test_a_tool_result_is_answered(client):
    messages = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Oslo"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
    ]
    answer = client.messages.create(model="sandbox-small", max_tokens=100, messages=messages, tools=[WEATHER])
    assert answer.content[0].type == "text"


def test_an_unknown_model_is_a_not_found_error(client):
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nonesuch", max_tokens=10, messages=MESSAGES)
