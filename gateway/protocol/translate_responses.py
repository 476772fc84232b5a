"""A request of OpenAI's Responses API as a chat request; decides what each field and input item becomes.

Renamed or reshaped: `input`, `instructions`, `max_output_tokens`, `reasoning.effort`, `text.format` and
`text.verbosity`, `tools` (functions only) and `tool_choice`. Sent as they are: `temperature`, `top_p`, `stream`,
`user`, `safety_identifier`, `service_tier`.

Ignored, because the answer would be no different: `store` (nothing is stored), `metadata` (echoed in the response),
`include`, `stream_options`, `truncation`, `prompt_cache_key` and its kin, `reasoning.summary`; ids, statuses and
phases of items, which a chat has no place for.

Anything else is refused by name, unless it is null: state on the server (`previous_response_id`, `conversation`,
`background`, `prompt`), built-in tools, item kinds that only they make.

Reasoning items become `reasoning_content` of the assistant's message that follows, and `thinking_blocks` where their
`encrypted_content` was made by `seal`.
"""

import base64
import binascii
from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.protocol.translate import Json, array, encode, limit_key, mapping, refuse_others, refused, string

_AS_THEY_ARE = ("temperature", "top_p", "user", "safety_identifier", "service_tier")
_KNOWN = frozenset(
    (
        *_AS_THEY_ARE,
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "reasoning",
        "text",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "stream",
        "store",
        "metadata",
        "include",
        "stream_options",
        "truncation",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
    )
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {"background": (False,), "top_logprobs": (0,)}
_REASONING = frozenset(("reasoning.effort", "reasoning.summary", "reasoning.generate_summary"))
_REASONING_NEUTRAL: dict[str, tuple[Any, ...]] = {"reasoning.mode": ("standard",), "reasoning.context": ("auto",)}
_SEAL = "farthing:"


def responses_to_chat_request(doc: Json, model: str) -> Json:
    """The chat request for `model`; a stream asks for its usage.

    Raises `BadRequest`, with `param`, for what is malformed or cannot be said.
    """
    refuse_others(doc, _KNOWN, _NEUTRAL, "the chat API")
    messages: list[Json] = []
    if doc.get("instructions"):
        messages.append({"role": "system", "content": string(doc["instructions"], "instructions")})
    out: Json = {"model": model, "messages": messages + _conversation(doc.get("input"))}
    for key in _AS_THEY_ARE:
        if doc.get(key) is not None:
            out[key] = doc[key]
    if doc.get("max_output_tokens") is not None:
        out[limit_key(model)] = doc["max_output_tokens"]
    if doc.get("stream"):
        out["stream"] = True
        out["stream_options"] = {"include_usage": True}
    _tools(out, doc)
    reasoning = mapping(doc.get("reasoning") or {}, "reasoning")
    named = {f"reasoning.{key}": value for key, value in reasoning.items()}
    refuse_others(named, _REASONING, _REASONING_NEUTRAL, "the chat API")
    if reasoning.get("effort") is not None:
        out["reasoning_effort"] = reasoning["effort"]
    _text_options(out, mapping(doc.get("text") or {}, "text"))
    return out


def _text_options(out: Json, text: Json) -> None:
    if text.get("verbosity") is not None:
        out["verbosity"] = text["verbosity"]
    if text.get("format") is None:
        return
    form = mapping(text["format"], "text.format")
    if form.get("type") == "json_schema":
        named = {key: value for key, value in form.items() if key != "type" and value is not None}
        out["response_format"] = {"type": "json_schema", "json_schema": named}
    elif form.get("type") == "json_object":
        out["response_format"] = {"type": "json_object"}
    elif form.get("type") != "text":
        raise refused("text.format.type", "only text, json_object and json_schema can be.")


def _tools(out: Json, doc: Json) -> None:
    tools = array(doc.get("tools") or [], "tools")
    if not tools:
        return
    out["tools"] = [_tool(mapping(tool, f"tools[{i}]"), f"tools[{i}]") for i, tool in enumerate(tools)]
    if doc.get("parallel_tool_calls") is not None:
        out["parallel_tool_calls"] = doc["parallel_tool_calls"]
    choice = doc.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise refused("tool_choice.type", "only a function can be named.")
        name = string(choice.get("name"), "tool_choice.name")
        choice = {"type": "function", "function": {"name": name}}
    if choice is not None:
        out["tool_choice"] = choice


def _tool(tool: Json, at: str) -> Json:
    if tool.get("type") != "function":
        raise refused(f"{at}.type", "only function tools can be.")
    function: Json = {"name": string(tool.get("name"), f"{at}.name")}
    for key in ("description", "parameters", "strict"):
        if tool.get(key) is not None:
            function[key] = tool[key]
    return {"type": "function", "function": function}


def _conversation(given: Any) -> list[Json]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Json] = []
    for i, item in enumerate(array(given, "input")):
        at = f"input[{i}]"
        _item(messages, mapping(item, at), at)
    return [message for message in messages if message["role"] != "assistant" or _says_something(message)]


