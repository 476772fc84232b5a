"""The codecs between a caller's format and a target's that is another one, from the translations in `protocol`."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.exchange import Call, Endpoint, Target, Usage
from gateway.dispatch.codec import Codec, Decoded, StreamCodec, upstream_model
from gateway.protocol import sse
from gateway.protocol.anthropic import anthropic_error_from_openai, openai_error_from_anthropic
from gateway.protocol.translate import StreamTranslator, Translated
from gateway.protocol.translate_from_chat import ChatToMessagesStream, chat_to_message
from gateway.protocol.translate_from_messages import MessagesToChatStream, message_to_chat
from gateway.protocol.translate_responses import responses_to_chat_request
from gateway.protocol.translate_responses_answer import chat_to_response, message_to_response
from gateway.protocol.translate_responses_stream import ChatToResponsesStream, MessagesToResponsesStream
from gateway.protocol.translate_to_chat import messages_to_chat_request
from gateway.protocol.translate_to_messages import chat_to_messages_request
from gateway.protocol.usage import from_anthropic, from_openai

Json = dict[str, Any]
Speaks = Literal["chat", "messages"]
_PATHS: dict[Speaks, str] = {"chat": "/chat/completions", "messages": "/messages"}


class _Stream:
    """A translator fed with bytes; see `codec.StreamCodec`."""

    def __init__(self, translator: StreamTranslator) -> None:
        self._translator = translator
        self._parser = sse.Parser()

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._translator.feed(event) for event in self._parser.feed(data)])

    def finish(self) -> bytes:
        rest = b"".join([self._translator.feed(event) for event in self._parser.finish()])
        return rest + self._translator.finish()

    @property
    def id(self) -> str | None:
        return self._translator.id

    @property
    def model(self) -> str | None:
        return self._translator.model

    @property
    def error(self) -> bytes | None:
        return self._translator.error

    @property
    def chars(self) -> int:
        return self._translator.chars

    @property
    def done(self) -> bool:
        return self._translator.done

    @property
    def truncated(self) -> bool:
        return self._translator.truncated

    @property
    def usage(self) -> Usage | None:
        return _usage(self._translator.usage_obj, self._translator.usage_dialect)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self._translator.finish_reasons)


def _usage(usage: Json | None, dialect: str) -> Usage | None:
    if not usage:
        return None
    return from_anthropic(usage) if dialect == "anthropic" else from_openai(usage)


class Translating:
    """A pair of formats put together from its request, answer and stream translations."""

    def __init__(
        self,
        speaks: Speaks,
        request: Callable[[Json, str], Json],
        answer: Callable[[Call, bytes, int], Translated],
        stream: Callable[[Call, int], StreamTranslator],
        error: Callable[[bytes, int], bytes] | None = None,
    ) -> None:
        self._path = _PATHS[speaks]
        self._speaks = speaks
        self._request = request
        self._answer = answer
        self._stream = stream
        self._error = error

    def request(self, call: Call, target: Target) -> tuple[str, bytes]:
        """See `Codec`; raises `BadRequest` for what the target's format cannot say."""
        doc = self._request(call.doc or {}, upstream_model(call, target))
        if call.stream and self._speaks == "chat":
            doc["stream_options"] = {"include_usage": True}
        return self._path, msgspec.json.encode(doc)

    def answer(self, call: Call, target: Target, body: bytes, created: int) -> Decoded:  # noqa: ARG002 - the port's
        """See `Codec`."""
        found = self._answer(call, body, created)
        return Decoded(
            found.body, found.id, found.model, _usage(found.usage_obj, found.usage_dialect), found.finish_reasons
        )

    def stream(self, call: Call, target: Target, created: int) -> StreamCodec:  # noqa: ARG002 - the port's
        """See `Codec`."""
        return _Stream(self._stream(call, created))

    def error(self, status: int, body: bytes) -> bytes:
        """See `Codec`."""
        return body if self._error is None else self._error(body, status)


def _alias(call: Call) -> str:
    return call.model or ""


def _doc(call: Call) -> Json:
    return call.doc or {}


def _responses_to_messages(doc: Json, model: str) -> Json:
    return chat_to_messages_request(responses_to_chat_request(doc, model), model)


_CODECS: dict[tuple[Endpoint, Speaks], Codec] = {
    ("chat", "messages"): Translating(
        "messages",
        chat_to_messages_request,
        lambda call, body, created: message_to_chat(body, model=_alias(call), created=created),
        lambda call, created: MessagesToChatStream(_alias(call), include_usage=call.wants_usage, created=created),
        openai_error_from_anthropic,
    ),
    ("messages", "chat"): Translating(
        "chat",
        messages_to_chat_request,
        lambda call, body, _: chat_to_message(body, model=_alias(call)),
        lambda call, _: ChatToMessagesStream(_alias(call)),
        anthropic_error_from_openai,
    ),
    ("responses", "chat"): Translating(
        "chat",
        responses_to_chat_request,
        lambda call, body, created: chat_to_response(body, request=_doc(call), model=_alias(call), created=created),
        lambda call, created: ChatToResponsesStream(request=_doc(call), model=_alias(call), created=created),
    ),
    ("responses", "messages"): Translating(
        "messages",
        _responses_to_messages,
        lambda call, body, created: message_to_response(body, request=_doc(call), model=_alias(call), created=created),
        lambda call, created: MessagesToResponsesStream(request=_doc(call), model=_alias(call), created=created),
        openai_error_from_anthropic,
    ),
}


def translated(endpoint: Endpoint, speaks: Speaks) -> Codec:
    """The codec of a pair; raises `BadRequest` for one that has no translation."""
    codec = _CODECS.get((endpoint, speaks))
    if codec is None:
        raise BadRequest(
            f"The target of this model speaks Anthropic's Messages only: it cannot answer {endpoint}.",
            code="unsupported_endpoint",
        )
    return codec
