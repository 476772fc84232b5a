"""A request of Anthropic's Messages API as a chat request; decides what each field becomes, and knows no transport.

Renamed or reshaped: `system`, `messages`, `max_tokens`, `stop_sequences`, `tools`, `tool_choice`,
`metadata.user_id` (`user`), `output_config` (`format` becomes `response_format`, `effort` `reasoning_effort`),
`output_format`, `thinking` (a budget becomes `reasoning_effort`: under 4,096 low, under 16,384 medium, else high).

Sent as they are: `temperature`, `top_p`, `top_k` (for vLLM; an upstream that lacks it says so), `stream`.

Ignored, because the answer would be no different: `cache_control` anywhere, `service_tier`, `diagnostics`,
`speed: standard`, `thinking` that is disabled or adaptive without an effort (the upstream's own default holds),
`is_error` on a tool result, `citations` and `context` on documents, and `context_management`, which edits the prompt
only where it would grow too long. Thinking that Anthropic signed is left out of earlier turns: only Anthropic can
check it. Unsigned thinking, which came from an upstream of this kind, goes back as `reasoning_content`.

Anything else is refused by name, unless it is null: server-side tools, containers, MCP servers, a region.
"""

from typing import Any

from gateway.protocol.translate import Json, array, encode, limit_key, mapping, refuse_others, refused, string

_AS_THEY_ARE = ("temperature", "top_p", "top_k")
_KNOWN = frozenset(
    (
        *_AS_THEY_ARE,
        "model",
        "system",
        "messages",
        "max_tokens",
        "stop_sequences",
        "stream",
        "tools",
        "tool_choice",
        "metadata",
        "output_config",
        "output_format",
        "thinking",
        "cache_control",
        "service_tier",
        "diagnostics",
        "context_management",
    )
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {"speed": ("standard",), "mcp_servers": ([],)}
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def messages_to_chat_request(doc: Json, model: str) -> Json:
    """The chat request for `model`; a stream asks for its usage.

    Raises `BadRequest`, with `param`, for what is malformed or cannot be said.
    """
    refuse_others(doc, _KNOWN, _NEUTRAL, "the chat API")
    out: Json = {"model": model, "messages": _conversation(doc)}
    if doc.get("max_tokens") is not None:
        out[limit_key(model)] = doc["max_tokens"]
    for key in _AS_THEY_ARE:
        if doc.get(key) is not None:
            out[key] = doc[key]
    if doc.get("stop_sequences"):
        out["stop"] = array(doc["stop_sequences"], "stop_sequences")
    if doc.get("stream"):
        out["stream"] = True
        out["stream_options"] = {"include_usage": True}
    _tools(out, doc)
    metadata = mapping(doc.get("metadata") or {}, "metadata")
    if metadata.get("user_id"):
        out["user"] = string(metadata["user_id"], "metadata.user_id")
    _output(out, doc)
    return out


def _conversation(doc: Json) -> list[Json]:
    messages: list[Json] = []
    if doc.get("system") and (text := _joined(doc["system"], "system")):
        messages.append({"role": "system", "content": text})
    for i, item in enumerate(array(doc.get("messages"), "messages")):
        at = f"messages[{i}]"
        message = mapping(item, at)
        role, content = message.get("role"), message.get("content")
        if role == "user":
            messages += _user(content, f"{at}.content")
        elif role == "assistant":
            messages.append(_assistant(content, f"{at}.content"))
        elif role == "system":
            messages.append({"role": "system", "content": _joined(content, f"{at}.content")})
        else:
            raise refused(f"{at}.role", "only user, assistant and system messages can be.")
    return messages


def _joined(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for i, item in enumerate(array(content, at)):
        block = mapping(item, f"{at}[{i}]")
        if block.get("type") != "text":
            raise refused(f"{at}[{i}].type", "only text can be here.")
        texts.append(string(block.get("text"), f"{at}[{i}].text"))
    return "\n\n".join(texts)


def _user(content: Any, at: str) -> list[Json]:
    """Tool messages for the results, first, as the chat API wants them; then one user message with the rest.

    A tool message holds text only: what else a result has goes into the user message.
    """
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    parts: list[Json] = []
    for i, item in enumerate(array(content, at)):
        block = mapping(item, f"{at}[{i}]")
        if block.get("type") != "tool_result":
            parts += _parts(block, f"{at}[{i}]")
            continue
        inner = _result_parts(block.get("content"), f"{at}[{i}].content")
        text = "\n".join([part["text"] for part in inner if part["type"] == "text"])
        call = string(block.get("tool_use_id"), f"{at}[{i}].tool_use_id")
        results.append({"role": "tool", "tool_call_id": call, "content": text})
        parts += [part for part in inner if part["type"] != "text"]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    if parts or not results:
        results.append({"role": "user", "content": parts or ""})
    return results


def _result_parts(content: Any, at: str) -> list[Json]:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content or ""}]
    parts: list[Json] = []
    for i, item in enumerate(array(content, at)):
        parts += _parts(mapping(item, f"{at}[{i}]"), f"{at}[{i}]")
    return parts


