"""The most that a request can be billed, before it is sent: what a hard budget reserves. Pure.

Input: a token of a byte-level tokenizer covers at least one byte, so text has at most as many tokens as bytes. Images:
the provider's documented maximum. Content that is not in the body: the most that the model takes. Output: what the
caller allows, else the most that the model gives. Every token at the dearest price of its side that the request can
reach. What nothing bounds is assumed, and said to be.

A provider that answers with a dearer model than the one that was asked for passes these bounds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.core.exchange import Call, Endpoint, Plan, Target
from gateway.policy.limits import MoneyRules
from gateway.pricing.book import ModelPrice
from gateway.pricing.content import Content, content_of

PROMPT_TOKENS = 256
"""What a chat template adds to a prompt beside the messages, whose own framing is below that of their JSON."""
TOOLS_TOKENS = 1_024
"""What tools add beside their definitions. Anthropic documents up to 804 (tool use, pricing)."""
TYPED_TOOL_TOKENS = 1_024
"""What a tool of the provider's own adds: bash 245, text editor 700, computer 735 (Anthropic, pricing)."""
OPAQUE_TOKENS = 128_000
"""Assumed of a file or a conversation held elsewhere, where the model's limit is not known."""
ANTHROPIC_IMAGE_TOKENS = 4_784
"""2,576 x 1,960 pixels in patches of 28 (Anthropic, vision); models before Opus 4.7 stop at 1,568 tokens."""
MINI_IMAGE_TOKENS = 2_833 + 8 * 5_667
"""gpt-4o-mini: base and eight tiles, the most that fit in 768 x 2,048 pixels (OpenAI, images and vision)."""
IMAGE_TOKENS = 16_384
"""All others: OpenAI 10,000 patches x 1.62, Gemini below 5,000, Qwen-VL's default of 16,384."""

_OBEYS_COMPLETION_LIMIT = frozenset({"openai", "azure", "vllm", "sglang", "sandbox", "anthropic"})
"""Presets whose servers obey `max_completion_tokens`; others may pass over it in silence."""
_TEXT_ONLY = frozenset(
    {
        "model", "messages", "max_tokens", "n", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p",
        "stop", "seed", "user", "metadata", "frequency_penalty", "presence_penalty", "repetition_penalty",
        "logit_bias", "logprobs", "top_logprobs", "response_format",
    }
)  # fmt: skip
"""Members of a chat that add nothing to the prompt beside their own bytes, and have no price."""
_FREE_PATHS = ("/v1/files", "/v1/uploads", "/v1/moderations", "/v1/messages/count_tokens")
_FREE_ENDS = ("/cancel", "/input_tokens")

PriceOf = Callable[[Target, str], ModelPrice | None]
"""(target, model asked for) -> its price."""


class WorstCase(msgspec.Struct, frozen=True, gc=False):
    """Upper bounds. `micro_usd` is `None` when a price is unknown (`why` says which); `tokens` are input and output.

    `assumed`: nothing bounds the answer or something that is fetched, so an assumption stands in.
    """

    micro_usd: int | None
    tokens: int
    why: str = ""
    assumed: bool = False


class Refuse(msgspec.Struct, frozen=True):
    """The policy refuses a request under a budget because its price is unknown; `why` completes "because"."""

    why: str


NOTHING = WorstCase(0, 0)


def plan_worst_case(call: Call, plan: Plan, price_of: PriceOf, rules: MoneyRules) -> WorstCase:
    """The dearest target of the plan; unknown if any of them is. A retry that is billed twice is not in it."""
    if call.endpoint == "other":
        return _other(call)
    content = found = None
    for target in plan.targets:
        price = price_of(target, target.model or call.model or "")
        worst = None if price is None else _of_text(call, price, rules)
        if worst is None:
            content = content or content_of(call)
            worst = _at(content, call, target, price, rules)
        found = worst if found is None else _dearer(found, worst)
    return found or NOTHING


def _dearer(one: WorstCase, other: WorstCase) -> WorstCase:
    """The higher of each bound; unknown if one is."""
    micro_usd = None if one.micro_usd is None or other.micro_usd is None else max(one.micro_usd, other.micro_usd)
    tokens, assumed = max(one.tokens, other.tokens), one.assumed or other.assumed
    return WorstCase(micro_usd, tokens, other.why or one.why, assumed)


def worst_case(call: Call, target: Target, price: ModelPrice | None, rules: MoneyRules) -> WorstCase:
    """The same for one target, whose price is `price`."""
    return _other(call) if call.endpoint == "other" else _at(content_of(call), call, target, price, rules)


def reservation(worst: WorstCase, rules: MoneyRules) -> int | Refuse:
    """Micro-USD to reserve where a budget applies, by the policy's rule for unknown prices."""
    if worst.micro_usd is not None:
        return worst.micro_usd
    if rules.unknown_price == "refuse":
        return Refuse(worst.why)
    return 0 if rules.unknown_price == "allow" else rules.unknown_price


