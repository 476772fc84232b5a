"""A chat request as a request of Anthropic's Messages API; decides what each field becomes, and knows no transport.

Renamed or reshaped: `messages` (see `translate_turns`), `max_completion_tokens` or `max_tokens`, `stop`, `tools`,
`tool_choice`, `parallel_tool_calls`, `response_format` (`json_schema` becomes `output_config.format`), `user` or
`safety_identifier` (`metadata.user_id`), `service_tier` (`default` becomes `standard_only`), `reasoning_effort`.

Sent as they are, for Anthropic to judge: `temperature` (its maximum is 1), `top_p`, `top_k`, `stream`, `thinking`,
`cache_control`.

Ignored, because the answer would be no different: `store`, `metadata`, `stream_options`, `prompt_cache_key`,
`prompt_cache_retention`, `prompt_cache_options`, `prediction`, and `seed` (which promises nothing).

Anything else is refused by name, unless it is null or at the value that asks for nothing (`n: 1`, a penalty of 0).

`reasoning_effort` turns thinking on. Models up to the 4.5 generation take a budget in tokens (minimal 1,024,
low 2,048, medium 8,192, high 16,384, xhigh 24,576, max 32,000), cut to four fifths of `max_tokens` where the caller
set one, and added to the default where not. Later models think adaptively, with `output_config.effort`. An explicit
`thinking` wins. In the middle of a tool loop whose calls carry no signed thinking, the older models refuse to think,
so the effort is not sent for that step.

Sources: Anthropic's Messages, extended thinking, effort and structured outputs pages; OpenAI's chat reference.
"""

import re
from typing import Any

from gateway.core.errors import BadRequest
from gateway.protocol.translate import Json, array, mapping, refuse_others, refused, string
from gateway.protocol.translate_turns import conversation

_AS_THEY_ARE = ("temperature", "top_p", "top_k", "stream", "thinking", "cache_control")
_RESHAPED = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "user",
    "safety_identifier",
    "service_tier",
    "reasoning_effort",
)
_IGNORED = (
    "store",
    "metadata",
    "stream_options",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "prediction",
    "seed",
)
_KNOWN = frozenset((*_AS_THEY_ARE, *_RESHAPED, *_IGNORED))
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "functions": ([],),
}

