"""Calls as the edge makes them of a body and its headers."""

from typing import Any

import msgspec

from gateway.core.exchange import Call, Endpoint
from gateway.protocol.openai import ENDPOINTS, parse_call

PATHS = {endpoint: path for path, endpoint in ENDPOINTS.items()}


def call(doc: dict[str, Any], endpoint: Endpoint = "chat", headers: dict[str, str] | None = None) -> Call:
    """A parsed call; a `model` is added where the body has none."""
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    raw = msgspec.json.encode({"model": "gpt-4o", **doc})
    return parse_call(endpoint, "POST", PATHS[endpoint], b"", pairs, dict(pairs), raw)


def chat(text: str, **members: Any) -> Call:
    """A chat call with one user message."""
    return call({"messages": [{"role": "user", "content": text}], **members})