def _other(call: Call) -> WorstCase:
    """Paths that are forwarded unread: reading, deleting and uploading cost nothing, of the rest nothing is known."""
    free = call.method != "POST" or call.path.startswith(_FREE_PATHS) or call.path.endswith(_FREE_ENDS)
    return NOTHING if free else WorstCase(None, 0, f"the price of {call.path} is not known")


def _of_text(call: Call, price: ModelPrice, rules: MoneyRules) -> WorstCase | None:
    """What `_at` says of the commonest request, a chat of nothing but text, in a third of the steps.

    `None` for every other request.
    """
    doc = call.doc
    if doc is None or call.endpoint != "chat" or not _TEXT_ONLY.issuperset(doc):
        return None
    messages, limit, assumed = doc.get("messages"), doc.get("max_tokens"), False
    if limit is None:
        limit = price.max_output_tokens
        if limit is None:
            limit, assumed = rules.output_tokens, True
    if type(limit) is not int or limit <= 0 or type(messages) is not list:
        return None
    for message in messages:
        if type(message) is dict and (type(message.get("content")) is list or "audio" in message):
            return None
    tokens_in, most = len(call.raw) + PROMPT_TOKENS, price.max_input_tokens
    if most is not None and tokens_in > most and price.tiers[-1].above < most:
        tokens_in = most
    tokens_out = limit * call.n
    return WorstCase(price.at_most(tokens_in, tokens_out), tokens_in + tokens_out, "", assumed)


def _at(content: Content, call: Call, target: Target, price: ModelPrice | None, rules: MoneyRules) -> WorstCase:
    most_in = price.max_input_tokens if price is not None else None
    tokens_in, fetched = _input(content, target, call, most_in, price)
    tokens_out, assumed = _output(content, call, target, price, rules)
    tokens = tokens_in + tokens_out
    if price is None:
        return WorstCase(None, tokens, f"{target.name} has no known price", assumed or fetched)
    if content.apart is not None and not target.self_hosted:
        return WorstCase(None, tokens, content.apart, assumed or fetched)
    return WorstCase(price.at_most(tokens_in, tokens_out), tokens, "", assumed or fetched)


def _input(
    content: Content, target: Target, call: Call, most: int | None, price: ModelPrice | None
) -> tuple[int, bool]:
    """A bound of the input tokens, and whether it rests on an assumption."""
    tokens = content.bytes + PROMPT_TOKENS * content.prompts
    if content.tools:
        tokens += TOOLS_TOKENS + TYPED_TOOL_TOKENS * content.typed_tools
    if content.images:
        tokens += content.images * _image_tokens(target, call)
    if most is not None and (price is None or price.tiers[-1].above < most):
        most *= content.prompts
        return (most if content.opaque or tokens > most else tokens), False
    return tokens + OPAQUE_TOKENS * content.opaque, bool(content.opaque)


def _image_tokens(target: Target, call: Call) -> int:
    if target.provider == "anthropic":
        return ANTHROPIC_IMAGE_TOKENS
    return MINI_IMAGE_TOKENS if "4o-mini" in (target.model or call.model or "") else IMAGE_TOKENS


def _output(
    content: Content, call: Call, target: Target, price: ModelPrice | None, rules: MoneyRules
) -> tuple[int, bool]:
    """A bound of the output tokens of all choices, and whether it is assumed. Reasoning and thinking are output."""
    endpoint, doc, assumed = call.endpoint, call.doc or {}, False
    if endpoint == "embeddings":
        return 0, False
    allowed, stated = _allowed(endpoint, doc, target)
    if not stated:
        known = price.max_output_tokens if price is not None else None
        assumed = known is None
        allowed = max(allowed, rules.output_tokens if known is None else known)
    if endpoint in ("completions", "chat"):
        best_of = doc.get("best_of")
        choices = max(call.n, best_of) if type(best_of) is int else call.n
        allowed *= choices * content.prompts
        if doc.get("prediction") is not None:  # what of it is not used is billed as output (OpenAI, predicted outputs)
            allowed += len(call.raw) * choices
    return allowed, assumed


def _allowed(endpoint: Endpoint, doc: Mapping[str, Any], target: Target) -> tuple[int, bool]:
    """The largest limit that the caller states in the endpoint's own words; whether the target obeys one of them."""
    limit = _positive(doc.get("max_output_tokens" if endpoint == "responses" else "max_tokens"))
    if endpoint != "chat" or "max_completion_tokens" not in doc:
        return limit, limit > 0
    other = _positive(doc["max_completion_tokens"])
    obeyed = limit or (other and target.options.get("preset", target.provider) in _OBEYS_COMPLETION_LIMIT)
    return max(limit, other), bool(obeyed)


def _positive(value: object) -> int:
    """0 for what bounds nothing: llama.cpp and Ollama read -1 as endless."""
    return value if type(value) is int and value > 0 else 0
