"""The simulated models: what they answer, how they refuse, and that the same request gives the same bytes."""

import base64
import json
import math
import re
import struct

import msgspec
import pytest
from jsonschema import Draft202012Validator

from gateway.core.errors import PolicyError, UpstreamBroken, UpstreamTimeout
from gateway.core.exchange import Target
from gateway.dispatch.sandbox import Answer, Profile, Sandbox, profile, respond
from gateway.dispatch.sandbox.pattern import example
from gateway.dispatch.sandbox.schema import instance
from gateway.dispatch.sandbox.text import count, pieces

SMALL = Profile("sandbox-small", "small", latency_ms=40, tokens_per_s=400)
LARGE = Profile("sandbox-large", "large", latency_ms=250, tokens_per_s=150)
NOW_S = 1_760_000_000
CHAT = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "local_time"}}


def ask(text: str, **fields) -> dict:
    return {"model": "sandbox-small", "messages": [{"role": "user", "content": text}], **fields}


def post(doc: dict | None, path: str = CHAT, of: Profile = SMALL, counter: int = 0) -> Answer:
    return respond(of, path, doc, b"" if doc is None else msgspec.json.encode(doc), NOW_S, counter)


def body(answer: Answer) -> dict:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def message(doc: dict, **kwargs) -> dict:
    return body(post(doc, **kwargs))["choices"][0]["message"]


def events(answer: Answer) -> list[dict]:
    """The JSON events of a stream, its `[DONE]` checked and dropped."""
    assert dict(answer.headers)["content-type"].startswith("text/event-stream")
    lines = b"".join(chunk for _, chunk in answer.chunks).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def refusal(doc: dict | None, path: str = CHAT) -> dict:
    answer = post(doc, path)
    assert answer.status in (400, 404)
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def streamed_text(answer: Answer, index: int = 0) -> str:
    return "".join(
        entry["delta"].get("content") or ""
        for event in events(answer)
        for entry in event["choices"]
        if entry["index"] == index
    )


