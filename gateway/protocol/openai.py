"""OpenAI's wire format: what a request asks for, what an answer says of itself, and streams relayed as they came.

Reads only what decisions and accounts need and edits only the members that differ; everything else goes through
byte for byte. Source: OpenAI's API reference and the behaviour of the official Python SDK.
"""

import re
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.core.errors import BadRequest, NotFound, UpstreamBroken
from gateway.core.exchange import Call, Dialect, Endpoint
from gateway.protocol import rawjson

ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
DONE = b"data: [DONE]\n\n"
_INCLUDE_USAGE = b'{"include_usage":true}'
MAX_EVENT_BYTES = 32 << 20
MAX_MALFORMED_EVENTS = 3


def parse_call(
    endpoint: Endpoint,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    index: dict[bytes, bytes],
    raw: bytes,
) -> Call:
    """A `Call` from a JSON body; raises `BadRequest` where a field that decisions read has a wrong type."""
    doc = rawjson.decode_object(raw)
    get = doc.get
    model = get("model")
    if type(model) is not str or not model:
        if model is None or model == "":
            raise BadRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")
        raise _wrong_type("model", "a string", model)
    if not model.isprintable() or len(model) > 256:
        raise NotFound(f"The model `{model[:64]!a}` does not exist.", param="model")
    stream = get("stream")
    if stream is not None and type(stream) is not bool:
        raise _wrong_type("stream", "a boolean", stream)
    n = get("n")
    if n is not None and (type(n) is not int or n < 1):
        raise _wrong_type("n", "a positive integer", n)
    return Call(
        endpoint,
        "anthropic" if endpoint == "messages" else "openai",
        method,
        path,
        query,
        headers,
        raw,
        doc,
        model,
        stream or False,
        _wants_usage(get("stream_options")) if stream else False,
        n or 1,
        _max_tokens(doc),
        index,
    )


_FORM_MODEL = re.compile(rb'form-data; *name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n', re.IGNORECASE)


def parse_other(
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    index: dict[bytes, bytes],
    raw: bytes,
) -> Call:
    """A `Call` for a path that is forwarded as it is: only the model's name is read, from JSON or from a form."""
    dialect: Dialect = "anthropic" if path.startswith("/v1/messages") else "openai"
    kind = index.get(b"content-type", b"").lower()
    doc = None
    model: object = unquote(path.removeprefix("/v1/models/")) if path.startswith("/v1/models/") else None
    if raw and b"json" in kind:
        doc = rawjson.decode_object(raw)
        model = doc.get("model", model)
    elif kind.startswith(b"multipart/form-data"):
        found = _FORM_MODEL.search(raw)
        model = found[1].decode("utf-8", "replace") if found else None
    if model is not None and (type(model) is not str or not model.isprintable()):
        raise _wrong_type("model", "a string", model)
    return Call("other", dialect, method, path, query, headers, raw, doc, model, index=index)


def _wants_usage(options: Any) -> bool:
    if options is None:
        return False
    if type(options) is not dict:
        raise _wrong_type("stream_options", "an object", options)
    wanted = options.get("include_usage")
    if wanted is not None and type(wanted) is not bool:
        raise _wrong_type("stream_options.include_usage", "a boolean", wanted)
    return wanted or False


def _max_tokens(doc: dict[str, Any]) -> int | None:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = doc.get(key)
        if value is None:
            continue
        if type(value) is not int:
            raise _wrong_type(key, "an integer", value)
        return value
    return None


def _wrong_type(param: str, expected: str, value: object) -> BadRequest:
    kind = {"str": "a string", "int": "an integer", "float": "a number", "list": "an array", "dict": "an object"}
    got = kind.get(type(value).__name__, "null" if value is None else type(value).__name__)
    return BadRequest(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param=param,
        code="invalid_type",
    )


def request_body(call: Call, model: str | None) -> bytes:
    """The body to send: the caller's bytes, with the upstream's model name and usage asked for on streams."""
    raw = call.raw
    edits: dict[str, bytes | None] = {}
    if model is not None and model != call.model:
        edits["model"] = msgspec.json.encode(model)
    if call.stream and not call.wants_usage and call.endpoint in ("chat", "completions"):
        options = (call.doc or {}).get("stream_options")
        if options is None and not edits and "stream_options" not in (call.doc or {}):
            return rawjson.append(raw, "stream_options", _INCLUDE_USAGE)
        edits["stream_options"] = msgspec.json.encode({**(options or {}), "include_usage": True})
    return rawjson.replace(raw, edits) if edits else raw


class _Finish(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    choices: list[_Finish] = []
    status: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a complete answer says of itself; `usage` is the provider's object as it came, `None` if absent."""

    body: bytes
    id: str | None
    model: str | None
    usage: dict[str, Any] | None
    finish_reasons: tuple[str, ...]


_answer = msgspec.json.Decoder(_Answer).decode


def read_answer(body: bytes, echo_model: str | None) -> Answer:
    """Reads a JSON answer; `echo_model` replaces the model's name in it (the alias that the caller used).

    Raises `UpstreamBroken` when the body is not the JSON object that a success must be.
    """
    try:
        answer = _answer(body)
    except msgspec.ValidationError:  # JSON, but of another shape: an endpoint we do not know
        return Answer(body, None, None, None, ())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise not_json() from exc
    if echo_model is not None and answer.model is not None and answer.model != echo_model:
        body = rawjson.replace(body, {"model": msgspec.json.encode(echo_model)})
    reasons = tuple([c.finish_reason for c in answer.choices if c.finish_reason])
    return Answer(body, answer.id, answer.model, answer.usage, reasons)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _ChunkChoice(msgspec.Struct):
    finish_reason: str | None = None
    delta: _Delta | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_ChunkChoice] = []
    usage: dict[str, Any] | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_chunk = msgspec.json.Decoder(_Chunk).decode


