"""A chat completion as a response object of OpenAI's Responses API: the items, the status, the echoed request."""

from typing import Any

from gateway.protocol.translate import Json, Translated, encode
from gateway.protocol.translate_chat_wire import Spoken, decode_completion
from gateway.protocol.translate_from_messages import message_to_chat
from gateway.protocol.translate_responses import seal

_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "reasoning": None,
    "text": {"format": {"type": "text"}},
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def skeleton(request: Json, id_: str | None, model: str, created: int) -> Json:
    """A response `in_progress` without output, with the request's settings echoed."""
    out: Json = {
        "id": f"resp_{id_ or ''}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "previous_response_id": None,
        "store": False,
        "usage": None,
    }
    for key, default in _ECHOED.items():
        given = request.get(key)
        out[key] = default if given is None else given
    return out


def completed(response: Json, output: list[Json], finish_reason: str | None, usage: Json | None) -> Json:
    """`response` ended: `completed`, or `incomplete` for the length limit and content filters."""
    why = _INCOMPLETE.get(finish_reason or "")
    return {
        **response,
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": output,
        "usage": responses_usage(usage) if usage else None,
    }


def responses_usage(usage: Json) -> Json:
    """The Responses usage object from the chat one."""
    prompt, written = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": written.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or 0,
    }


def _details(usage: Json, key: str) -> Json:
    value = usage.get(key)
    return value if isinstance(value, dict) else {}


def reasoning_item(id_: str, text: str, blocks: list[Json], status: str) -> Json:
    """A reasoning item; signed thinking blocks travel sealed in `encrypted_content`."""
    item: Json = {"type": "reasoning", "id": id_, "summary": [], "status": status}
    if text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    if blocks:
        item["encrypted_content"] = seal(blocks)
    return item


def message_item(id_: str, parts: list[Json], status: str) -> Json:
    """A message item of the assistant."""
    return {"type": "message", "id": id_, "role": "assistant", "status": status, "content": parts}


def text_part(text: str) -> Json:
    """An output_text part."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(id_: str, call_id: str, name: str, arguments: str, status: str) -> Json:
    """A function_call item."""
    return {
        "type": "function_call",
        "id": id_,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def chat_to_response(body: bytes, *, request: Json, model: str, created: int) -> Translated:
    """A chat completion as the answer to the Responses `request`, under the name `model`; `created` in Unix seconds.

    Raises `UpstreamBroken` for a body that is not a completion.
    """
    completion, choice, message = decode_completion(body)
    id_ = completion.id or ""
    output = _items(message, id_, "incomplete" if choice.finish_reason in _INCOMPLETE else "completed")
    response = completed(skeleton(request, id_, model, created), output, choice.finish_reason, completion.usage)
    reasons = (response["status"],)
    return Translated(encode(response), completion.id, completion.model, completion.usage, "openai", reasons)


def _items(message: Spoken, id_: str, status: str) -> list[Json]:
    items = []
    if message.thought or message.thinking_blocks:
        items.append(reasoning_item(f"rs_{id_}_0", message.thought, message.thinking_blocks or [], "completed"))
    parts = [text_part(message.text)] if message.text else []
    if message.refusal:
        parts.append({"type": "refusal", "refusal": message.refusal})
    if parts:
        items.append(message_item(f"msg_{id_}_{len(items)}", parts, status))
    for call in message.tool_calls or []:
        item_id, function = f"fc_{id_}_{len(items)}", call.function
        items.append(call_item(item_id, call.id or item_id, function.name or "", function.written(), status))
    return items


def message_to_response(body: bytes, *, request: Json, model: str, created: int) -> Translated:
    """A Messages answer as the answer to the Responses `request`; usage stays Anthropic's own object."""
    chat = message_to_chat(body, model=model, created=created)
    response = chat_to_response(chat.body, request=request, model=model, created=created)
    reasons = response.finish_reasons
    return Translated(response.body, chat.id, chat.model, chat.usage_obj, chat.usage_dialect, reasons)