class TestChat:
    def test_says_that_it_is_simulated_and_repeats_the_question(self):
        answer = post(ask("Why is the sky blue?"))
        doc = body(answer)
        text = doc["choices"][0]["message"]["content"]
        assert "Why is the sky blue?" in text
        assert "simula" in text.lower()
        assert ("x-farthing-simulated", "true") in answer.headers
        assert doc["system_fingerprint"] == "farthing-sandbox"
        assert (doc["object"], doc["created"], doc["model"]) == ("chat.completion", NOW_S, "sandbox-small")
        assert doc["choices"][0]["finish_reason"] == "stop"

    def test_the_same_request_gives_the_same_bytes(self):
        assert post(ask("hello", seed=7)) == post(ask("hello", seed=7))

    def test_another_seed_gives_other_texts(self):
        texts = {message(ask("Tell me about rivers", seed=seed), of=LARGE)["content"] for seed in range(8)}
        assert len(texts) > 3

    def test_the_large_model_says_more_and_takes_longer(self):
        question = ask("How do rivers shape the valleys they flow through?")
        small, large = post(question), post(question, of=LARGE)
        assert body(large)["usage"]["completion_tokens"] > body(small)["usage"]["completion_tokens"]
        assert large.first_delay_s > small.first_delay_s

    def test_usage_counts_words_and_signs(self):
        doc = body(post(ask("one two three.")))
        usage = doc["usage"]
        assert usage["prompt_tokens"] == 3 + 3 + 4
        assert usage["completion_tokens"] == count(doc["choices"][0]["message"]["content"])
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0

    def test_text_parts_and_images_are_read(self):
        parts = [{"type": "text", "text": "What is on it?"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
        doc = body(post({"messages": [{"role": "user", "content": parts}]}))
        assert "What is on it?" in doc["choices"][0]["message"]["content"]
        assert doc["usage"]["prompt_tokens"] > 85

    def test_n_choices_keep_their_index_and_differ(self):
        choices = body(post(ask("hi", n=3)))["choices"]
        assert [choice["index"] for choice in choices] == [0, 1, 2]
        assert len({choice["message"]["content"] for choice in choices}) == 3

    @pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
    def test_a_token_limit_ends_for_length(self, field):
        doc = body(post(ask("hi", **{field: 3})))
        assert doc["choices"][0]["finish_reason"] == "length"
        assert doc["usage"]["completion_tokens"] == 3

    def test_a_stop_sequence_cuts_before_itself(self):
        whole = message(ask("alpha beta gamma"))["content"]
        doc = body(post(ask("alpha beta gamma", stop=["nothing like it", " beta"])))
        assert doc["choices"][0]["message"]["content"] == whole[: whole.index(" beta")]
        assert doc["choices"][0]["finish_reason"] == "stop"

    def test_logprobs_describe_each_token(self):
        choice = body(post(ask("hi", logprobs=True, top_logprobs=3)))["choices"][0]
        content = choice["logprobs"]["content"]
        assert "".join(item["token"] for item in content) == choice["message"]["content"]
        for item in content:
            assert bytes(item["bytes"]).decode() == item["token"]
            assert -2 <= item["logprob"] <= 0
            assert len(item["top_logprobs"]) == 3
            assert item["top_logprobs"][0]["token"] == item["token"]
            assert sum(math.exp(other["logprob"]) for other in item["top_logprobs"]) <= 1.00001

    def test_logprobs_are_null_unless_asked_for(self):
        assert body(post(ask("hi")))["choices"][0]["logprobs"] is None


class TestStream:
    def test_the_chunks_join_to_the_unstreamed_text(self):
        doc = ask("Why is the sky blue?")
        answer = post({**doc, "stream": True})
        assert streamed_text(answer) == message(doc)["content"]
        first, last = events(answer)[0], events(answer)[-1]
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert last["choices"][0]["finish_reason"] == "stop"
        assert len({event["id"] for event in events(answer)}) == 1

    def test_usage_comes_in_a_last_chunk_without_choices_when_asked_for(self):
        doc = ask("hi")
        *chunks, last = events(post({**doc, "stream": True, "stream_options": {"include_usage": True}}))
        assert last["choices"] == []
        assert last["usage"] == body(post(doc))["usage"]
        assert all(chunk["usage"] is None for chunk in chunks)

    def test_usage_is_absent_otherwise(self):
        assert not any("usage" in event for event in events(post(ask("hi", stream=True))))

    def test_choices_advance_side_by_side(self):
        doc = ask("hi", n=2)
        answer = post({**doc, "stream": True})
        whole = [choice["message"]["content"] for choice in body(post(doc))["choices"]]
        assert [streamed_text(answer, 0), streamed_text(answer, 1)] == whole
        assert [event["choices"][0]["index"] for event in events(answer)[:6]] == [0, 1, 0, 1, 0, 1]

    def test_the_pace_follows_tokens_per_s(self):
        answer = post(ask("hi", stream=True))
        tokens = body(post(ask("hi")))["usage"]["completion_tokens"]
        assert answer.first_delay_s == pytest.approx(0.040)
        assert sum(delay_s for delay_s, _ in answer.chunks) == pytest.approx((tokens + 1) / 400)

    def test_choices_share_the_pace(self):
        one, two = (sum(delay_s for delay_s, _ in post(ask("hi", n=n, stream=True)).chunks) for n in (1, 2))
        tokens = [count(choice["message"]["content"]) for choice in body(post(ask("hi", n=2)))["choices"]]
        assert two == pytest.approx((max(tokens) + 1) / 400)
        assert one <= two

    def test_logprobs_come_with_their_token(self):
        for event in events(post(ask("hi", stream=True, logprobs=True)))[1:-1]:
            choice = event["choices"][0]
            assert choice["logprobs"]["content"][0]["token"] == choice["delta"]["content"]


class TestTools:
    def test_a_required_call_has_arguments_that_the_schema_accepts(self):
        doc = body(post(ask("Hello", tools=[WEATHER], tool_choice="required")))
        choice = doc["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert call["function"]["name"] == "get_weather"
        assert re.fullmatch(r"call_\w{24}", call["id"])
        arguments = json.loads(call["function"]["arguments"])
        Draft202012Validator(WEATHER["function"]["parameters"]).validate(arguments)

    def test_arguments_come_from_the_question(self):
        doc = ask("What will the weather be in 'Bad Tölz' over the next 3 days?", tools=[WEATHER])
        (call,) = message(doc)["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"city": "Bad Tölz", "days": 3}

    def test_a_named_choice_calls_that_function(self):
        choice = {"type": "function", "function": {"name": "local_time"}}
        (call,) = message(ask("Hello", tools=[WEATHER, TIME], tool_choice=choice))["tool_calls"]
        assert call["function"] == {"name": "local_time", "arguments": "{}"}

    @pytest.mark.parametrize("question", ["Use get_weather please", "How is the weather?"])
    def test_auto_calls_a_tool_that_is_asked_for_by_name(self, question):
        assert message(ask(question, tools=[WEATHER]))["tool_calls"]

    def test_auto_answers_in_text_when_no_tool_is_asked_for(self):
        assert "tool_calls" not in message(ask("Tell me a story", tools=[WEATHER]))

    def test_none_never_calls(self):
        assert "tool_calls" not in message(ask("Use get_weather", tools=[WEATHER], tool_choice="none"))

    def test_two_tools_are_called_in_parallel_unless_forbidden(self):
        doc = ask("Give me the weather and the local time", tools=[WEATHER, TIME])
        assert [call["function"]["name"] for call in message(doc)["tool_calls"]] == ["get_weather", "local_time"]
        assert len(message({**doc, "parallel_tool_calls": False})["tool_calls"]) == 1

    def test_a_tool_result_is_answered_in_text(self):
        called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}
        result = {"role": "tool", "tool_call_id": "c", "content": "18 degrees"}
        turns = [{"role": "user", "content": "Use get_weather"}, called, result]
        answer = message({"messages": turns, "tools": [WEATHER]})
        assert "18 degrees" in answer["content"]
        assert "tool_calls" not in answer

    def test_streamed_calls_join_to_the_unstreamed_ones(self):
        doc = ask("Give me the weather and the local time", tools=[WEATHER, TIME])
        joined: dict[int, dict] = {}
        for event in events(post({**doc, "stream": True})):
            for delta in event["choices"][0]["delta"].get("tool_calls", []):
                index = delta.pop("index")
                if index not in joined:
                    joined[index] = delta
                else:
                    joined[index]["function"]["arguments"] += delta["function"]["arguments"]
        assert list(joined.values()) == message(doc)["tool_calls"]

    def test_a_token_limit_cuts_the_arguments(self):
        doc = body(post(ask("Hello", tools=[WEATHER], tool_choice="required", max_tokens=4)))
        assert doc["choices"][0]["finish_reason"] == "length"
        assert doc["usage"]["completion_tokens"] == 4

    def test_a_token_limit_is_shared_by_parallel_calls(self):
        question = "Give me the weather and the local time"
        whole = body(post(ask(question, tools=[WEATHER, TIME])))["usage"]["completion_tokens"]
        doc = body(post(ask(question, tools=[WEATHER, TIME], max_tokens=whole - 1)))
        assert doc["usage"]["completion_tokens"] == whole - 1
        assert doc["choices"][0]["message"]["tool_calls"][1]["function"]["arguments"] == "{"


SCHEMAS = {
    "nested": {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/step"}},
            "score": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "tags": {"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": ["a", "b", "c"]}},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"const": "report"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["steps", "score", "tags", "when", "kind", "note"],
        "additionalProperties": False,
        "$defs": {
            "step": {
                "type": "object",
                "properties": {"text": {"type": "string", "minLength": 30}, "done": {"type": "boolean"}},
                "required": ["text", "done"],
            }
        },
    },
    "recursive": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
            }
        },
    },
    "wide and recursive": {
        "type": "object",
        "properties": {name: {"$ref": "#"} for name in "abcdefghijkl"},
    },
    "pattern": {"type": "string", "pattern": r"^(?:[A-Z]{2}-)?\d{3,5}(x|y)+[^a-z]?$"},
    "pattern with a length": {"type": "string", "pattern": "^[a-z]+$", "minLength": 20},
    "multiple": {"type": "integer", "minimum": 10, "multipleOf": 7},
    "multiple below": {"type": "integer", "maximum": -10, "multipleOf": 7},
    "narrow": {"type": "number", "minimum": 0.25, "maximum": 0.5},
    "short": {"type": "string", "maxLength": 3},
    "type list": {"type": ["null", "integer"]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ]
    },
    "one of": {"oneOf": [{"type": "object", "properties": {"t": {"const": 1}}, "required": ["t"]}, {"type": "null"}]},
    "tuple": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    "unique numbers": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    "anything": {},
}