def not_json() -> UpstreamBroken:
    """A 2xx answer that is not JSON."""
    return UpstreamBroken("The upstream's answer is not valid JSON.")


class Framer:
    """Whole server-sent events out of bytes in any split; an event keeps its own bytes.

    Line ends are normalised to LF where CR is used (WHATWG HTML, section 9.2.5). An event over 32 MiB raises
    `UpstreamBroken`. The common case, whole LF events, costs one `endswith` and one `count`.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete, each with its blank line; the rest is kept."""
        if self._tail:
            seam = bytes(self._tail[-3:]) + data
            self._tail += data
            if b"\n\n" not in seam and b"\n\r" not in seam and b"\r\r" not in seam:
                self._check_size()  # still the same event: no copy, however long it is
                return []
            data = bytes(self._tail)
            self._tail.clear()
        if not data.endswith(b"\n\n"):
            data = self._keep_tail(data)
            if not data:
                return []
        if data.count(b"\n\n") == 1:
            return [data]
        return [event + b"\n\n" for event in data[:-2].split(b"\n\n") if event]

    def _keep_tail(self, data: bytes) -> bytes:
        if b"\r" in data:
            held = b"\r" if data.endswith(b"\r") else b""  # perhaps half of a CRLF
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        cut = data.rfind(b"\n\n")
        cut = 0 if cut < 0 else cut + 2
        self._tail += data[cut:]
        self._check_size()
        return data[:cut]

    def _check_size(self) -> None:
        if len(self._tail) > MAX_EVENT_BYTES:
            raise UpstreamBroken(f"The upstream sent an event over {MAX_EVENT_BYTES >> 20} MiB.")

    def rest(self) -> bytes:
        """An event that the upstream ended without its blank line, completed; empty if there is none."""
        tail = bytes(self._tail).replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
        self._tail.clear()
        return tail + b"\n\n" if tail.strip() else b""


def event_data(event: bytes) -> bytes | None:
    """The data of one LF event; `None` for comments and keep-alives."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join([line[5:].removeprefix(b" ") for line in lines]) if lines else None


class ChatStream:
    """Chat and completion chunks from an OpenAI-compatible upstream, relayed event by event.

    An event is forwarded as its own bytes unless the caller must not see it as it is: the usage that only we
    asked for, or a model name that is not the one asked for. An event whose data is not JSON is dropped (and
    counted in `malformed`); more than three end the stream as broken. `chars` counts the characters delivered,
    from which usage is estimated when none came.
    """

    dialect = "openai"

    def __init__(self, *, strip_usage: bool, echo_model: str | None) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.usage_obj: dict[str, Any] | None = None
        self.finish_reasons: list[str] = []
        self.error: bytes | None = None
        self.chars = 0
        self.malformed = 0
        self._done = False
        self._strip_usage = strip_usage
        self._echo_model = echo_model
        self._framer = Framer()

    def feed(self, data: bytes) -> bytes:
        """Whole events ready for the caller; an incomplete one is kept for the next call."""
        events = self._framer.feed(data)
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def _event(self, event: bytes) -> bytes:
        payload = event_data(event)
        if payload is None:
            return event
        if payload == b"[DONE]":
            self._done = True
            return DONE
        try:
            chunk = _chunk(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._drop()
        return self._relay(event, payload, chunk)

    def _drop(self) -> bytes:
        self.malformed += 1
        if self.malformed > MAX_MALFORMED_EVENTS:
            raise UpstreamBroken("The upstream's stream is not valid: too many malformed events.")
        return b""

    def _relay(self, event: bytes, payload: bytes, chunk: _Chunk) -> bytes:
        if chunk.error is not msgspec.UNSET and bytes(chunk.error) != b"null":
            self.error = payload
            return b""
        if self.id is None:
            self.id = chunk.id
            self.model = chunk.model
        for choice in chunk.choices:
            delta = choice.delta
            if delta is not None:
                self.chars += len(delta.content or delta.reasoning_content or delta.tool_calls)
            elif choice.text:
                self.chars += len(choice.text)
            if choice.finish_reason:
                self.finish_reasons.append(choice.finish_reason)
        edits: dict[str, bytes | None] = {}
        if chunk.usage is not None:
            self.usage_obj = chunk.usage
            if self._strip_usage:
                if not chunk.choices:
                    return b""
                edits["usage"] = None
        elif self._strip_usage and b'"usage"' in payload:
            stripped = payload.replace(b',"usage":null', b"", 1)
            if stripped is payload or b'"usage"' in stripped:
                edits["usage"] = None
            else:
                payload = stripped
                event = b"data: " + stripped + b"\n\n"
        if self._echo_model is not None and chunk.model is not None and chunk.model != self._echo_model:
            edits["model"] = msgspec.json.encode(self._echo_model)
        return b"data: " + rawjson.replace(payload, edits) + b"\n\n" if edits else event

    @property
    def done(self) -> bool:
        """The upstream said `[DONE]`."""
        return self._done

    def finish(self) -> bytes:
        """The upstream closed cleanly: what is left to send."""
        rest = self._framer.rest()
        out = self._event(rest) if rest else b""
        if not self._done and self.finish_reasons and self.error is None:
            out += DONE  # every choice had ended: only the terminator was missing
            self._done = True
        return out

    @property
    def truncated(self) -> bool:
        """Closed with neither `[DONE]` nor a finish reason: the answer was cut."""
        return not self._done and not self.finish_reasons
