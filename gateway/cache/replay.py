"""A kept answer as the caller wants it now, and an answer just streamed in the form in which it is kept.

Answers are kept as the endpoint's JSON. A replay has a new id and time; everything else, members unknown to us among
it, is the answer as it was given, its usage included: the caller sees the tokens of the answer, the record says that
they cost nothing. Knows no store, and never whether an answer may be served.
"""

import msgspec

from gateway.cache import replay_chat, replay_messages, replay_responses
from gateway.core.errors import UpstreamBroken
from gateway.core.exchange import Call, Endpoint, Usage
from gateway.protocol import rawjson, sse

_PREFIX = {"chat": "chatcmpl-", "completions": "cmpl-", "messages": "msg_", "responses": "resp_"}
_CREATED = {"chat": "created", "completions": "created", "responses": "created_at"}
_WRONG = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError, IndexError)


def assemble(endpoint: Endpoint, stream: bytes, usage: Usage | None) -> bytes | None:
    """The JSON answer that a whole stream, as the caller got it, adds up to.

    `usage` stands in where the stream does not carry it because the caller did not ask. `None` for a stream that was
    cut, carries an error, or cannot be put together without loss: it must not be kept.
    """
    parser = sse.Parser()
    try:
        data = [event.data for event in parser.feed(stream) + parser.finish()]
        if endpoint == "messages":
            return replay_messages.assemble([msgspec.json.decode(one) for one in data])
        if endpoint == "responses":
            return replay_responses.assemble([msgspec.json.decode(one) for one in data])
        if endpoint not in ("chat", "completions") or not data or data[-1] != b"[DONE]":
            return None
        return replay_chat.assemble(endpoint, [msgspec.json.decode(one) for one in data[:-1]], usage)
    except (*_WRONG, UpstreamBroken):
        return None


def body(endpoint: Endpoint, kept: bytes, call: Call, unique: str, created: int) -> bytes:
    """The answer as JSON. `unique` makes the new id (32 hex digits do), `created` is Unix seconds."""
    if endpoint == "responses":
        return replay_responses.renew(kept, call.doc or {}, _PREFIX[endpoint] + unique, created)
    edits: dict[str, bytes | None] = {}
    if endpoint in _PREFIX:
        edits["id"] = msgspec.json.encode(_PREFIX[endpoint] + unique)
    if endpoint in _CREATED:
        edits[_CREATED[endpoint]] = msgspec.json.encode(created)
    return rawjson.replace(kept, edits) if edits else kept


def stream(endpoint: Endpoint, kept: bytes, call: Call, unique: str, created: int) -> list[bytes]:
    """The answer as server-sent events, a handful of pieces to a text; the last element is the terminal event.

    Chat and completions end with `[DONE]` and report usage only where the caller asked for it.
    """
    renewed = body(endpoint, kept, call, unique, created)
    answer = msgspec.json.decode(renewed)
    if endpoint == "messages":
        return replay_messages.events(answer)
    if endpoint == "responses":
        return replay_responses.events(answer)
    return replay_chat.events(endpoint, answer, include_usage=call.wants_usage)


def replayable(endpoint: Endpoint, kept: bytes, call: Call) -> bool:
    """Whether both forms can be made of an answer: asked before it is kept, so that no replay fails later."""
    try:
        stream(endpoint, kept, call, "", 0) if endpoint in _PREFIX else msgspec.json.decode(kept)
    except _WRONG:
        return False
    return True