class TestStructuredOutput:
    @pytest.mark.parametrize("name", SCHEMAS)
    def test_an_instance_is_valid_under_its_schema(self, name):
        Draft202012Validator(SCHEMAS[name]).validate(instance(SCHEMAS[name], 'It has "words" and 12 numbers, 0.3'))

    def test_a_json_schema_format_is_answered_with_such_a_document(self):
        schema = SCHEMAS["nested"]
        shape = {"type": "json_schema", "json_schema": {"name": "report", "strict": True, "schema": schema}}
        Draft202012Validator(schema).validate(json.loads(message(ask("Go", response_format=shape))["content"]))

    def test_a_json_object_has_the_keys_that_are_quoted(self):
        doc = ask("A joke as JSON with 'setup' and 'punchline' keys", response_format={"type": "json_object"})
        assert set(json.loads(message(doc)["content"])) == {"setup", "punchline"}

    def test_an_enum_takes_the_value_that_the_question_names(self):
        assert instance({"enum": ["red", "green", "blue"]}, "I like Blue most") == "blue"

    def test_a_hostile_schema_costs_little(self):
        pattern = "(" * 5000 + "a+" * 2000 + ")" * 5000
        assert len(example(pattern, min_length=10**9)) <= 1000
        assert len(instance({"type": "array", "minItems": 10**9, "items": {"type": "integer"}})) <= 64

    def test_a_broken_schema_is_the_callers_fault(self):
        shape = {"type": "json_schema", "json_schema": {"schema": {"type": "array", "minItems": "many"}}}
        assert refusal(ask("Go", response_format=shape))["code"] == "invalid_json_schema"


