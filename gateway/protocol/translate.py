"""What every translation shares: reading a caller's JSON with the parameter's name at hand, and a stream's state.

Translations never drop what changes an answer: a field that the other side cannot say is refused by name.
"""

import re
from typing import Any, ClassVar, Literal

import msgspec

from gateway.core.errors import BadRequest, UpstreamBroken
from gateway.protocol.sse import Event

Json = dict[str, Any]
UsageDialect = Literal["openai", "anthropic"]
MAX_MALFORMED_EVENTS = 3
_REASONING_MODEL = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9]|codex)")
encode = msgspec.json.Encoder().encode


def refused(param: str, why: str) -> BadRequest:
    """400 for a field that the target's API cannot express."""
    return BadRequest(f"'{param}' cannot be sent to this model: {why}", param=param, code="unsupported_parameter")


def _wrong_type(param: str, expected: str) -> BadRequest:
    return BadRequest(f"Invalid type for '{param}': expected {expected}.", param=param, code="invalid_type")


def string(value: Any, param: str) -> str:
    """`value`, which must be a string; raises `BadRequest`."""
    if type(value) is not str:
        raise _wrong_type(param, "a string")
    return value


def array(value: Any, param: str) -> list[Any]:
    """`value`, which must be an array; raises `BadRequest`."""
    if type(value) is not list:
        raise _wrong_type(param, "an array")
    return value


def mapping(value: Any, param: str) -> Json:
    """`value`, which must be an object; raises `BadRequest`."""
    if type(value) is not dict:
        raise _wrong_type(param, "an object")
    return value


def refuse_others(doc: Json, known: frozenset[str], neutral: dict[str, tuple[Any, ...]], api: str) -> None:
    """Refuses what is neither known, nor null, nor at a value that asks for nothing (`neutral`)."""
    for key, value in doc.items():
        if value is None or key in known or (key in neutral and value in neutral[key]):
            continue
        raise refused(key, f"{api} has no counterpart for it.")


def data_url(url: str) -> tuple[str, str] | None:
    """`(media type, base64)` of a base64 data URL (RFC 2397), else `None`."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[5:].split(";", 1)[0], data


def limit_key(model: str) -> str:
    """How a chat request says its limit: `max_tokens`, which every server knows, but for OpenAI's reasoning models.

    Those refuse it and take `max_completion_tokens`, which other servers may pass over in silence.
    """
    return "max_completion_tokens" if _REASONING_MODEL.search(model) else "max_tokens"


class Translated(msgspec.Struct, frozen=True):
    """A complete answer in the caller's format, and what the upstream said of it.

    `usage_obj` is the upstream's own object in the format `usage_dialect`; `finish_reasons` are the caller's words.
    """

    body: bytes
    id: str | None
    model: str | None
    usage_obj: Json | None
    usage_dialect: UsageDialect
    finish_reasons: tuple[str, ...]


class StreamTranslator:
    """State of one translated stream; subclasses say what an event means.

    `feed` takes the upstream's events in order and returns the caller's bytes. An upstream's error ends the stream:
    it lands in `error`, as a body in the caller's format, for the driver to frame, and no finish reason is invented.
    An event whose data is not what it must be is dropped and counted in `malformed`; more than three raise
    `UpstreamBroken`. `id` and `model` are the upstream's. `chars` counts the characters delivered, from which usage
    is estimated where none came. `usage_obj` is the upstream's own object in the format `usage_dialect`.
    """

    usage_dialect: ClassVar[UsageDialect]

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.error: bytes | None = None
        self.chars = 0
        self.malformed = 0
        self.usage_obj: Json | None = None
        self.finish_reasons: list[str] = []
        self._done = False

    def feed(self, event: Event) -> bytes:
        """The caller's bytes for one event; empty once the stream is done or has failed."""
        if self._done or self.error is not None:
            return b""
        try:
            return self._translate(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            self.malformed += 1
            if self.malformed > MAX_MALFORMED_EVENTS:
                raise UpstreamBroken("The upstream's stream is not valid: too many malformed events.") from exc
            return b""

    def finish(self) -> bytes:
        """The upstream closed cleanly: what is left to send, the terminator where only that was missing."""
        if self._done or self.error is not None or not self.finish_reasons:
            return b""
        return self._end()

    @property
    def done(self) -> bool:
        """The terminal event went out."""
        return self._done

    @property
    def truncated(self) -> bool:
        """Closed with neither a terminal event nor a finish reason: the answer was cut."""
        return not self._done and not self.finish_reasons

    def _translate(self, data: bytes) -> bytes:
        """The caller's bytes for one event's data; raises msgspec's errors before it changes any state."""
        raise NotImplementedError

    def _end(self) -> bytes:
        """Everything up to and with the terminator; sets `_done`."""
        raise NotImplementedError
