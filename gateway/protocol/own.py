"""Requests that the gateway makes for its own ends: a new one from a body, and a caller's asked anew, answered whole.

Knows no wire but JSON.
"""

from typing import Any

import msgspec

from gateway.core.exchange import Call
from gateway.protocol import rawjson

_STREAM = {"stream": None, "stream_options": None}


def chat_call(body: dict[str, Any]) -> Call:
    """A chat completions request; `body` names its `model` and may name `max_tokens`."""
    raw = msgspec.json.encode(body)
    return Call(
        "chat", "openai", "POST", "/v1/chat/completions", b"", [(b"content-type", b"application/json")], raw, body,
        body["model"], max_tokens=body.get("max_tokens"),
    )  # fmt: skip


def unstreamed(call: Call) -> Call:
    """The same question, answered whole."""
    if not call.stream:
        return call
    doc = {name: value for name, value in (call.doc or {}).items() if name not in _STREAM}
    raw = rawjson.replace(call.raw, _STREAM)
    return msgspec.structs.replace(call, raw=raw, doc=doc, stream=False, wants_usage=False)