class TestRefusals:
    @pytest.mark.parametrize(
        ("doc", "param", "code"),
        [
            ({"model": "m"}, "messages", "missing_required_parameter"),
            ({"messages": "hi"}, "messages", "invalid_type"),
            ({"messages": []}, "messages", "empty_array"),
            ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
            ({"messages": [{"role": "bot", "content": "hi"}]}, "messages[0].role", "invalid_value"),
            ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
            ({"messages": [{"role": "tool", "content": "1", "tool_call_id": "c"}]}, "messages[0].role", None),
            (ask("hi", temperature=3), "temperature", "decimal_above_max_value"),
            (ask("hi", temperature="hot"), "temperature", "invalid_type"),
            (ask("hi", n=0), "n", "integer_below_min_value"),
            (ask("hi", max_tokens=True), "max_tokens", "invalid_type"),
            (ask("hi", stop=["a"] * 5), "stop", "array_above_max_length"),
            (ask("hi", top_logprobs=2), "top_logprobs", None),
            (ask("hi", stream_options={}), "stream_options", None),
            (ask("hi", stream="yes"), "stream", "invalid_type"),
            (ask("hi", tool_choice="auto"), "tool_choice", None),
            (ask("hi", tools=[TIME], tool_choice="always"), "tool_choice", "invalid_value"),
            (ask("hi", tools=[{"type": "function"}]), "tools[0].function.name", "missing_required_parameter"),
            (ask("hi", response_format={"type": "json_object"}), "messages", None),
            (ask("hi", response_format={"type": "xml"}), "response_format.type", "invalid_value"),
        ],
    )
    def test_name_the_parameter_and_the_code(self, doc, param, code):
        error = refusal(doc)
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)

    def test_a_body_that_is_no_object_is_400(self):
        assert "JSON" in refusal(None)["message"]

    def test_an_unknown_url_is_404(self):
        answer = post({}, "/v1/audio/speech?x=1")
        assert answer.status == 404
        assert json.loads(answer.body)["error"]["code"] == "unknown_url"