def _parts(block: Json, at: str) -> list[Json]:
    kind = block.get("type")
    if kind == "text":
        return [{"type": "text", "text": string(block.get("text"), f"{at}.text")}]
    if kind == "image":
        source = mapping(block.get("source"), f"{at}.source")
        if source.get("type") == "url":
            url = string(source.get("url"), f"{at}.source.url")
        else:
            url = _data_url(source, f"{at}.source")
        return [{"type": "image_url", "image_url": {"url": url}}]
    if kind == "document":
        return _document(block, at)
    if kind == "search_result":
        text = _joined(block.get("content"), f"{at}.content")
        return [{"type": "text", "text": f"{block.get('title', '')}\n{block.get('source', '')}\n\n{text}"}]
    raise refused(f"{at}.type", "only text, images, documents, search results and tool results can be.")


def _data_url(source: Json, at: str) -> str:
    if source.get("type") != "base64":
        raise refused(f"{at}.type", "only inline data and image URLs can be.")
    return (
        f"data:{string(source.get('media_type'), f'{at}.media_type')};base64,{string(source.get('data'), f'{at}.data')}"
    )


def _document(block: Json, at: str) -> list[Json]:
    source = mapping(block.get("source"), f"{at}.source")
    kind = source.get("type")
    if kind == "text":
        return [{"type": "text", "text": string(source.get("data"), f"{at}.source.data")}]
    if kind == "content":
        return _result_parts(source.get("content"), f"{at}.source.content")
    file = {"filename": block.get("title") or "document.pdf", "file_data": _data_url(source, f"{at}.source")}
    return [{"type": "file", "file": file}]


def _assistant(content: Any, at: str) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts, thoughts, calls = [], [], []
    for i, item in enumerate(array(content, at)):
        block = mapping(item, f"{at}[{i}]")
        kind = block.get("type")
        if kind == "text":
            texts.append(string(block.get("text"), f"{at}[{i}].text"))
        elif kind == "tool_use":
            calls.append(_call(block, f"{at}[{i}]"))
        elif kind == "thinking":
            if not block.get("signature"):
                thoughts.append(string(block.get("thinking"), f"{at}[{i}].thinking"))
        elif kind != "redacted_thinking":
            raise refused(f"{at}[{i}].type", "only text, thinking and tool_use can be in an assistant's turn.")
    out: Json = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        out["reasoning_content"] = "".join(thoughts)
    if calls:
        out["tool_calls"] = calls
    return out


def _call(block: Json, at: str) -> Json:
    arguments = encode(mapping(block.get("input"), f"{at}.input")).decode()
    function = {"name": string(block.get("name"), f"{at}.name"), "arguments": arguments}
    return {"id": string(block.get("id"), f"{at}.id"), "type": "function", "function": function}


def _tools(out: Json, doc: Json) -> None:
    tools = array(doc.get("tools") or [], "tools")
    if not tools:
        return
    out["tools"] = [_tool(mapping(tool, f"tools[{i}]"), f"tools[{i}]") for i, tool in enumerate(tools)]
    if doc.get("tool_choice") is None:
        return
    choice = mapping(doc["tool_choice"], "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        name = string(choice.get("name"), "tool_choice.name")
        out["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif kind in ("auto", "any", "none"):
        out["tool_choice"] = "required" if kind == "any" else kind
    else:
        raise refused("tool_choice.type", "only auto, any, tool and none can be.")
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = False


def _tool(tool: Json, at: str) -> Json:
    if tool.get("type") not in (None, "custom"):
        raise refused(f"{at}.type", "only tools that the caller runs can be.")
    function: Json = {"name": string(tool.get("name"), f"{at}.name")}
    if tool.get("description"):
        function["description"] = string(tool["description"], f"{at}.description")
    function["parameters"] = mapping(tool.get("input_schema"), f"{at}.input_schema")
    if tool.get("strict"):
        function["strict"] = True
    return {"type": "function", "function": function}


def _output(out: Json, doc: Json) -> None:
    config = mapping(doc.get("output_config") or {}, "output_config")
    form = config.get("format") or doc.get("output_format")
    if form is not None:
        schema = mapping(mapping(form, "output_config.format").get("schema"), "output_config.format.schema")
        named = {"name": "output", "schema": schema, "strict": True}
        out["response_format"] = {"type": "json_schema", "json_schema": named}
    thinking = mapping(doc.get("thinking") or {}, "thinking")
    if config.get("effort") is not None:
        effort = _EFFORTS.get(string(config["effort"], "output_config.effort"))
        if effort is None:
            raise refused("output_config.effort", "only low, medium, high, xhigh and max can be.")
        out["reasoning_effort"] = effort
    elif thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        tokens = budget if type(budget) is int else 0
        out["reasoning_effort"] = "low" if tokens < 4_096 else "medium" if tokens < 16_384 else "high"
