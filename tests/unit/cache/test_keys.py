"""Equal keys for the same question, different ones for anything else."""

import pytest

from gateway.cache.keys import Partition, exact_key, scope_key, user_of
from tests.support.calls import call, chat

HERE = Partition(tenant="shop", model="gpt-4o", rule="r1")
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def key(one):
    return exact_key(one, HERE)


def scope(one):
    return scope_key(one, HERE, "e1/v1")


def test_a_key_is_a_sha256_and_says_nothing_of_the_text():
    assert len(key(chat("Hello"))) == 64
    assert int(key(chat("Hello")), 16) >= 0


@pytest.mark.parametrize(
    "members",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "ada"},
        {"safety_identifier": "x"},
        {"metadata": {"trace": "1"}},
        {"service_tier": "flex"},
        {"prompt_cache_key": "k"},
        {"n": 1},
        {"seed": None},
        {"logprobs": False},
        {"presence_penalty": 0},
        {"frequency_penalty": 0.0},
        {"logit_bias": {}},
        {"response_format": {"type": "text"}},
        {"store": False},
        {"tools": []},
    ],
    ids=str,
)
def test_what_does_not_shape_the_answer_does_not_shape_the_key(members):
    assert key(chat("Hello", **members)) == key(chat("Hello"))
    assert scope(chat("Hello", **members)) == scope(chat("Hello"))


def test_key_order_white_space_and_the_model_name_in_the_body_do_not_matter():
    a = call({"temperature": 0.5, "messages": [{"role": "user", "content": "Hi"}], "seed": 1})
    b = call({"seed": 1, "messages": [{"content": "Hi", "role": "user"}], "temperature": 0.5, "model": "alias"})
    assert key(a) == key(b)
    assert scope(a) == scope(b)


def test_one_and_one_point_zero_are_the_same_temperature_but_not_the_same_argument():
    assert key(chat("Hi", temperature=1)) == key(chat("Hi", temperature=1.0))
    one = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]}
    float_one = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1.0}}]}
    turn = {"role": "user", "content": "Hi"}
    assert key(call({"messages": [one, turn]}, "messages")) != key(call({"messages": [float_one, turn]}, "messages"))


def test_a_stop_string_is_a_list_of_one():
    assert key(chat("Hi", stop="x")) == key(chat("Hi", stop=["x"]))
    assert key(chat("Hi", stop="xy")) != key(chat("Hi", stop=["x", "y"]))


def test_a_default_of_another_type_is_not_the_default():
    assert key(call({"prompt": "x", "logprobs": 0}, "completions")) != key(call({"prompt": "x"}, "completions"))
    assert key(chat("x", presence_penalty=False)) != key(chat("x"))
    assert key(chat("x", n=1)) == key(chat("x"))


def test_only_the_last_user_text_may_differ_within_a_scope():
    a, b = scope(chat("What is the capital of France?")), scope(chat("France's capital?"))
    assert a.key == b.key
    assert (a.text, b.text) == ("What is the capital of France?", "France's capital?")


@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_earlier_turns_are_part_of_the_scope(endpoint):
    def asked(first, second):
        turns = [
            {"role": "user", "content": first},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": second},
        ]
        return scope(call({"input" if endpoint == "responses" else "messages": turns}, endpoint))

    assert asked("Is 17 prime?", "And 19?").key == asked("Is 17 prime?", "What about 21?").key
    assert asked("Is 17 prime?", "And 19?").key != asked("Is 18 prime?", "And 19?").key


