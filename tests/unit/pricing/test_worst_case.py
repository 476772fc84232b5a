import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Call, Plan, Target, Usage
from gateway.policy.limits import MoneyRules
from gateway.pricing.book import ModelPrice, Tier, load_book
from gateway.pricing.content import content_of
from gateway.pricing.resolve import price_of
from gateway.pricing.worst_case import (
    ANTHROPIC_IMAGE_TOKENS,
    IMAGE_TOKENS,
    MINI_IMAGE_TOKENS,
    NOTHING,
    OPAQUE_TOKENS,
    PROMPT_TOKENS,
    TOOLS_TOKENS,
    TYPED_TOOL_TOKENS,
    Refuse,
    WorstCase,
    plan_worst_case,
    reservation,
    worst_case,
)
from gateway.protocol.openai import parse_call, parse_other

BOOK = load_book(Path(__file__).parents[3] / "routing_policies/prices.yaml")
DAY = date(2026, 11, 21)
RULES = MoneyRules(output_tokens=5_000)
OPENAI = Target("gpt", "openai_compatible", model="gpt-4o", options={"preset": "openai"})
CLAUDE = Target("claude", "anthropic", model="claude-sonnet-4-5", options={"preset": "anthropic"})
LOCAL = Target("local", "openai_compatible", model="llama", self_hosted=True, options={"preset": "vllm"})
LIST = ModelPrice(
    (Tier(2_500_000, 10_000_000, cached_read=1_250_000),), max_input_tokens=128_000, max_output_tokens=16_384
)
OPEN = ModelPrice((Tier(1_000_000, 2_000_000),))
"""$1 and $2 per million, of a model whose limits nobody states."""


def call(doc, endpoint="chat") -> Call:
    return parse_call(endpoint, "POST", "/v1/" + endpoint, b"", [], {}, json.dumps({"model": "m", **doc}).encode())


def chat(content="hello", **more):
    return call({"messages": [{"role": "user", "content": content}], **more})


def bound(request, price=OPEN, target=OPENAI) -> tuple[int, int]:
    """(input tokens, output tokens) by two prices that tell them apart."""
    inputs = worst_case(request, target, priced(price, 1_000_000, 0), RULES).micro_usd
    outputs = worst_case(request, target, priced(price, 0, 1_000_000), RULES).micro_usd
    rounding = 2
    return inputs - rounding, max(0, outputs - rounding)


def priced(price, into, out):
    tier = Tier(into, out)
    return ModelPrice((tier,), max_input_tokens=price.max_input_tokens, max_output_tokens=price.max_output_tokens)


def test_a_chat_is_bound_by_its_bytes_and_the_callers_limit():
    request = chat(max_tokens=100)
    assert bound(request) == (len(request.raw) + PROMPT_TOKENS, 100)
    worst = worst_case(request, OPENAI, OPEN, RULES)
    assert worst.tokens == len(request.raw) + PROMPT_TOKENS + 100
    assert worst.micro_usd == len(request.raw) + PROMPT_TOKENS + 200 + 2
    assert not worst.assumed


def test_without_a_limit_the_models_own_holds_and_without_that_the_policys():
    assert bound(chat(), LIST)[1] == 16_384
    assert bound(chat())[1] == 5_000
    assert worst_case(chat(), OPENAI, OPEN, RULES).assumed
    assert not worst_case(chat(), OPENAI, LIST, RULES).assumed


def test_every_choice_may_be_as_long():
    assert bound(chat(max_tokens=10, n=4))[1] == 40
    assert bound(chat(n=2), LIST)[1] == 2 * 16_384
    assert bound(call({"prompt": "x", "max_tokens": 10, "n": 2, "best_of": 5}, "completions"))[1] == 50


def test_a_list_of_prompts_is_answered_one_by_one():
    request = call({"prompt": ["a", "b", "c"], "max_tokens": 10}, "completions")
    assert bound(request) == (len(request.raw) + 3 * PROMPT_TOKENS, 30)
    tokens = call({"prompt": [1, 2, 3], "max_tokens": 10}, "completions")
    assert bound(tokens) == (len(tokens.raw) + PROMPT_TOKENS, 10)


