"""Which wire format a target speaks for an endpoint, and the codec between it and the caller's.

A codec is the pair (what the caller speaks, what the target speaks): it makes the upstream's path and body from a
`Call` and reads the upstream's answer back. Pure: bytes in, bytes out. Same format on both sides means the bytes
go through as they came, edited only where the caller's view differs (the model's alias, usage that only we asked
for).
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from gateway.core.exchange import Call, Endpoint, Target, Usage
from gateway.protocol import openai, rawjson
from gateway.protocol.usage import estimate_tokens, from_anthropic, from_openai, from_responses


class Decoded(msgspec.Struct, frozen=True):
    """A complete answer for the caller and what it says of itself."""

    body: bytes
    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    finish_reasons: tuple[str, ...] = ()


class StreamCodec(Protocol):
    """Upstream bytes to the caller's bytes, event by event; see `protocol.openai.ChatStream`."""

    @property
    def id(self) -> str | None:
        """The upstream's id of the answer."""
        ...

    @property
    def model(self) -> str | None:
        """The model that answered, in the upstream's words."""
        ...

    @property
    def error(self) -> bytes | None:
        """The upstream's error event, in the caller's format; nothing follows it."""
        ...

    @property
    def chars(self) -> int:
        """Characters delivered so far."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What can be sent to the caller now."""
        ...

    def finish(self) -> bytes:
        """The upstream closed cleanly; the rest."""
        ...

    @property
    def done(self) -> bool:
        """The terminal event was seen."""
        ...

    @property
    def truncated(self) -> bool:
        """Closed without a terminal event."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Reported tokens, `None` while there are none."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """Finish reasons as the caller sees them."""
        ...


class Codec(Protocol):
    """One pair of formats."""

    def request(self, call: Call, target: Target) -> tuple[str, bytes]:
        """Path below the target's base URL, and the body."""
        ...

    def answer(self, call: Call, target: Target, body: bytes, created: int) -> Decoded:
        """A 2xx body; `created` is Unix seconds, for formats that want it. Raises `UpstreamBroken`."""
        ...

    def stream(self, call: Call, target: Target, created: int) -> StreamCodec:
        """A fresh stream state."""
        ...

    def error(self, status: int, body: bytes) -> bytes:
        """An error body in the caller's format."""
        ...


def upstream_model(call: Call, target: Target) -> str:
    """The name to ask the target for."""
    return target.model or call.model or ""


def echoed(call: Call, target: Target) -> str | None:
    """The alias to write into answers, `None` where the upstream's own bytes can stay."""
    return call.model if target.model is not None and target.model != call.model else None


class _ChatStream(openai.ChatStream):
    @property
    def usage(self) -> Usage | None:
        return from_openai(self.usage_obj) if self.usage_obj else None

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.finish_reasons)


class OpenAINative:
    """chat, completions, embeddings on a target that speaks them: the caller's own bytes."""

    def request(self, call: Call, target: Target) -> tuple[str, bytes]:
        """See `Codec`."""
        return call.path[3:], openai.request_body(call, target.model)

    def answer(self, call: Call, target: Target, body: bytes, created: int) -> Decoded:  # noqa: ARG002 - the port's
        """See `Codec`."""
        answer = openai.read_answer(body, echoed(call, target))
        usage = from_openai(answer.usage) if answer.usage else None
        return Decoded(answer.body, answer.id, answer.model, usage, answer.finish_reasons)

    def stream(self, call: Call, target: Target, created: int) -> StreamCodec:  # noqa: ARG002 - the port's
        """See `Codec`."""
        return _ChatStream(strip_usage=not call.wants_usage, echo_model=echoed(call, target))

    def error(self, status: int, body: bytes) -> bytes:  # noqa: ARG002 - the port's signature
        """The upstream's error object, verbatim."""
        return body