def test_of_several_text_parts_the_last_is_compared_and_the_others_are_scope():
    def parts(*texts):
        return scope(call({"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in texts]}]}))

    assert parts("context", "question").text == "question"
    assert parts("context", "question").key == parts("context", "another").key
    assert parts("context", "question").key != parts("another context", "question").key
    assert parts("a", "bc").key != parts("ab", "c").key
    assert parts("ab").key != scope(chat("ab")).key


@pytest.mark.parametrize(
    ("endpoint", "doc"),
    [
        ("chat", {"messages": []}),
        ("chat", {"messages": "Hello"[:0] or None}),
        ("chat", {"messages": [{"role": "user", "content": None}]}),
        ("chat", {"messages": [{"role": "user", "content": []}]}),
        ("chat", {"messages": [{"role": "assistant", "content": "prefilled"}]}),
        ("chat", {"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": "5"}]}),
        ("completions", {"prompt": "Once"}),
        ("embeddings", {"input": "Once"}),
    ],
)
def test_without_a_user_text_at_the_end_there_is_no_scope(endpoint, doc):
    assert scope(call(doc, endpoint)) is None


def test_a_text_and_the_gap_that_it_leaves_cannot_be_mistaken_for_each_other():
    asked = scope_key(chat("x"), HERE, "")
    empty = call({"messages": [{"role": "user", "content": None}]})
    assert scope(empty) is None
    assert asked.key != exact_key(empty, HERE)


def test_every_fact_of_the_partition_parts():
    base = chat("Hello")
    others = [
        Partition("shop", "gpt-4o", "r1", user="ada"),
        Partition("shop", "gpt-4o", "r1", user=""),
        Partition("shop2", "gpt-4o", "r1"),
        Partition("shop", "gpt-4o-mini", "r1"),
        Partition("shop", "gpt-4o", "r2"),
        Partition("shop", "gpt-4o", "r1", epochs=(("prices", 1),)),
        Partition("shop", "gpt-4o", "r1", epochs=(("prices", 2),)),
        Partition("shopgpt-4o", "", "r1"),
        Partition("", "shopgpt-4o", "r1"),
    ]
    keys = {exact_key(base, partition) for partition in [HERE, *others]}
    scopes = {scope_key(base, partition, "e1/v1").key for partition in [HERE, *others]}
    assert len(keys) == len(scopes) == len(others) + 1
    assert not keys & scopes


def test_the_order_of_epochs_does_not_matter():
    a = Partition("t", "m", "r", epochs=(("a", 1), ("b", 2)))
    b = Partition("t", "m", "r", epochs=(("b", 2), ("a", 1)))
    assert exact_key(chat("Hi"), a) == exact_key(chat("Hi"), b)


def test_another_encoder_or_verifier_is_another_scope():
    assert scope_key(chat("Hi"), HERE, "e1/v1").key != scope_key(chat("Hi"), HERE, "e2/v1").key


def test_the_versions_and_betas_that_headers_ask_for_part():
    doc = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    plain = call(doc, "messages")
    beta = call(doc, "messages", {"anthropic-beta": "context-1m"})
    assert key(plain) != key(beta)
    assert key(plain) == key(call(doc, "messages", {"x-request-id": "7"}))


def test_the_same_body_at_another_endpoint_is_another_request():
    doc = {"messages": [{"role": "user", "content": "Hi"}]}
    assert key(call(doc, "chat")) != key(call(doc, "messages"))


def test_a_response_that_the_provider_keeps_is_not_one_that_it_does_not():
    assert key(call({"input": "Hi", "store": False}, "responses")) != key(call({"input": "Hi"}, "responses"))


@pytest.mark.parametrize(
    ("endpoint", "doc", "user"),
    [
        ("chat", {"user": "ada"}, "ada"),
        ("chat", {"user": "ada", "safety_identifier": "s"}, "s"),
        ("chat", {"user": 5}, None),
        ("chat", {"user": ""}, None),
        ("messages", {"metadata": {"user_id": "ada"}}, "ada"),
        ("messages", {"metadata": None, "user": "not this"}, None),
        ("responses", {"input": "x"}, None),
    ],
)
def test_the_end_user_is_read_from_the_body(endpoint, doc, user):
    assert user_of(call(doc, endpoint)) == user