@pytest.mark.parametrize(
    ("limits", "target", "stated"),
    [
        ({"max_completion_tokens": 50}, OPENAI, 50),
        ({"max_completion_tokens": 50}, LOCAL, 50),
        ({"max_completion_tokens": 50}, CLAUDE, 50),
        ({"max_completion_tokens": 50}, Target("t", "openai_compatible", options={"preset": "ollama"}), 5_000),
        ({"max_completion_tokens": 9_000}, Target("t", "openai_compatible", options={"preset": "ollama"}), 9_000),
        ({"max_completion_tokens": 50, "max_tokens": 700}, OPENAI, 700),
        ({"max_output_tokens": 50}, OPENAI, 5_000),
        ({"max_tokens": -1}, OPENAI, 5_000),
        ({"max_tokens": 0}, OPENAI, 5_000),
        ({"max_completion_tokens": 50, "max_tokens": "many"}, OPENAI, 50),
    ],
)
def test_only_limits_that_the_server_obeys_bound_the_answer(limits, target, stated):
    assert bound(chat(**limits), target=target)[1] == stated


def test_each_endpoint_has_its_own_word_for_the_limit():
    assert bound(call({"input": "x", "max_output_tokens": 70}, "responses"))[1] == 70
    assert bound(call({"input": "x", "max_tokens": 70}, "responses"))[1] == 5_000
    assert bound(call({"messages": [], "max_tokens": 70}, "messages"), target=CLAUDE)[1] == 70
    assert bound(call({"input": ["x"] * 9}, "embeddings"))[1] == 0


def test_a_rejected_prediction_is_billed_as_output():
    request = chat(max_tokens=10, prediction={"type": "content", "content": "x" * 500})
    assert bound(request)[1] == 10 + len(request.raw)


def test_a_prompt_is_never_longer_than_the_model_takes():
    request = chat("x" * 400_000, max_tokens=1)
    assert bound(request, LIST)[0] == 128_000
    embedding = ModelPrice((Tier(1, 1),), max_input_tokens=8_191)
    assert bound(call({"input": ["x" * 90_000] * 3}, "embeddings"), embedding)[0] == 3 * 8_191


def test_a_limit_below_a_tier_is_not_believed():
    price = ModelPrice((Tier(1_000_000, 0), Tier(2_000_000, 0, above=200_000)), max_input_tokens=200_000)
    worst = worst_case(chat("x" * 400_000, max_tokens=1), OPENAI, price, RULES)
    assert worst.micro_usd > 2 * 400_000


PNG = "data:image/png;base64," + "A" * 60_000
IMAGES = [
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]}),
    ("chat", {"messages": [{"role": "tool", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}]}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]}),
    ("responses", {"input": [{"type": "message", "content": [{"type": "input_image", "file_id": "f"}]}]}),
    ("responses", {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": PNG}]}]}),
    (
        "responses",
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": PNG}}]},
    ),
    (
        "messages",
        {"messages": [{"content": [{"type": "image", "source": {"type": "base64", "data": "A" * 60_000}}]}]},
    ),
    (
        "messages",
        {
            "messages": [
                {"content": [{"type": "tool_result", "content": [{"type": "image", "source": {"type": "url"}}]}]}
            ]
        },
    ),
]


@pytest.mark.parametrize(("endpoint", "doc"), IMAGES)
def test_an_image_counts_as_the_largest_that_the_provider_makes_of_one(endpoint, doc):
    request = call({**doc, "max_tokens": 1}, endpoint)
    found = content_of(request)
    assert (found.images, found.opaque) == (1, 0)
    assert found.bytes < 1_000
    assert bound(request)[0] == found.bytes + PROMPT_TOKENS + IMAGE_TOKENS
    assert bound(request, target=CLAUDE)[0] == found.bytes + PROMPT_TOKENS + ANTHROPIC_IMAGE_TOKENS
    mini = Target("mini", "openai_compatible", model="gpt-4o-mini-2024-07-18")
    assert bound(request, target=mini)[0] == found.bytes + PROMPT_TOKENS + MINI_IMAGE_TOKENS


OPAQUE = [
    ("chat", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://x"}}]}]}),
    ("chat", {"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}),
    ("chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
    ("chat", {"messages": [], "extra_body": {"google": {"cached_content": "c"}}}),
    ("responses", {"input": "go on", "previous_response_id": "r"}),
    ("responses", {"input": "go on", "conversation": {"id": "c"}}),
    ("responses", {"prompt": {"id": "p"}}),
    ("responses", {"input": [{"type": "item_reference", "id": "i"}]}),
    ("responses", {"input": [{"type": "reasoning", "id": "r", "summary": []}]}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]}),
    ("messages", {"messages": [{"content": [{"type": "document", "source": {"type": "url", "url": "https://x"}}]}]}),
    ("messages", {"messages": [{"content": [{"type": "document", "source": {"type": "base64", "data": "QQ=="}}]}]}),
    ("messages", {"messages": [{"content": [{"type": "container_upload", "file_id": "f"}]}]}),
]


@pytest.mark.parametrize(("endpoint", "doc"), OPAQUE)
def test_content_that_is_not_in_the_body_is_all_that_the_model_takes(endpoint, doc):
    request = call({**doc, "max_tokens": 1, "max_output_tokens": 1}, endpoint)
    assert content_of(request).opaque == 1
    assert bound(request, LIST)[0] == 128_000
    assert bound(request)[0] == len(request.raw) + PROMPT_TOKENS + OPAQUE_TOKENS
    assert worst_case(request, OPENAI, OPEN, RULES).assumed
    assert not worst_case(request, OPENAI, LIST, RULES).assumed


@pytest.mark.parametrize(
    ("endpoint", "doc"),
    [
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "see https://x file_id"}]}]}),
        ("chat", {"messages": ["text", None, {"content": None}]}),
        ("responses", {"input": "see https://x", "previous_response_id": None, "conversation": None}),
        ("responses", {"input": [{"type": "reasoning", "encrypted_content": "x"}, {"type": "function_call"}]}),
        ("messages", {"system": [{"type": "text", "text": "x"}], "messages": [{"content": [{"type": "tool_use"}]}]}),
        (
            "messages",
            {"messages": [{"content": [{"type": "document", "source": {"type": "text", "data": "plain"}}]}]},
        ),
    ],
)
def test_text_is_bound_by_its_bytes(endpoint, doc):
    found = content_of(call(doc, endpoint))
    assert (found.images, found.opaque, found.apart) == (0, 0, None)


