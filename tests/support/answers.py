"""Well-formed answers of the fake upstream, as data: OpenAI chat, completions, embeddings, responses; Anthropic messages.

A `Reply` is a status, headers and the pieces of a body; nothing here touches a socket. Whatever metadata.nonce a
request carries comes back in the text, so that an answer can be matched to its request.
"""

import base64
import dataclasses
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

CREATED_S = 1_760_000_000
JSON_TYPE = ("content-type", "application/json")
SSE_TYPE = ("content-type", "text/event-stream; charset=utf-8")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a well-formed answer looks like. Delays in seconds; `chunks` are content chunks per choice.

    Each content chunk counts as one completion token. `cached_tokens` are part of `prompt_tokens`.
    """

    chunks: int = 4
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    prompt_tokens: int = 10
    cached_tokens: int = 0
    reasoning: bool = False
    """Two chunks of `reasoning_content` before the text, two reasoning tokens."""
    tool_calls: bool = False
    """A tool call even when the request does not force one."""
    extra: bool = False
    """Fields that no specification knows, at every level."""
    newline: Literal["\n", "\r\n"] = "\n"
    comments: bool = False
    """Comment lines before each event, as keep-alives."""
    done: bool = True
    """Whether a stream ends with its end marker: `[DONE]`, `message_stop` or `response.completed`."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """One answer before it is framed: `events` are the pieces of its body, numbers among them are pauses (seconds)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    events: Iterable[bytes | float]
    stream: bool = False
    framing: Literal["chunked", "length", "close"] = "length"
    extensions: bool = False
    """Each HTTP chunk carries a chunk extension."""
    trailers: tuple[tuple[str, str], ...] = ()


def answer(path: str, doc: dict[str, Any], echo: dict[str, Any], shape: Shape) -> Reply:
    """The well-formed answer to `doc` posted at `path`; any unknown path answers `echo`."""
    route = path.rstrip("/")
    for ending, build in _ROUTES.items():
        if route.endswith(ending):
            return build(doc, shape)
    if route.endswith("/models"):
        models = [
            {"id": name, "object": "model", "created": CREATED_S, "owned_by": "upstream"} for name in ("m1", "m2")
        ]
        return json_reply({"object": "list", "data": models})
    if route.endswith("/health"):
        return Reply(200, (("content-type", "text/plain"),), [b""])
    return json_reply(echo)


def json_reply(doc: Any, status: int = 200, headers: Iterable[tuple[str, str]] = (), delay_s: float = 0.0) -> Reply:
    """`doc` as JSON, compact, with a length."""
    body = json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()
    return Reply(status, (JSON_TYPE, *headers), [delay_s, body] if delay_s else [body])


def error_doc(path: str, status: int, message: str) -> dict[str, Any]:
    """An error in the shape of the API that `path` belongs to."""
    if path.rstrip("/").endswith("/messages"):
        kinds = {
            400: "invalid_request_error",
            401: "authentication_error",
            429: "rate_limit_error",
            529: "overloaded_error",
        }
        return {
            "type": "error",
            "error": {"type": kinds.get(status, "api_error"), "message": message},
            "request_id": "r",
        }
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = {429: "rate_limit_exceeded", 401: "invalid_api_key"}.get(status)
    return {"error": {"message": message, "type": "requests" if status == 429 else kind, "param": None, "code": code}}


def _nonce(doc: dict[str, Any]) -> str | None:
    metadata = doc.get("metadata")
    found = metadata.get("nonce") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def words(doc: dict[str, Any], chunks: int) -> list[str]:
    """The text in `chunks` pieces, the last of which carries the request's nonce as `[nonce:...]`."""
    out = [f"word{i} " for i in range(chunks)]
    nonce = _nonce(doc)
    if nonce is not None and out:
        out[-1] = f"{out[-1]}[nonce:{nonce}]"
    return out


def _sse(events: Iterable[tuple[str | None, Any]], shape: Shape) -> Iterator[bytes | float]:
    """Server-sent events from (event name, document) pairs, at the pace of `shape`."""
    end = shape.newline
    if shape.first_delay_s:
        yield shape.first_delay_s
    for k, (name, doc) in enumerate(events):
        if k and shape.delay_s:
            yield shape.delay_s
        data = doc if isinstance(doc, str) else json.dumps(doc, separators=(",", ":"), ensure_ascii=False)
        comment = f": keep-alive {k}{end}{end}" if shape.comments else ""
        head = f"event: {name}{end}" if name else ""
        yield f"{comment}{head}data: {data}{end}{end}".encode()


def _stream(events: Iterable[tuple[str | None, Any]], shape: Shape) -> Reply:
    return Reply(200, (SSE_TYPE, ("cache-control", "no-cache")), _sse(events, shape), stream=True, framing="chunked")


# --- OpenAI chat/completions ---------------------------------------------------------------------------------------


