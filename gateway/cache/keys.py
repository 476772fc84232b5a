"""Which requests are the same, and which differ in their last user text alone; knows no store, vector or threshold.

Both keys are SHA-256 over one JSON array: its quotes, brackets and commas delimit every part, so no text can take on
the role of another part, and object keys are sorted. No text is normalised: two spellings are two requests. Numbers
keep their JSON type, but for the sampling parameters, where 1 and 1.0 are one value.
"""

import hashlib
from typing import Any

import msgspec

from gateway.core.exchange import Call

_VERSION = 1
_SAMPLING = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
_TRANSPORT = frozenset([
    "model",  # the partition names its class
    "stream", "stream_options",  # the form of the answer, not its content
    "user", "safety_identifier", "metadata",  # who asks: a partition, where the rule says so
    "prompt_cache_key", "prompt_cache_retention",  # where the provider keeps its own cache
    "service_tier",  # how soon and at what price
])  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "tools": [],
    "stop": [],
    "encoding_format": "float",
}
"""What every server takes an absent member for. `temperature` and `top_p` are not here: a server may set its own."""
_HEADERS = (b"anthropic-version", b"anthropic-beta", b"openai-beta")
_TURNS = {"chat": "messages", "messages": "messages", "responses": "input"}
_TEXT_PARTS = frozenset(["text", "input_text"])
_encode = msgspec.json.Encoder(order="deterministic").encode


class Partition(msgspec.Struct, frozen=True):
    """Who may share an answer, and for how long it means the same; two that differ in anything share nothing.

    `user` is `None` where all users of the tenant share. `model` is the class of models that may answer for each
    other, `rule` the version of the policy's cache rule. `epochs` holds the current number of each knowledge tag.
    """

    tenant: str
    model: str
    rule: str
    user: str | None = None
    epochs: tuple[tuple[str, int], ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """Requests that may be compared by `text`, the last user text, alone: all else of them is equal, byte for byte."""

    key: str
    text: str


def exact_key(call: Call, partition: Partition) -> str:
    """64 hex digits, equal for two calls exactly when one answer serves both. `call.doc` must not be `None`."""
    return _digest("exact", call, partition, _asked(call), "")


def scope_key(call: Call, partition: Partition, models: str) -> Scope | None:
    """The scope of a call of chat, messages or responses, and the text to compare in it.

    `models` names the versions of encoder and verifier. `None` where the last turn is not a user's text: no turns, a
    tool's result, an image after the text, an assistant's beginning. Of several text parts the last one is compared.
    """
    turns = _TURNS.get(call.endpoint)
    asked = _asked(call)
    found = _without_text(asked.get(turns)) if turns else None
    if turns is None or found is None:
        return None
    text, rest = found
    asked[turns] = rest
    return Scope(_digest("scope", call, partition, asked, models), text)


def user_of(call: Call) -> str | None:
    """The end user whom the request names: `safety_identifier`, `user`, or Anthropic's `metadata.user_id`."""
    doc = call.doc or {}
    metadata = doc.get("metadata")
    if call.endpoint == "messages":
        user = metadata.get("user_id") if isinstance(metadata, dict) else None
    else:
        user = doc.get("safety_identifier") or doc.get("user")
    return user if isinstance(user, str) and user else None


def _asked(call: Call) -> dict[str, Any]:
    """The members that shape the answer, defaults left out; a copy of the top level only."""
    asked = {k: v for k, v in (call.doc or {}).items() if v is not None and k not in _TRANSPORT}
    for name in _SAMPLING:
        value = asked.get(name)
        if type(value) is int and -(2**53) < value < 2**53:
            asked[name] = float(value)
    if type(asked.get("stop")) is str:
        asked["stop"] = [asked["stop"]]
    for name in asked.keys() & _DEFAULTS.keys():
        default = _DEFAULTS[name]
        if type(asked[name]) is type(default) and asked[name] == default:
            del asked[name]
    if call.endpoint == "chat" and asked.get("store") is False:
        del asked["store"]  # the default of chat; the Responses API keeps answers unless it is told not to
    return asked


def _digest(kind: str, call: Call, partition: Partition, asked: dict[str, Any], models: str) -> str:
    beta = [[name.decode(), call.index[name].decode("latin-1")] for name in _HEADERS if name in call.index]
    who = [partition.tenant, partition.user, partition.model, partition.rule, sorted(partition.epochs)]
    query = call.query.decode("latin-1")
    return hashlib.sha256(_encode([_VERSION, kind, call.endpoint, who, models, query, beta, asked])).hexdigest()


def _without_text(turns: Any) -> tuple[str, Any] | None:
    """The last user text, and the turns with null in its place: no request has null there and a text as well."""
    if type(turns) is str:
        return turns, None
    if type(turns) is not list or not turns:
        return None
    last = turns[-1]
    if type(last) is not dict or last.get("role") != "user":
        return None
    content = last.get("content")
    if type(content) is str:
        return content, [*turns[:-1], {**last, "content": None}]
    if not isinstance(content, list) or not content:
        return None
    part = content[-1]
    if type(part) is not dict or part.get("type") not in _TEXT_PARTS or type(part.get("text")) is not str:
        return None
    blank = {**last, "content": [*content[:-1], {**part, "text": None}]}
    return part["text"], [*turns[:-1], blank]
