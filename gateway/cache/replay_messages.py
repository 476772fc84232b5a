"""Anthropic's Messages: its event stream put together into one message, and a message told in events.

Source: Anthropic's streaming page, and how its Python SDK accumulates events.
"""

from typing import Any

import msgspec

from gateway.cache.pieces import cut
from gateway.protocol.sse import frame

Json = dict[str, Any]
_encode = msgspec.json.encode
_APPENDED = {"text_delta": "text", "thinking_delta": "thinking"}
_AT_THE_END = ("stop_reason", "stop_sequence", "stop_details", "container", "context_management")


def assemble(events: list[Json]) -> bytes | None:
    """See `gateway.cache.replay.assemble`."""
    message: Json | None = None
    blocks: list[Json] = []
    inputs: dict[int, str] = {}
    for event in events:
        kind = event["type"]
        if kind == "ping":
            continue
        if kind == "message_start":
            message = dict(event["message"])
        elif message is None or kind == "error":
            return None
        elif kind == "content_block_start":
            if event["index"] != len(blocks):
                return None
            blocks.append(dict(event["content_block"]))
        elif kind == "content_block_delta":
            if not _add(blocks[event["index"]], event["delta"], inputs, event["index"]):
                return None
        elif kind == "message_delta":
            message.update(event["delta"])
            counts = {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
            message["usage"] = {**(message.get("usage") or {}), **counts}
    if message is None or events[-1]["type"] != "message_stop":
        return None
    for index, text in inputs.items():
        blocks[index]["input"] = msgspec.json.decode(text, type=dict[str, Any])
    return _encode({**message, "content": blocks})


def _add(block: Json, delta: Json, inputs: dict[int, str], index: int) -> bool:
    """Adds a delta to its block; whether its kind is known."""
    kind = delta["type"]
    if kind in _APPENDED:
        key = _APPENDED[kind]
        block[key] = block.get(key, "") + delta[key]
    elif kind == "input_json_delta":
        if delta["partial_json"]:
            inputs[index] = inputs.get(index, "") + delta["partial_json"]
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    else:
        return False
    return True


def events(message: Json) -> list[bytes]:
    """See `gateway.cache.replay.stream`."""
    usage = message.get("usage") or {}
    start = {k: v for k, v in message.items() if k not in _AT_THE_END}
    start.update(content=[], stop_reason=None, stop_sequence=None, usage={**usage, "output_tokens": 0})
    out = [_event("message_start", {"message": start})]
    for index, block in enumerate(message["content"]):
        opening, deltas = _told(block)
        out.append(_event("content_block_start", {"index": index, "content_block": opening}))
        out += [_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        out.append(_event("content_block_stop", {"index": index}))
    end = {key: message[key] for key in _AT_THE_END if key in message}
    out.append(_event("message_delta", {"delta": end, "usage": usage}))
    return [*out, _event("message_stop", {})]


def _told(block: Json) -> tuple[Json, list[Json]]:
    """A block as it begins, and the deltas that complete it; a kind that is never told in pieces begins whole."""
    kind = block["type"]
    if kind == "text":
        citations = [{"type": "citations_delta", "citation": one} for one in block.get("citations") or []]
        opening = {**block, "text": ""}
        if citations:
            opening["citations"] = []
        return opening, [{"type": "text_delta", "text": piece} for piece in cut(block["text"])] + citations
    if kind == "thinking":
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in cut(block["thinking"])]
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    if kind in ("tool_use", "server_tool_use"):
        pieces = cut(_encode(block["input"]).decode()) if block["input"] else []
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return {**block, "input": {}}, deltas
    return block, []


def _event(kind: str, members: Json) -> bytes:
    return frame(_encode({"type": kind, **members}), kind)
