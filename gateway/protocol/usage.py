"""Token counts of every provider's usage object, normalised into disjoint classes.

OpenAI counts cached tokens inside `prompt_tokens`; Anthropic counts them beside `input_tokens`. A missing, negative
or mistyped count is 0: usage is evidence, and damaged evidence must not fail a request that was answered.
"""

from typing import Any

from gateway.core.exchange import Usage

CHARS_PER_TOKEN = 4


def from_openai(usage: dict[str, Any]) -> Usage:
    """Chat, completions, embeddings; DeepSeek's `prompt_cache_hit_tokens` counts as cached."""
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") if details else _count(usage, "prompt_cache_hit_tokens")
    thought = usage.get("completion_tokens_details")
    return _inclusive(
        _count(usage, "prompt_tokens"),
        cached,
        _count(usage, "completion_tokens"),
        _count(thought, "reasoning_tokens") if thought else 0,
    )


def from_responses(usage: dict[str, Any]) -> Usage:
    """The Responses API."""
    return _inclusive(
        _count(usage, "input_tokens"),
        _count(usage.get("input_tokens_details"), "cached_tokens"),
        _count(usage, "output_tokens"),
        _count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def from_anthropic(usage: dict[str, Any]) -> Usage:
    """Anthropic Messages: `input_tokens` are the uncached ones; writes without a split live five minutes."""
    split = usage.get("cache_creation")
    written = _count(usage, "cache_creation_input_tokens")
    hour = min(_count(split, "ephemeral_1h_input_tokens"), written) if split else 0
    output = _count(usage, "output_tokens")
    thought = min(_count(usage.get("output_tokens_details"), "thinking_tokens"), output)
    return Usage(
        _count(usage, "input_tokens"), _count(usage, "cache_read_input_tokens"), written - hour, hour, output, thought
    )


def _inclusive(prompt: int, cached: int, output: int, reasoning: int) -> Usage:
    cached = min(cached, prompt)
    return Usage(prompt - cached, cached, 0, 0, output, min(reasoning, output))


def _count(source: Any, name: str) -> int:
    value = source.get(name) if type(source) is dict else None
    return value if type(value) is int and value > 0 else 0


def estimate_tokens(chars: int) -> int:
    """Tokens in `chars` characters by the rule of four, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)
