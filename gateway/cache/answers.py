"""What an answer says, as one text; knows no store."""

from typing import Any

import msgspec

from gateway.core.exchange import Endpoint

_WRONG = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError, IndexError)


def answer_text(endpoint: Endpoint, body: bytes) -> str:
    """The text of a JSON answer, of its first choice; empty where it has none or is damaged."""
    try:
        return _text(endpoint, msgspec.json.decode(body))
    except _WRONG:
        return ""


def _text(endpoint: Endpoint, answer: dict[str, Any]) -> str:
    if endpoint == "chat":
        return answer["choices"][0]["message"]["content"] or ""
    if endpoint == "completions":
        return answer["choices"][0]["text"] or ""
    if endpoint == "messages":
        return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
    if endpoint == "responses":
        messages = [item for item in answer["output"] if item["type"] == "message"]
        return "".join(part["text"] for item in messages for part in item["content"] if part["type"] == "output_text")
    return ""