MIN_THINKING_TOKENS = 1_024
THINKING_TOKENS = {
    "minimal": MIN_THINKING_TOKENS,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_000,
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_THINKS_BY_BUDGET = re.compile(
    r"claude-(?:3[-.]7-sonnet|(?:opus|sonnet|haiku)-4(?:[-.][0-5])?(?:[-@]\d{8}|-latest|-v\d|:|$))"
)


def chat_to_messages_request(doc: Json, model: str, default_max_tokens: int = 4096) -> Json:
    """The Messages request for `model`; `default_max_tokens` stands in where the caller set no limit.

    Raises `BadRequest`, with `param`, for what is malformed and for what Anthropic's API cannot express.
    """
    refuse_others(doc, _KNOWN, _NEUTRAL, "Anthropic's API")
    system, turns = conversation(doc.get("messages"))
    out: Json = {"model": model, "messages": turns}
    if system:
        out["system"] = system
    for key in _AS_THEY_ARE:
        if doc.get(key) is not None:
            out[key] = doc[key]
    _stop(out, doc)
    _tools(out, doc)
    _tool_choice(out, doc)
    _response_format(out, doc)
    _caller(out, doc)
    limit = doc.get("max_completion_tokens")
    limit = doc.get("max_tokens") if limit is None else limit
    out["max_tokens"] = default_max_tokens if limit is None else limit
    if doc.get("reasoning_effort") is not None:
        _effort(out, string(doc["reasoning_effort"], "reasoning_effort"), limit)
    return out


def _stop(out: Json, doc: Json) -> None:
    stop = doc.get("stop")
    if stop is None:
        return
    words = [stop] if isinstance(stop, str) else array(stop, "stop")
    out["stop_sequences"] = [string(word, "stop") for word in words]


def _tools(out: Json, doc: Json) -> None:
    tools = array(doc.get("tools") or [], "tools")
    if tools:
        out["tools"] = [_tool(mapping(tool, f"tools[{i}]"), f"tools[{i}]") for i, tool in enumerate(tools)]


def _tool(tool: Json, at: str) -> Json:
    if tool.get("type") != "function":
        raise refused(f"{at}.type", "only function tools can be.")
    function = mapping(tool.get("function"), f"{at}.function")
    schema = mapping(function.get("parameters") or {}, f"{at}.function.parameters")
    out: Json = {"name": string(function.get("name"), f"{at}.function.name")}
    if function.get("description"):
        out["description"] = string(function["description"], f"{at}.function.description")
    out["input_schema"] = schema if "type" in schema else {"type": "object", **(schema or {"properties": {}})}
    if function.get("strict"):
        out["strict"] = True
    cache_control = tool.get("cache_control") or function.get("cache_control")
    if cache_control is not None:
        out["cache_control"] = cache_control
    return out


def _tool_choice(out: Json, doc: Json) -> None:
    if "tools" not in out:
        return
    choice = _choice(doc.get("tool_choice"))
    if doc.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        out["tool_choice"] = choice


def _choice(choice: Any) -> Json | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        kind = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
        if kind is None:
            raise BadRequest(f"'tool_choice' cannot be {choice[:64]!r}.", param="tool_choice", code="invalid_value")
        return {"type": kind}
    if mapping(choice, "tool_choice").get("type") != "function":
        raise refused("tool_choice.type", "only a function can be named.")
    function = mapping(choice.get("function"), "tool_choice.function")
    return {"type": "tool", "name": string(function.get("name"), "tool_choice.function.name")}


def _response_format(out: Json, doc: Json) -> None:
    if doc.get("response_format") is None:
        return
    form = mapping(doc["response_format"], "response_format")
    kind = form.get("type")
    if kind == "text":
        return
    if kind != "json_schema":
        raise refused("response_format.type", "Anthropic's API takes a json_schema, not an open format.")
    named = mapping(form.get("json_schema"), "response_format.json_schema")
    schema = mapping(named.get("schema"), "response_format.json_schema.schema")
    out["output_config"] = {"format": {"type": "json_schema", "schema": schema}}


def _caller(out: Json, doc: Json) -> None:
    user = doc.get("user") or doc.get("safety_identifier")
    if user:
        out["metadata"] = {"user_id": string(user, "user")}
    tier = doc.get("service_tier")
    if tier in ("default", "standard_only"):
        out["service_tier"] = "standard_only"
    elif tier not in (None, "auto"):
        raise refused("service_tier", "Anthropic's API has no such tier.")


def _effort(out: Json, effort: str, limit: Any) -> None:
    if effort != "none" and effort not in _EFFORTS:
        raise refused("reasoning_effort", f"{effort[:64]!r} is not an effort.")
    if not _THINKS_BY_BUDGET.search(out["model"]):
        out.setdefault("thinking", {"type": "disabled"} if effort == "none" else {"type": "adaptive"})
        if effort != "none":
            out["output_config"] = {**out.get("output_config", {}), "effort": _EFFORTS[effort]}
        return
    if effort == "none" or "thinking" in out or _unsigned_tool_loop(out["messages"]):
        return
    budget = THINKING_TOKENS[effort]
    if limit is None:
        out["max_tokens"] += budget
    elif type(limit) is not int or limit <= MIN_THINKING_TOKENS:
        raise refused("reasoning_effort", f"thinking needs max_completion_tokens over {MIN_THINKING_TOKENS:,}.")
    else:
        budget = min(budget, max(MIN_THINKING_TOKENS, limit * 4 // 5))
    out["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _unsigned_tool_loop(turns: list[Json]) -> bool:
    """The next answer continues a turn whose tool calls were sent back without their signed thinking."""
    if len(turns) < 2 or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking")
