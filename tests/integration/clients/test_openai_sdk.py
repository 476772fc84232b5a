"""The official OpenAI SDK: its types, its streams, its exceptions."""

import pytest

openai = pytest.importorskip("openai", reason="needs the client libraries: make test-clients")

MESSAGES = [{"role": "user", "content": "Say hello to Ada."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def client(base_url):
    with openai.OpenAI(base_url=base_url, api_key="sk-unused", max_retries=0) as made:
        yield made


def test_chat(client):
    answer = client.chat.completions.create(model="sandbox-small", messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == "sandbox-small"
    assert answer._request_id


def test_stream_with_usage(client):
    chunks = list(
        client.chat.completions.create(
            model="sandbox-small", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_the_stream_helper_accumulates(client):
    with client.chat.completions.stream(model="sandbox-small", messages=MESSAGES, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason in ("stop", "tool_calls")


def test_tools(client):
    answer = client.chat.completions.create(
        model="sandbox-small", messages=MESSAGES, tools=[WEATHER], tool_choice="required"
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"


def test_structured_outputs_parse(client):
    pydantic = pytest.importorskip("pydantic")

    class Person(pydantic.BaseModel):
        name: str
        age: int

    answer = client.chat.completions.parse(model="sandbox-small", messages=MESSAGES, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_logprobs_and_choices(client):
    answer = client.chat.completions.create(
        model="sandbox-small", messages=MESSAGES, n=2, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].logprobs.content[0].top_logprobs


def test_embeddings(client):
    answer = client.embeddings.create(model="sandbox-small", input=["one", "two"])
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) > 10


def test_completions(client):
    assert client.completions.create(model="sandbox-small", prompt="Hello").choices[0].text


def test_models(client):
    assert {model.id for model in client.models.list()} == {"sandbox-small", "sandbox-large"}
    assert client.models.retrieve("sandbox-small").id == "sandbox-small"


def test_moderations(client):
    assert client.moderations.create(model="sandbox-small", input="hello").results


def test_responses(client):
    answer = client.responses.create(model="sandbox-small", input="Say hello.")
    assert answer.output_text
    assert answer.usage.output_tokens > 0


def test_responses_stream(client):
    events = list(client.responses.create(model="sandbox-small", input="Say hello.", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == events[-1].response.output_text


def test_an_unknown_model_is_a_not_found_error(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nonesuch", messages=MESSAGES)
    assert refused.value.code == "model_not_found"


def test_a_bad_request_is_a_bad_request_error(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="sandbox-small", messages=MESSAGES, n="two")
    assert refused.value.param == "n"


async def test_async_and_leaving_early(base_url, gateway):
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-unused") as client:
        stream = await client.chat.completions.create(model="sandbox-large", messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()
        answer = await client.chat.completions.create(model="sandbox-small", messages=MESSAGES)
    assert answer.choices
