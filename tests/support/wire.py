"""Wire fixtures, and streams put together as clients do."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.protocol import sse
from gateway.protocol.translate import StreamTranslator

FIXTURES = Path(__file__).parents[1] / "fixtures"


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def translate(stream: StreamTranslator, raw: bytes) -> bytes:
    """Everything that `stream` says of a body that then closes cleanly."""
    parser = sse.Parser()
    events = parser.feed(raw) + parser.finish()
    return b"".join([stream.feed(event) for event in events]) + stream.finish()


def events(raw: bytes) -> list[Any]:
    """The JSON of every event; `[DONE]` stays a string."""
    parser = sse.Parser()
    parsed = parser.feed(raw)
    assert parser.finish() == [], "an event without its blank line"
    out = []
    for event in parsed:
        body = "[DONE]" if event.data == b"[DONE]" else msgspec.json.decode(event.data)
        if event.event is not None:
            assert body["type"] == event.event
        out.append(body)
    return out


def chat_message(raw: bytes) -> dict[str, Any]:
    """A chat stream as one message, with its `finish_reason` and `usage`."""
    out: dict[str, Any] = {"content": "", "finish_reason": None, "usage": None, "tool_calls": [], "thinking_blocks": []}
    for chunk in events(raw):
        if chunk == "[DONE]":
            continue
        out["usage"] = chunk.get("usage") or out["usage"]
        for choice in chunk["choices"]:
            out["finish_reason"] = choice["finish_reason"] or out["finish_reason"]
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    _merge_calls(out["tool_calls"], value)
                elif isinstance(value, str) and key != "role":
                    out[key] = out.get(key, "") + value
                elif isinstance(value, list):
                    out[key] += value
    return out


def _merge_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        if piece["index"] == len(calls):
            calls.append({"id": piece["id"], **piece["function"]})
        else:
            calls[piece["index"]]["arguments"] += piece["function"]["arguments"]


def anthropic_message(raw: bytes) -> dict[str, Any]:
    """An Anthropic stream as one message; asserts the order of events that clients rely on."""
    first, *rest = events(raw)
    assert first["type"] == "message_start"
    message: dict[str, Any] = first["message"]
    opened: int | None = None
    for event in rest:
        kind = event["type"]
        if kind == "content_block_start":
            assert opened is None
            assert event["index"] == len(message["content"])
            opened = event["index"]
            message["content"].append({**event["content_block"], "json": ""})
        elif kind == "content_block_delta":
            assert event["index"] == opened
            block, delta = message["content"][opened], event["delta"]
            key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[
                delta["type"]
            ]
            block["json" if key == "partial_json" else key] += delta[key]
        elif kind == "content_block_stop":
            assert event["index"] == opened
            opened = None
            block = message["content"][event["index"]]
            written = block.pop("json")
            if written:
                block["input"] = msgspec.json.decode(written)
        elif kind == "message_delta":
            assert opened is None
            message.update(event["delta"])
            message["usage"].update(event["usage"])
    if rest[-1]["type"] == "message_stop":
        assert [event["type"] for event in rest].count("message_delta") == 1
    return message