def test_a_part_hidden_behind_escapes_is_seen():
    raw = b'{"model":"m","messages":[{"role":"user","content":[{"type":"\\u0066ile","file":{"\\u0066ile_id":"f"}}]}]}'
    assert content_of(parse_call("chat", "POST", "/v1/chat/completions", b"", [], {}, raw)).opaque == 1


def test_parts_nested_without_end_are_of_unknown_size():
    part = {"type": "text"}
    for _ in range(60):
        part = {"type": "tool_result", "content": [part]}
    assert content_of(call({"messages": [{"content": [part]}]}, "messages")).opaque == 1


def test_tools_add_what_the_provider_says_of_them():
    plain = chat(max_tokens=1, tools=[{"type": "function", "function": {"name": "f"}}])
    assert bound(plain)[0] == len(plain.raw) + PROMPT_TOKENS + TOOLS_TOKENS
    typed = call({"messages": [], "max_tokens": 1, "tools": [{"type": "bash_20250124"}, {"name": "f"}]}, "messages")
    assert bound(typed, target=CLAUDE)[0] == len(typed.raw) + PROMPT_TOKENS + TOOLS_TOKENS + TYPED_TOOL_TOKENS


@pytest.mark.parametrize(
    ("endpoint", "doc"),
    [
        ("responses", {"tools": [{"type": "web_search"}]}),
        ("responses", {"tools": [{"type": "function"}, {"type": "code_interpreter"}]}),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("messages", {"mcp_servers": [{"url": "https://x"}]}),
        ("chat", {"web_search_options": {"a": 1}}),
        ("chat", {"service_tier": "priority"}),
        ("messages", {"speed": "fast"}),
        ("messages", {"inference_geo": "us"}),
    ],
)
def test_what_the_price_book_does_not_price_has_no_known_price(endpoint, doc):
    worst = worst_case(call(doc, endpoint), OPENAI, LIST, RULES)
    assert worst.micro_usd is None
    assert worst.why
    assert worst_case(call(doc, endpoint), LOCAL, LIST, RULES).micro_usd is not None


@pytest.mark.parametrize("doc", [{"service_tier": "flex"}, {"service_tier": None}, {"tools": [{"type": "custom"}]}])
def test_what_costs_no_more_than_the_list_is_priced_by_it(doc):
    assert worst_case(chat(**doc), OPENAI, LIST, RULES).micro_usd is not None


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/v1/models/x", True),
        ("DELETE", "/v1/files/f", True),
        ("POST", "/v1/files", True),
        ("POST", "/v1/messages/count_tokens", True),
        ("POST", "/v1/batches/b/cancel", True),
        ("POST", "/v1/images/generations", False),
        ("POST", "/v1/batches", False),
    ],
)
def test_of_other_paths_only_the_free_ones_have_a_known_price(method, path, known):
    request = parse_other(method, path, b"", [], {}, b"")
    worst = worst_case(request, OPENAI, LIST, RULES)
    assert (worst == NOTHING) is known
    assert (worst.micro_usd is None) is not known