class TestCompletions:
    def test_sixteen_tokens_unless_asked_for_more(self):
        doc = body(post({"prompt": "Say something about rivers"}, "/v1/completions"))
        assert doc["usage"]["completion_tokens"] == 16
        assert doc["choices"][0]["finish_reason"] == "length"
        more = body(post({"prompt": "Say something about rivers", "max_tokens": 500}, "/v1/completions"))
        assert more["choices"][0]["finish_reason"] == "stop"
        assert more["choices"][0]["text"].startswith(doc["choices"][0]["text"])

    @pytest.mark.parametrize(
        ("prompt", "count_"), [("a b", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3], [4]], 3)]
    )
    def test_each_prompt_gets_n_choices(self, prompt, count_):
        choices = body(post({"prompt": prompt, "n": 2}, "/v1/completions"))["choices"]
        assert [choice["index"] for choice in choices] == list(range(2 * count_))

    def test_echo_and_logprobs_cover_the_prompt(self):
        doc = {"prompt": "Once upon", "echo": True, "logprobs": 2, "max_tokens": 2}
        answer = body(post(doc, "/v1/completions"))
        choice = answer["choices"][0]
        scores = choice["logprobs"]
        assert choice["text"].startswith("Once upon ")
        assert answer["usage"]["completion_tokens"] == 2
        assert "".join(scores["tokens"]) == choice["text"]
        assert [choice["text"].index(t, at) for t, at in zip(scores["tokens"], scores["text_offset"], strict=True)] == (
            scores["text_offset"]
        )
        assert all(len(best) == 2 for best in scores["top_logprobs"])

    def test_the_chunks_join_to_the_unstreamed_text(self):
        doc = {"prompt": "Once upon", "max_tokens": 9, "n": 2}
        *chunks, last = events(
            post({**doc, "stream": True, "stream_options": {"include_usage": True}}, "/v1/completions")
        )
        whole = body(post(doc, "/v1/completions"))
        for i in (0, 1):
            parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == i]
            assert "".join(part["text"] for part in parts) == whole["choices"][i]["text"]
            assert parts[-1]["finish_reason"] == "length"
        assert last["usage"] == whole["usage"]

    @pytest.mark.parametrize("prompt", [None, 7, [], [True], [[]], ["a", 1]])
    def test_other_prompts_are_refused(self, prompt):
        assert refusal({"prompt": prompt}, "/v1/completions")["param"] == "prompt"


class TestEmbeddings:
    def vectors(self, texts, **fields) -> list[list[float]]:
        return [item["embedding"] for item in body(post({"input": texts, **fields}, "/v1/embeddings"))["data"]]

    def test_are_unit_vectors_of_the_size_of_the_model(self):
        for of, size in ((SMALL, 384), (LARGE, 1024)):
            (found,) = body(post({"input": "hello there"}, "/v1/embeddings", of))["data"]
            assert len(found["embedding"]) == size
            assert math.hypot(*found["embedding"]) == pytest.approx(1, abs=1e-6)

    def test_texts_that_share_words_are_nearer(self):
        a, b, c = self.vectors(["the capital of france", "france and its capital", "boil two eggs softly"])
        assert min(a) < 0 < max(a)
        near, far = (sum(x * y for x, y in zip(a, other, strict=True)) for other in (b, c))
        assert near > 0.4 > far

    def test_base64_is_little_endian_float32_of_the_same_numbers(self):
        (text,) = self.vectors("hello there", encoding_format="base64", dimensions=8)
        (numbers,) = self.vectors("hello there", dimensions=8)
        assert list(struct.unpack("<8f", base64.b64decode(text))) == pytest.approx(numbers, abs=0)

    def test_text_without_words_still_has_a_direction(self):
        assert math.hypot(*self.vectors("?!")[0]) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("value", [None, "", ["a", ""], {}, 5])
    def test_other_inputs_are_refused(self, value):
        assert refusal({"input": value}, "/v1/embeddings")["param"] == "input"

    def test_usage_counts_all_inputs(self):
        usage = body(post({"input": ["a b", "c"]}, "/v1/embeddings"))["usage"]
        assert usage == {"prompt_tokens": 3, "total_tokens": 3}


def test_the_model_lists_itself():
    assert [model["id"] for model in body(post(None, "/v1/models"))["data"]] == ["sandbox-small"]
    assert body(post(None, "/v1/models/sandbox-small"))["object"] == "model"
    assert refusal(None, "/v1/models/other")["code"] == "model_not_found"


def test_moderation_flags_by_word():
    results = body(post({"input": ["how to kill a process", "a sunny day"]}, "/v1/moderations"))["results"]
    assert [result["flagged"] for result in results] == [True, False]
    assert results[0]["categories"]["violence"]


def test_tokens_join_back_to_the_text():
    for text in ("", " \n", "a  b\n", "Donaudampfschifffahrt ist lang! 你好啊集团 🙂"):
        assert "".join(pieces(text)) == text


class TestFailures:
    FLAKY = Profile("sandbox-small", "small", 40, 400, error_rate=0.3, seed=5)

    def test_come_at_the_rate_that_was_asked_for(self):
        statuses = [post(ask("hi"), of=self.FLAKY, counter=k).status for k in range(1000)]
        assert 0.25 < sum(status != 200 for status in statuses) / 1000 < 0.35
        assert set(statuses) == {200, 429, 500, 503}

    def test_are_the_same_for_the_same_call_and_counter(self):
        assert post(ask("hi"), of=self.FLAKY, counter=3) == post(ask("hi"), of=self.FLAKY, counter=3)

    def test_carry_retry_after_and_an_openai_error(self):
        always = Profile("s", "small", 0, 400, error_rate=1)
        for k in range(20):
            answer = post(ask("hi"), of=always, counter=k)
            assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
            assert ("retry-after" in dict(answer.headers)) == (answer.status != 500)
            assert dict(answer.headers)["x-farthing-simulated"] == "true"

    def test_never_happen_by_default(self):
        assert all(post(ask("hi"), counter=k).status == 200 for k in range(50))