def _choices(doc: dict[str, Any]) -> int:
    n = doc.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def _wants_usage(doc: dict[str, Any]) -> bool:
    options = doc.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def chat_usage(doc: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """The usage that a chat answer of this shape reports."""
    reasoning = 2 if shape.reasoning else 0
    output = _choices(doc) * (shape.chunks + reasoning)
    return {
        "prompt_tokens": shape.prompt_tokens,
        "completion_tokens": output,
        "total_tokens": shape.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": shape.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reasoning * _choices(doc)},
    }


def _tool(doc: dict[str, Any], shape: Shape) -> dict[str, Any] | None:
    """The call to make: to the first tool when the request forces one or the shape says so."""
    tools, choice = doc.get("tools"), doc.get("tool_choice")
    if not tools or not (shape.tool_calls or choice == "required" or isinstance(choice, dict)):
        return None
    return {"id": "call_upstream_1", "type": "function", "function": {"name": tools[0]["function"]["name"]}}


def _logprobs(token: str) -> dict[str, Any]:
    return {
        "content": [{"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}],
        "refusal": None,
    }


def _chat(doc: dict[str, Any], shape: Shape) -> Reply:
    return _stream(_chat_chunks(doc, shape), shape) if doc.get("stream") else _chat_whole(doc, shape)


def _chat_whole(doc: dict[str, Any], shape: Shape) -> Reply:
    pieces, tool = words(doc, shape.chunks), _tool(doc, shape)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces), "refusal": None}
    if shape.reasoning:
        message["reasoning_content"] = "think 0 think 1 "
    if tool:
        arguments = json.dumps({"nonce": _nonce(doc)})
        message |= {"content": None, "tool_calls": [{**tool, "function": {**tool["function"], "arguments": arguments}}]}
    scores = {"content": [_logprobs(piece)["content"][0] for piece in pieces], "refusal": None}
    entry = {
        "message": message,
        "logprobs": scores if doc.get("logprobs") and not tool else None,
        "finish_reason": "tool_calls" if tool else "stop",
    }
    out = {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": CREATED_S,
        "model": doc.get("model"),
        "choices": [{"index": i, **entry} for i in range(_choices(doc))],
        "usage": chat_usage(doc, shape),
        "system_fingerprint": "fp_upstream",
    }
    if shape.extra:
        out |= {"kv_transfer_params": None, "x_unknown": {"deep": [1, 2.50, "é"]}}
    return json_reply(out, delay_s=shape.first_delay_s)


def _chat_chunks(doc: dict[str, Any], shape: Shape) -> Iterator[tuple[None, Any]]:
    frame = {
        "id": "chatcmpl-upstream",
        "object": "chat.completion.chunk",
        "created": CREATED_S,
        "model": doc.get("model"),
    }
    frame["system_fingerprint"] = "fp_upstream"
    asked = _wants_usage(doc)
    if shape.extra:
        frame["x_unknown"] = {"deep": [1, 2.50, "é"]}

    def chunk(
        index: int, delta: dict[str, Any], finish: str | None = None, token: str | None = None
    ) -> tuple[None, Any]:
        scores = _logprobs(token) if token is not None and doc.get("logprobs") else None
        entry = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return None, {**frame, "choices": [entry], **({"usage": None} if asked else {})}

    indexes, tool = range(_choices(doc)), _tool(doc, shape)
    for i in indexes:
        yield chunk(i, {"role": "assistant", "content": None if tool else "", "refusal": None})
    for k in range(2 if shape.reasoning else 0):
        for i in indexes:
            yield chunk(i, {"reasoning_content": f"think {k} "})
    if tool:
        arguments = json.dumps({"nonce": _nonce(doc)})
        for i in indexes:
            yield chunk(i, {"tool_calls": [{"index": 0, **tool, "function": {**tool["function"], "arguments": ""}}]})
        for at in range(0, len(arguments), 5):
            for i in indexes:
                yield chunk(i, {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + 5]}}]})
    else:
        for piece in words(doc, shape.chunks):
            for i in indexes:
                yield chunk(i, {"content": piece}, token=piece)
    for i in indexes:
        yield chunk(i, {}, "tool_calls" if tool else "stop")
    if asked:
        yield None, {**frame, "choices": [], "usage": chat_usage(doc, shape)}
    if shape.done:
        yield None, "[DONE]"


# --- OpenAI completions, embeddings, responses ---------------------------------------------------------------------