def _says_something(message: Json) -> bool:
    return message["content"] is not None or "tool_calls" in message or "refusal" in message


def _item(messages: list[Json], item: Json, at: str) -> None:
    kind = item.get("type") or "message"
    if kind == "message":
        _message(messages, item, at)
    elif kind == "function_call":
        function = {"name": string(item.get("name"), f"{at}.name"), "arguments": item.get("arguments") or "{}"}
        call = {"id": string(item.get("call_id"), f"{at}.call_id"), "type": "function", "function": function}
        _assistant(messages).setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        output = item.get("output")
        content = output if isinstance(output, str) else _parts(output, f"{at}.output")
        call_id = string(item.get("call_id"), f"{at}.call_id")
        messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
    elif kind == "reasoning":
        _reasoning(messages, item, at)
    else:
        raise refused(f"{at}.type", "only messages, function calls, their outputs and reasoning can be.")


def _assistant(messages: list[Json]) -> Json:
    """The assistant's message that an item belongs to: the last one, or a new one."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _message(messages: list[Json], item: Json, at: str) -> None:
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "assistant", "system", "developer"):
        raise refused(f"{at}.role", "only user, assistant, system and developer messages can be.")
    parts = content if isinstance(content, str) else _parts(content, f"{at}.content")
    if role != "assistant":
        messages.append({"role": role, "content": parts})
        return
    message = _assistant(messages)
    if _says_something(message):
        message = {"role": "assistant", "content": None}
        messages.append(message)
    if isinstance(parts, str):
        message["content"] = parts
        return
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    texts = [part.get("text", "") for part in parts if part["type"] == "text"]
    if texts or not refusals:
        message["content"] = "".join(texts)
    if refusals:
        message["refusal"] = "".join(refusals)


def _parts(content: Any, at: str) -> list[Json]:
    return [_part(mapping(part, f"{at}[{i}]"), f"{at}[{i}]") for i, part in enumerate(array(content, at))]


def _part(part: Json, at: str) -> Json:
    kind = part.get("type")
    if part.get("file_id") is not None:
        raise refused(f"{at}.file_id", "files live with the provider they were uploaded to.")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": string(part.get("text"), f"{at}.text")}
    if kind == "refusal":
        return {"type": "refusal", "refusal": string(part.get("refusal"), f"{at}.refusal")}
    if kind == "input_image":
        image = {"url": string(part.get("image_url"), f"{at}.image_url")}
        if part.get("detail") in ("low", "high"):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_file":
        file = {"file_data": string(part.get("file_data"), f"{at}.file_data")}
        if part.get("filename") is not None:
            file["filename"] = part["filename"]
        return {"type": "file", "file": file}
    raise refused(f"{at}.type", "only text, images and inline files can be.")


def _reasoning(messages: list[Json], item: Json, at: str) -> None:
    message: Json = {"role": "assistant", "content": None}
    pieces = array(item.get("content") or item.get("summary") or [], f"{at}.content")
    text = "".join([string(mapping(piece, at).get("text"), f"{at}.content") for piece in pieces])
    if text:
        message["reasoning_content"] = text
    blocks = unseal(item.get("encrypted_content"), f"{at}.encrypted_content")
    if blocks:
        message["thinking_blocks"] = blocks
    messages.append(message)


def seal(thinking_blocks: list[Json]) -> str:
    """Thinking blocks as the opaque `encrypted_content` that a caller sends back (they are signed, not secret)."""
    return _SEAL + base64.b64encode(encode(thinking_blocks)).decode()


def unseal(sealed: Any, at: str) -> list[Json]:
    """What `seal` was given; empty for null and for what another server made. Raises `BadRequest` if damaged."""
    if not isinstance(sealed, str) or not sealed.startswith(_SEAL):
        return []
    try:
        return msgspec.json.decode(base64.b64decode(sealed[len(_SEAL) :], validate=True), type=list[Json])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"'{at}' is damaged.", param=at, code="invalid_value") from exc