class _Sniffed(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    stop_reason: str | None = None
    status: str | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _SniffedEvent(_Sniffed):
    message: _Sniffed | None = None
    response: _Sniffed | None = None
    delta: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_sniff = msgspec.json.Decoder(_Sniffed).decode
_sniff_event = msgspec.json.Decoder(_SniffedEvent).decode
_TERMINAL = frozenset(["message_stop", "response.completed", "response.incomplete", "response.failed"])


class _SniffStream:
    """Typed event streams (Responses, Anthropic Messages) relayed as they came, read for usage and ends."""

    def __init__(self, normalise: Callable[[dict[str, Any]], Usage | None], echo_model: str | None) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.error: bytes | None = None
        self.chars = 0
        self.done = False
        self.reasons: tuple[str, ...] = ()
        self._usage: dict[str, Any] = {}
        self._normalise = normalise
        self._echo = echo_model
        self._framer = openai.Framer()

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._event(event) for event in self._framer.feed(data)])

    def _event(self, event: bytes) -> bytes:
        payload = openai.event_data(event)
        if payload is None:
            return event
        try:
            seen = _sniff_event(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        if seen.type == "error":
            self.error = payload
            return b""
        inner = seen.message or seen.response
        for part in (inner, seen):
            if part is not None and part.usage:
                self._usage.update({k: v for k, v in part.usage.items() if v is not None})
        if inner is not None:
            self.id, self.model = inner.id or self.id, inner.model or self.model
        if seen.delta is not msgspec.UNSET:
            self.chars += len(seen.delta)
        if seen.type in _TERMINAL:
            self.done = True
        if self._echo is not None and inner is not None and inner.model not in (None, self._echo):
            return self._renamed(payload, seen)
        return event

    def _renamed(self, payload: bytes, seen: _SniffedEvent) -> bytes:
        key = "message" if seen.message is not None else "response"
        members = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        inner = rawjson.replace(bytes(members[key]), {"model": msgspec.json.encode(self._echo)})
        edited = rawjson.replace(payload, {key: inner})
        return b"event: " + (seen.type or "").encode() + b"\ndata: " + edited + b"\n\n"

    def finish(self) -> bytes:
        return self._framer.rest()

    @property
    def truncated(self) -> bool:
        return not self.done

    @property
    def usage(self) -> Usage | None:
        return self._normalise(self._usage) if self._usage else None


class TypedNative:
    """responses on an OpenAI-compatible target, messages on Anthropic: typed objects and events, as they came."""

    def __init__(self, normalise: Callable[[dict[str, Any]], Usage | None]) -> None:
        self._normalise = normalise

    def request(self, call: Call, target: Target) -> tuple[str, bytes]:
        """See `Codec`."""
        edits = {} if echoed(call, target) is None else {"model": msgspec.json.encode(target.model)}
        return call.path[3:], rawjson.replace(call.raw, edits) if edits else call.raw

    def answer(self, call: Call, target: Target, body: bytes, created: int) -> Decoded:  # noqa: ARG002 - the port's
        """See `Codec`."""
        try:
            seen = _sniff(body)
        except msgspec.ValidationError:
            return Decoded(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise openai.not_json() from exc
        alias = echoed(call, target)
        if alias is not None and seen.model not in (None, alias):
            body = rawjson.replace(body, {"model": msgspec.json.encode(alias)})
        usage = self._normalise(seen.usage) if seen.usage else None
        reason = seen.stop_reason or seen.status
        return Decoded(body, seen.id, seen.model, usage, (reason,) if reason else ())

    def stream(self, call: Call, target: Target, created: int) -> StreamCodec:  # noqa: ARG002 - the port's
        """See `Codec`."""
        return _SniffStream(self._normalise, echoed(call, target))

    def error(self, status: int, body: bytes) -> bytes:  # noqa: ARG002 - the port's signature
        """The upstream's error object, verbatim."""
        return body


def estimate(call: Call, chars_out: int) -> Usage:
    """Tokens by the rule of four characters each, marked `estimated`: the stand-in where none were reported."""
    doc = call.doc or {}
    chars_in = sum(_text_length(doc.get(key)) for key in ("messages", "prompt", "input", "system", "instructions"))
    return Usage(uncached_input=estimate_tokens(chars_in), output=estimate_tokens(chars_out), source="estimated")


def _text_length(value: object) -> int:
    """Characters of text in a message list or prompt; data URLs of images are not text."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            return 4 * len(value)  # a prompt of token ids
        return sum(_text_length(item) for item in value)
    if isinstance(value, dict):
        return sum(_text_length(item) for key, item in value.items() if key not in ("role", "type", "id"))
    return 0


class Forward(TypedNative):
    """Any other path: method, path and bytes as they came; a JSON answer is read for its usage."""

    def __init__(self) -> None:
        super().__init__(_any_usage)

    def request(self, call: Call, target: Target) -> tuple[str, bytes]:
        """See `Codec`; the model's alias is replaced in JSON bodies only."""
        if call.doc is not None and echoed(call, target) is not None:
            return super().request(call, target)
        return call.path[3:], call.raw


def _any_usage(usage: dict[str, Any]) -> Usage | None:
    return from_responses(usage) if "input_tokens" in usage else from_openai(usage)


_OPENAI = OpenAINative()
_RESPONSES = TypedNative(from_responses)
_MESSAGES = TypedNative(from_anthropic)
_FORWARD = Forward()


def _translated(endpoint: Endpoint, speaks: Literal["chat", "messages"]) -> Codec:
    from gateway.dispatch.translated import translated  # noqa: PLC0415 - most processes never translate

    return translated(endpoint, speaks)


def codec_for(call: Call, target: Target) -> Codec:
    """The codec for what `call` speaks and `target` speaks."""
    endpoint, provider = call.endpoint, target.provider
    if endpoint == "other":
        return _FORWARD
    if provider == "anthropic":
        return _MESSAGES if endpoint == "messages" else _translated(endpoint, "messages")
    if endpoint == "messages" or (endpoint == "responses" and provider == "sandbox"):
        return _translated(endpoint, "chat")
    return _RESPONSES if endpoint == "responses" else _OPENAI