def test_a_plan_costs_what_its_dearest_target_does():
    prices = {"gpt": LIST, "claude": ModelPrice((Tier(3_000_000, 15_000_000, cache_write_1h=6_000_000),))}
    request = chat(max_tokens=100)
    plan = Plan("r", (OPENAI, CLAUDE))
    worst = plan_worst_case(request, plan, lambda target, model: prices[target.name], RULES)
    tokens = len(request.raw) + PROMPT_TOKENS
    assert worst == WorstCase(tokens * 6 + 1_500 + 2, tokens + 100)


def test_a_plan_with_an_unpriced_target_has_no_known_price():
    plan = Plan("r", (OPENAI, LOCAL))
    worst = plan_worst_case(chat(), plan, lambda target, model: LIST if target is OPENAI else None, RULES)
    assert worst.micro_usd is None
    assert "local" in worst.why
    assert worst.tokens > 0


def test_a_target_is_priced_as_the_model_that_is_asked_for():
    asked = []
    plan = Plan("r", (OPENAI, Target("as-called", "openai_compatible")))
    plan_worst_case(chat(), plan, lambda target, model: asked.append(model), RULES)
    assert asked == ["gpt-4o", "m"]


@pytest.mark.parametrize(("rule", "reserved"), [("allow", 0), (500_000, 500_000), ("refuse", Refuse("why"))])
def test_the_policy_decides_about_unknown_prices(rule, reserved):
    rules = MoneyRules(unknown_price=rule)
    assert reservation(WorstCase(None, 5, "why"), rules) == reserved
    assert reservation(WorstCase(7, 5), rules) == 7


def test_a_free_model_reserves_nothing():
    assert worst_case(chat(), LOCAL, ModelPrice((Tier(0, 0),)), RULES).micro_usd == 0


def test_the_price_book_bounds_known_models():
    price = price_of(CLAUDE, "claude-sonnet-4-5", BOOK, DAY)
    assert (price.max_input_tokens, price.max_output_tokens) == (200_000, 64_000)
    assert bound(chat(), price, CLAUDE)[1] == 64_000
    own = Target(
        "t", "openai_compatible", model="gpt-4o", options={"preset": "openai", "price": {"input": 1, "output": 1}}
    )
    assert price_of(own, "gpt-4o", BOOK, DAY).max_output_tokens == 16_384


prices = st.integers(0, 80_000_000)
maybe = st.none() | prices


@st.composite
def price_lists(draw):
    starts = [0, *sorted(draw(st.sets(st.integers(1, 5_000), max_size=2)))]
    tiers = [Tier(*draw(st.tuples(prices, prices, maybe, maybe, maybe, maybe)), above) for above in starts]
    most = draw(st.none() | st.integers(tiers[-1].above + 1, 9_000))
    return ModelPrice(
        tuple(tiers),
        None,
        draw(st.integers(0, 50)),
        max_input_tokens=most,
        max_output_tokens=draw(st.none() | st.integers(1, 900)),
    )


TEXTS = st.text(max_size=60)


