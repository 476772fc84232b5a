"""Anthropic's words beside OpenAI's: error bodies, stop reasons and usage objects, each way.

Status codes are never changed: both SDKs raise by status, and 529 is a server error to the OpenAI SDK too.
Source: Anthropic's API reference (errors, stop reasons) and the error types of its Python SDK.
"""

from typing import Any

import msgspec

from gateway.core.errors import error_body

MAX_MESSAGE_CHARS = 2_000

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_TYPES = {
    "authentication_error": "invalid_request_error",
    "billing_error": "insufficient_quota",
    "not_found_error": "invalid_request_error",
    "request_too_large": "invalid_request_error",
    "api_error": "server_error",
    "overloaded_error": "server_error",
    "timeout_error": "server_error",
}
_OPENAI_CODES = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
    "request_too_large": "request_too_large",
    "rate_limit_error": "rate_limit_exceeded",
    "overloaded_error": "overloaded",
}
_CONTEXT_TOO_LONG = ("prompt is too long", "exceed context limit", "context window")

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's stop reasons in OpenAI's words; one that is not here means `stop`."""

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""OpenAI's finish reasons in Anthropic's words; one that is not here means `end_turn`."""


def anthropic_error_body(status: int, message: str, type_: str | None = None) -> bytes:
    """`{"type": "error", "error": {"type", "message"}}`; without `type_` the status names it."""
    kind = type_ or _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def openai_error_from_anthropic(body: bytes, status: int) -> bytes:
    """An Anthropic error as OpenAI's; a body of another shape becomes the message, cut to 2,000 characters.

    A prompt over the context window gets the code `context_length_exceeded`, which OpenAI clients look for.
    """
    error = _error_object(body)
    message = _message(error, body, status)
    kind = error.get("type") if isinstance(error.get("type"), str) else None
    kind = kind or _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    code = _OPENAI_CODES.get(kind)
    if kind == "invalid_request_error" and any(hint in message for hint in _CONTEXT_TOO_LONG):
        code = "context_length_exceeded"
    return error_body(message, _OPENAI_TYPES.get(kind, kind), None, code)


def anthropic_error_from_openai(body: bytes, status: int) -> bytes:
    """An OpenAI-compatible error as Anthropic's, also from servers that answer `{"message"}` or `{"detail"}`."""
    return anthropic_error_body(status, _message(_error_object(body), body, status))


def openai_error_message(body: bytes) -> tuple[str, str | None]:
    """`(message, code)` of an OpenAI-compatible error body."""
    error = _error_object(body)
    code = error.get("code")
    return _message(error, body, 500), None if code is None else str(code)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        doc = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(doc, dict):
        return {}
    error = doc.get("error", doc)
    return error if isinstance(error, dict) else {"message": error}


def _message(error: dict[str, Any], body: bytes, status: int) -> str:
    for key in ("message", "detail"):
        if isinstance(error.get(key), str) and error[key]:
            return str(error[key])
    text = body.decode("utf-8", "replace").strip()
    return text[:MAX_MESSAGE_CHARS] or f"The upstream answered with status {status} and no message."


def chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's usage object from Anthropic's: `prompt_tokens` are all input tokens, cached or written or neither.

    The reasoning tokens are a part of `completion_tokens` and reported only where the upstream splits them.
    """
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    prompt = _count(usage, "input_tokens") + read + written
    output = _count(usage, "output_tokens")
    details = {"cached_tokens": read, "cache_write_tokens": written}
    if isinstance(usage.get("cache_creation"), dict):
        details["cache_creation"] = usage["cache_creation"]
    out = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": details,
    }
    thought = usage.get("output_tokens_details")
    if isinstance(thought, dict):
        out["completion_tokens_details"] = {"reasoning_tokens": _count(thought, "thinking_tokens")}
    return out


def messages_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's usage object from OpenAI's: `input_tokens` are those neither read from a cache nor written to one."""
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    prompt = _count(usage, "prompt_tokens")
    read = min(_count(details, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens"), prompt)
    written = min(_count(details, "cache_write_tokens"), prompt - read)
    out: dict[str, Any] = {
        "input_tokens": prompt - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(usage, "completion_tokens"),
    }
    thought = usage.get("completion_tokens_details")
    if isinstance(thought, dict) and _count(thought, "reasoning_tokens"):
        out["output_tokens_details"] = {"thinking_tokens": _count(thought, "reasoning_tokens")}
    return out


def _count(source: dict[str, Any], name: str) -> int:
    value = source.get(name)
    return value if type(value) is int and value > 0 else 0