def _completions(doc: dict[str, Any], shape: Shape) -> Reply:
    frame = {"id": "cmpl-upstream", "object": "text_completion", "created": CREATED_S, "model": doc.get("model")}
    usage = {k: v for k, v in chat_usage(doc, shape).items() if not k.endswith("details")}
    pieces = words(doc, shape.chunks)

    def entry(text: str, finish: str | None) -> dict[str, Any]:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}

    if not doc.get("stream"):
        whole = {**frame, "choices": [entry("".join(pieces), "stop")], "usage": usage}
        return json_reply(whole, delay_s=shape.first_delay_s)
    null = {"usage": None} if _wants_usage(doc) else {}
    events: list[tuple[None, Any]] = [(None, {**frame, "choices": [entry(piece, None)], **null}) for piece in pieces]
    events.append((None, {**frame, "choices": [entry("", "stop")], **null}))
    if null:
        events.append((None, {**frame, "choices": [], "usage": usage}))
    return _stream([*events, (None, "[DONE]")] if shape.done else events, shape)


def _embeddings(doc: dict[str, Any], shape: Shape) -> Reply:
    inputs = doc.get("input")
    several = inputs if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else [inputs]
    vector = [0.6, 0.0, -0.8, 0.0]
    value: Any = vector
    if doc.get("encoding_format") == "base64":
        value = base64.b64encode(struct.pack("<4f", *vector)).decode()
    data = [{"object": "embedding", "index": i, "embedding": value} for i in range(len(several))]
    usage = {"prompt_tokens": shape.prompt_tokens, "total_tokens": shape.prompt_tokens}
    out = {"object": "list", "data": data, "model": doc.get("model"), "usage": usage}
    return json_reply(out, delay_s=shape.first_delay_s)


def _responses(doc: dict[str, Any], shape: Shape) -> Reply:
    pieces = words(doc, shape.chunks)
    part = {"type": "output_text", "text": "".join(pieces), "annotations": []}
    item = {"id": "msg_upstream", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    usage = {
        "input_tokens": shape.prompt_tokens,
        "input_tokens_details": {"cached_tokens": shape.cached_tokens},
        "output_tokens": shape.chunks,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": shape.prompt_tokens + shape.chunks,
    }
    whole = {"id": "resp_upstream", "object": "response", "created_at": CREATED_S, "model": doc.get("model")}
    whole |= {"status": "completed", "error": None, "incomplete_details": None, "output": [item], "usage": usage}
    if not doc.get("stream"):
        return json_reply(whole, delay_s=shape.first_delay_s)
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**at, "delta": piece}) for piece in pieces),
        ("response.output_text.done", {**at, "text": part["text"]}),
        ("response.content_part.done", {**at, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
    ]
    if shape.done:
        events.append(("response.completed", {"response": whole}))
    return _stream(((name, {"type": name, "sequence_number": k, **e}) for k, (name, e) in enumerate(events)), shape)


# --- Anthropic messages --------------------------------------------------------------------------------------------


def _messages(doc: dict[str, Any], shape: Shape) -> Reply:
    pieces = words(doc, shape.chunks)
    usage = {
        "input_tokens": shape.prompt_tokens - shape.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": shape.cached_tokens,
        "output_tokens": shape.chunks,
    }
    whole = {"id": "msg_upstream", "type": "message", "role": "assistant", "model": doc.get("model")}
    tool = _anthropic_tool(doc, shape)
    block: dict[str, Any] = tool or {"type": "text", "text": "".join(pieces)}
    stop = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
    headers = (("request-id", "req_upstream"), ("anthropic-ratelimit-requests-remaining", "99"))
    if not doc.get("stream"):
        return json_reply({**whole, "content": [block], **stop, "usage": usage}, 200, headers, shape.first_delay_s)
    start = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    events: list[tuple[str, dict[str, Any]]] = [("message_start", {"message": start})]
    if tool:
        text = json.dumps(tool["input"])
        deltas = [{"type": "input_json_delta", "partial_json": text[at : at + 5]} for at in range(0, len(text), 5)]
        events.append(("content_block_start", {"index": 0, "content_block": {**tool, "input": {}}}))
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        events.append(("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}))
    events.append(("ping", {}))
    events += [("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas]
    events.append(("content_block_stop", {"index": 0}))
    events.append(("message_delta", {"delta": stop, "usage": {"output_tokens": shape.chunks}}))
    if shape.done:
        events.append(("message_stop", {}))
    reply = _stream(((name, {"type": name, **event}) for name, event in events), shape)
    return dataclasses.replace(reply, headers=(*reply.headers, *headers))


def _anthropic_tool(doc: dict[str, Any], shape: Shape) -> dict[str, Any] | None:
    tools, choice = doc.get("tools"), doc.get("tool_choice")
    forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
    if not tools or not (shape.tool_calls or forced):
        return None
    return {"type": "tool_use", "id": "toolu_upstream", "name": tools[0]["name"], "input": {"nonce": _nonce(doc)}}


_ROUTES: dict[str, Callable[[dict[str, Any], Shape], Reply]] = {
    "/chat/completions": _chat,
    "/completions": _completions,
    "/embeddings": _embeddings,
    "/responses": _responses,
    "/messages": _messages,
}