@st.composite
def requests(draw):
    """A request and the choices and prompts that it asks for."""
    endpoint = draw(st.sampled_from(["chat", "completions", "embeddings", "messages", "responses"]))
    texts = draw(st.lists(TEXTS, min_size=1, max_size=4))
    doc = {"model": "m"}
    prompts = 1
    if endpoint in ("chat", "messages"):
        doc["messages"] = [{"role": "user", "content": text} for text in texts]
    elif endpoint == "responses":
        doc["input"] = [{"role": "user", "content": [{"type": "input_text", "text": text}]} for text in texts]
    else:
        doc["prompt" if endpoint == "completions" else "input"] = texts
        prompts = len(texts)
    word = {"responses": "max_output_tokens"}.get(endpoint, "max_tokens")
    limit = draw(st.none() | st.integers(1, 500))
    choices = draw(st.integers(1, 3)) if endpoint in ("chat", "completions") else 1
    doc |= {"n": choices} | ({word: limit} if limit else {})
    raw = json.dumps(doc, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
    request = parse_call(endpoint, "POST", "/v1/x", b"", [], {}, raw)
    return request, sum(len(text.encode("utf-8", "replace")) for text in texts), limit, choices * prompts, prompts


@given(st.data(), requests(), price_lists())
@settings(deadline=None, max_examples=300)
def test_no_usage_that_a_request_allows_costs_more_than_its_worst_case(data, made, price):
    request, text_bytes, limit, answers, prompts = made
    most_in = text_bytes + PROMPT_TOKENS * prompts
    if price.max_input_tokens is not None:
        most_in = min(most_in, price.max_input_tokens * prompts)
    each = limit or price.max_output_tokens or RULES.output_tokens
    most_out = 0 if request.endpoint == "embeddings" else each * answers
    cuts = sorted(data.draw(st.lists(st.integers(0, most_in), min_size=4, max_size=4)))
    output = data.draw(st.integers(0, most_out) | st.just(most_out))
    usage = Usage(
        cuts[0] if data.draw(st.booleans()) else most_in - (cuts[3] - cuts[0]),
        cuts[1] - cuts[0],
        cuts[2] - cuts[1],
        cuts[3] - cuts[2],
        output,
        data.draw(st.integers(0, output)),
    )
    assert usage.input <= most_in
    worst = worst_case(request, OPENAI, price, RULES)
    assert price.cost(usage).total <= worst.micro_usd
    assert usage.input + usage.output <= worst.tokens


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "content", "role", "source", "output", "data", "image_url", "url"]), inner, max_size=3), max_leaves=15))  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_any_shape_of_content_has_a_bound(value):
    for endpoint, doc in (
        ("chat", {"messages": value, "tools": value, "service_tier": value, "prediction": value}),
        ("chat", {"messages": [{"content": [value, value], "audio": value}], "tools": [value]}),
        ("messages", {"system": value, "messages": [{"content": value}], "mcp_servers": value}),
        ("responses", {"input": [value], "prompt": value, "conversation": value}),
        ("completions", {"prompt": value, "best_of": value}),
        ("embeddings", {"input": value}),
    ):
        assert worst_case(call(doc, endpoint), OPENAI, LIST, RULES).tokens > 0


MEMBERS = {
    "max_tokens": st.sampled_from([None, -1, 0, 1, 64, 100_000]),
    "max_completion_tokens": st.sampled_from([None, 7, 5_000]),
    "n": st.integers(1, 4),
    "best_of": st.integers(1, 4),
    "stop": st.just(["\n"]),
    "response_format": st.just({"type": "json_object"}),
    "prediction": st.just({"type": "content", "content": "x"}),
    "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
    "service_tier": st.sampled_from(["auto", "priority"]),
    "audio": st.just({"voice": "alloy"}),
    "unheard_of": st.just({"file_id": "f"}),
}
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=40)}),
        st.just({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}),
        st.just({"role": "assistant", "content": None, "audio": {"id": "a"}}),
        st.just({"role": "assistant", "content": "said", "audio": {"id": "a"}}),
        st.just({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}),
        st.sampled_from(["text", None, {}, {"role": "user", "content": {"type": "file"}}]),
    ),
    max_size=3,
)


PRICES = [LIST, OPEN, ModelPrice((Tier(5, 7), Tier(9, 11, above=250)), max_input_tokens=300, request=3)]


@given(
    st.fixed_dictionaries({"messages": MESSAGES | st.just("text")}, optional=MEMBERS),
    st.sampled_from(PRICES),
    st.sampled_from([OPENAI, CLAUDE, LOCAL]),
)
@settings(max_examples=600)
def test_the_short_way_of_a_plain_chat_comes_to_the_same(doc, price, target):
    request = call(doc)
    short = plan_worst_case(request, Plan("r", (target,)), lambda *_: price, RULES)
    assert short == worst_case(request, target, price, RULES)


@given(
    st.fixed_dictionaries({"messages": MESSAGES}, optional=MEMBERS),
    st.lists(st.tuples(st.sampled_from([OPENAI, CLAUDE, LOCAL]), st.sampled_from([None, *PRICES])), max_size=4),
)
@settings(max_examples=400)
def test_a_plan_has_the_highest_bounds_of_its_targets_and_none_where_a_price_is_unknown(doc, chosen):
    request = call(doc)
    prices = iter([price for _, price in chosen])
    plan = Plan("r", tuple(target for target, _ in chosen))
    worst = plan_worst_case(request, plan, lambda *_: next(prices), RULES)
    each = [worst_case(request, target, price, RULES) for target, price in chosen]
    unknown = [found.why for found in each if found.micro_usd is None]
    assert worst == WorstCase(
        None if unknown else max((found.micro_usd for found in each), default=0),
        max((found.tokens for found in each), default=0),
        unknown[-1] if unknown else "",
        any(found.assumed for found in each),
    )
