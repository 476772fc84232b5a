"""Usage objects as each provider sends them, and the disjoint classes that they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.protocol.usage import estimate_tokens, from_anthropic, from_openai, from_responses

GOLDEN = {
    "OpenAI chat with cache and reasoning": (
        from_openai,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 0, "accepted_prediction_tokens": 0},
        },
        Usage(uncached_input=86, cache_read=1920, output=300, reasoning=192),
    ),
    "OpenAI embeddings": (from_openai, {"prompt_tokens": 8, "total_tokens": 8}, Usage(uncached_input=8)),
    "OpenAI responses": (
        from_responses,
        {
            "input_tokens": 75,
            "input_tokens_details": {"cached_tokens": 64},
            "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        },
        Usage(uncached_input=11, cache_read=64, output=1186, reasoning=1024),
    ),
    "vLLM": (
        from_openai,
        {
            "prompt_tokens": 1749,
            "total_tokens": 1757,
            "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 1728},
        },
        Usage(uncached_input=21, cache_read=1728, output=8),
    ),
    "vLLM without details": (
        from_openai,
        {"prompt_tokens": 5, "total_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None},
        Usage(uncached_input=5, output=4),
    ),
    "DeepSeek": (
        from_openai,
        {"prompt_tokens": 100, "completion_tokens": 10, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        Usage(uncached_input=36, cache_read=64, output=10),
    ),
    "Mistral": (from_openai, {"prompt_tokens": 14, "total_tokens": 20, "completion_tokens": 6}, Usage(14, 0, 0, 0, 6)),
    "Gemini's OpenAI format": (
        from_openai,
        {"completion_tokens": 40, "prompt_tokens": 10, "total_tokens": 250},
        Usage(uncached_input=10, output=40),
    ),
    "Anthropic without cache": (
        from_anthropic,
        {"input_tokens": 10, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        Usage(uncached_input=10, output=20),
    ),
    "Anthropic with thinking": (
        from_anthropic,
        {"input_tokens": 10, "output_tokens": 200, "output_tokens_details": {"thinking_tokens": 150}},
        Usage(uncached_input=10, output=200, reasoning=150),
    ),
    "Anthropic with both caches": (
        from_anthropic,
        {
            "input_tokens": 50,
            "cache_read_input_tokens": 100_000,
            "cache_creation_input_tokens": 248,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
        },
        Usage(uncached_input=50, cache_read=100_000, cache_write_5m=148, cache_write_1h=100, output=503),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_each_providers_counts_become_the_same_classes(name):
    normalise, wire, expected = GOLDEN[name]
    assert normalise(wire) == expected


def test_all_input_is_counted_once():
    _, wire, _ = GOLDEN["Anthropic with both caches"]
    assert from_anthropic(wire).input == 50 + 100_000 + 248


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "input_tokens",
                "output_tokens", "cache_creation", "ephemeral_1h_input_tokens", "cache_creation_input_tokens",
                "input_tokens_details", "completion_tokens_details", "reasoning_tokens", "prompt_cache_hit_tokens",
            ]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    JUNK.filter(lambda value: isinstance(value, dict)), st.sampled_from([from_openai, from_responses, from_anthropic])
)
def test_damaged_usage_never_raises_and_never_counts_below_zero(wire, normalise):
    usage = normalise(wire)
    assert min(usage.uncached_input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output) >= 0
    assert 0 <= usage.reasoning <= usage.output


@pytest.mark.parametrize(("chars", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_an_estimate_is_four_characters_a_token_rounded_up(chars, tokens):
    assert estimate_tokens(chars) == tokens