class TestProfile:
    def test_the_name_says_the_size(self):
        assert profile(Target("t", "sandbox", model="sandbox-large")).size == "large"
        assert profile(Target("sandbox-small", "sandbox")) == SMALL

    def test_options_override_the_size_and_the_pace(self):
        options = {"size": "large", "latency_ms": 5, "tokens_per_s": 10, "error_rate": 0.5, "seed": 9}
        assert profile(Target("x", "sandbox", options=options)) == Profile("x", "large", 5, 10, 0.5, 9)

    def test_options_of_other_rooms_are_ignored(self):
        assert profile(Target("sandbox-small", "sandbox", options={"price": {"input": "1"}})) == SMALL

    @pytest.mark.parametrize(
        "options",
        [{"seed": "s"}, {"size": "huge"}, {"latency_ms": -1}, {"tokens_per_s": 0}, {"error_rate": 1.5}],
    )
    def test_options_that_cannot_be_meant_are_refused(self, options):
        with pytest.raises(PolicyError, match="sandbox target 'x'"):
            profile(Target("x", "sandbox", options=options))


class HandClock:
    def __init__(self):
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def wall(self) -> float:
        return NOW_S + 0.9

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)


class TestSandbox:
    async def play(self, doc: dict, **deadlines):
        clock = HandClock()
        raw = msgspec.json.encode(doc)
        return clock, await Sandbox(clock, clock.sleep).send(SMALL, CHAT, doc, raw, **deadlines)

    async def test_waits_for_the_first_token_then_keeps_the_pace(self):
        doc = ask("hi", stream=True)
        clock, reply = await self.play(doc)
        assert clock.slept == [0.040]
        data = b""
        while chunk := await reply.chunk(1.0):
            data += chunk
        expected = respond(SMALL, CHAT, doc, msgspec.json.encode(doc), NOW_S, 1)
        assert data == b"".join(chunk for _, chunk in expected.chunks)
        assert sum(clock.slept) == pytest.approx(0.040 + sum(delay_s for delay_s, _ in expected.chunks))

    async def test_reads_a_whole_body_up_to_a_limit(self):
        _, reply = await self.play(ask("hi"))
        assert reply.status == 200
        assert reply.header(b"content-type") == b"application/json"
        assert reply.header(b"x-none") is None
        assert json.loads(await reply.read(10_000))["object"] == "chat.completion"
        _, reply = await self.play(ask("hi"))
        with pytest.raises(UpstreamBroken):
            await reply.read(10)

    @pytest.mark.parametrize(("deadline", "phase"), [("head_s", "first_token"), ("total_s", "total")])
    async def test_a_slow_first_token_breaks_a_deadline(self, deadline, phase):
        with pytest.raises(UpstreamTimeout) as caught:
            await self.play(ask("hi"), **{deadline: 0.01})
        assert caught.value.phase == phase

    async def test_a_slow_pace_breaks_the_idle_and_the_total_deadline(self):
        _, reply = await self.play(ask("hi", stream=True))
        await reply.chunk(1.0)
        with pytest.raises(UpstreamTimeout) as caught:
            await reply.chunk(0.0001)
        assert caught.value.phase == "idle"
        clock, reply = await self.play(ask("hi", stream=True), total_s=0.05)
        with pytest.raises(UpstreamTimeout) as caught:
            await reply.read(10_000_000)
        assert caught.value.phase == "total"
        assert sum(clock.slept) == pytest.approx(0.05)

    async def test_a_closed_reply_has_nothing_left(self):
        _, reply = await self.play(ask("hi", stream=True))
        reply.close()
        assert await reply.chunk(1.0) == b""

    async def test_a_fast_model_sends_several_tokens_at_once(self):
        clock = HandClock()
        doc = ask("hi", stream=True)
        fast = Profile("sandbox-small", "small", 0, 100_000)
        reply = await Sandbox(clock, clock.sleep).send(fast, CHAT, doc, msgspec.json.encode(doc))
        assert (await reply.chunk(1.0)).count(b"data:") > 5
