"""Chat chunks as the event stream of OpenAI's Responses API, and the chain that puts Anthropic's stream before it.

Source: OpenAI's Responses streaming reference and the event types of its Python SDK.
"""

from typing import ClassVar

from gateway.core.errors import UpstreamBroken
from gateway.protocol import sse
from gateway.protocol.anthropic import openai_error_message
from gateway.protocol.translate import Json, StreamTranslator, UsageDialect, encode
from gateway.protocol.translate_chat_wire import Calls, Spoken, ToolCall, decode_chunk
from gateway.protocol.translate_from_messages import MessagesToChatStream
from gateway.protocol.translate_responses_answer import (
    call_item,
    completed,
    message_item,
    reasoning_item,
    skeleton,
    text_part,
)


class _Open:
    """The output item that is being written. `key` is reasoning, text, refusal, or the number of a call."""

    def __init__(self, key: str | int, id_: str, call_id: str = "", name: str = "") -> None:
        self.key = key
        self.id = id_
        self.call_id = call_id
        self.name = name
        self.text: list[str] = []
        self.blocks: list[Json] = []

    def item(self, status: str) -> Json:
        """The item as far as it is written."""
        text = "".join(self.text)
        if self.key == "reasoning":
            return reasoning_item(self.id, text, self.blocks, status)
        if isinstance(self.key, int):
            return call_item(self.id, self.call_id, self.name, text, status)
        return message_item(self.id, [self.part()] if self.text else [], status)

    def part(self) -> Json:
        """The content part of a message or of reasoning."""
        text = "".join(self.text)
        if self.key == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "reasoning_text", "text": text} if self.key == "reasoning" else text_part(text)


_EVENTS = {"text": "output_text", "refusal": "refusal", "reasoning": "reasoning_text"}


class ChatToResponsesStream(StreamTranslator):
    """Chat chunks as the events that answer the Responses `request`, under the name `model`; `created` in Unix seconds.

    One output item is open at a time. The end waits for `[DONE]`, because the usage comes after the finish reason.
    Pieces of two tool calls in turns cannot be said and raise `UpstreamBroken`.
    """

    usage_dialect: ClassVar[UsageDialect] = "openai"

    def __init__(self, *, request: Json, model: str, created: int) -> None:
        super().__init__()
        self._request = request
        self._name = model
        self._created = created
        self._response: Json = {}
        self._sequence = 0
        self._output: list[Json] = []
        self._open: _Open | None = None
        self._calls = Calls()
        self._finish_reason: str | None = None

    def _translate(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return self._end() if self.finish_reasons else b""
        chunk = decode_chunk(data)
        if chunk.error is not None:
            message, code = openai_error_message(data)
            body = {"type": "error", "code": code, "message": message, "param": None}
            self.error = encode({**body, "sequence_number": self._sequence})
            return b""
        if chunk.usage is not None:
            self.usage_obj = chunk.usage
        out = b""
        if not self._response:
            self.id, self.model = chunk.id, chunk.model
            self._response = skeleton(self._request, chunk.id, self._name, self._created)
            out = self._event("response.created", {"response": self._response})
            out += self._event("response.in_progress", {"response": self._response})
        for choice in chunk.choices:
            if choice.delta is not None:
                out += self._delta(choice.delta)
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
                self.finish_reasons = [completed({}, [], choice.finish_reason, None)["status"]]
        return out

    def _event(self, kind: str, members: Json) -> bytes:
        body = encode({"type": kind, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return sse.frame(body, kind)

    def _delta(self, delta: Spoken) -> bytes:
        out = b""
        if delta.thought:
            out += self._write("reasoning", delta.thought)
        if delta.thinking_blocks:
            out += self._begin("reasoning", "rs")
            assert self._open is not None
            self._open.blocks += delta.thinking_blocks
        if delta.text:
            out += self._write("text", delta.text)
        if delta.refusal:
            out += self._write("refusal", delta.refusal)
        for call in delta.tool_calls or []:
            out += self._call(call)
        return out

    def _at(self, content: bool = True) -> Json:
        assert self._open is not None
        at: Json = {"item_id": self._open.id, "output_index": len(self._output)}
        return {**at, "content_index": 0} if content else at

    def _begin(self, key: str | int, prefix: str, call_id: str | None = None, name: str = "") -> bytes:
        """Opens an item for `key` unless it is the one that is open."""
        if self._open is not None and self._open.key == key:
            return b""
        out = self._close()
        id_ = f"{prefix}_{self.id or ''}_{len(self._output)}"
        self._open = _Open(key, id_, call_id or id_, name)
        added = {"output_index": len(self._output), "item": self._open.item("in_progress")}
        return out + self._event("response.output_item.added", added)

    def _write(self, key: str, text: str) -> bytes:
        out = self._begin(key, "rs" if key == "reasoning" else "msg")
        assert self._open is not None
        if not self._open.text:
            out += self._event("response.content_part.added", {**self._at(), "part": self._open.part()})
        self._open.text.append(text)
        self.chars += len(text)
        extra: Json = {"logprobs": []} if key == "text" else {}
        return out + self._event(f"response.{_EVENTS[key]}.delta", {**self._at(), "delta": text, **extra})

    def _call(self, call: ToolCall) -> bytes:
        piece = self._calls.piece(call)
        if piece is None:
            return b""
        if not piece.opens and (self._open is None or self._open.key != piece.index):
            raise UpstreamBroken("The upstream sent pieces of two tool calls in turns.")
        out = self._begin(piece.index, "fc", piece.id, piece.name)
        if not piece.arguments:
            return out
        assert self._open is not None
        self._open.text.append(piece.arguments)
        self.chars += len(piece.arguments)
        delta = {**self._at(content=False), "delta": piece.arguments}
        return out + self._event("response.function_call_arguments.delta", delta)

    def _close(self, status: str = "completed") -> bytes:
        item = self._open
        if item is None:
            return b""
        out = b""
        text = "".join(item.text)
        if isinstance(item.key, int):
            done = {**self._at(content=False), "name": item.name, "arguments": text}
            out += self._event("response.function_call_arguments.done", done)
        elif text:
            words = {"refusal": text} if item.key == "refusal" else {"text": text}
            extra: Json = {"logprobs": []} if item.key == "text" else {}
            out += self._event(f"response.{_EVENTS[item.key]}.done", {**self._at(), **words, **extra})
            out += self._event("response.content_part.done", {**self._at(), "part": item.part()})
        finished = item.item(status)
        out += self._event("response.output_item.done", {"output_index": len(self._output), "item": finished})
        self._output.append(finished)
        self._open = None
        return out

    def _end(self) -> bytes:
        self._done = True
        status = self.finish_reasons[0]
        out = self._close(status)
        response = completed(self._response, self._output, self._finish_reason, self.usage_obj)
        return out + self._event(f"response.{status}", {"response": response})


class MessagesToResponsesStream(ChatToResponsesStream):
    """Anthropic's event stream as the events that answer a Responses request, by way of chat chunks.

    `id`, `model` and `usage_obj` are Anthropic's own.
    """

    usage_dialect: ClassVar[UsageDialect] = "anthropic"

    def __init__(self, *, request: Json, model: str, created: int) -> None:
        super().__init__(request=request, model=model, created=created)
        self._first = MessagesToChatStream(model, include_usage=True, created=created)
        self._between = sse.Parser()

    def feed(self, event: sse.Event) -> bytes:
        """See `StreamTranslator`."""
        return self._pass_on(self._first.feed(event))

    def finish(self) -> bytes:
        """See `StreamTranslator`."""
        return self._pass_on(self._first.finish())

    def _pass_on(self, chunks: bytes) -> bytes:
        out = b"".join([super(MessagesToResponsesStream, self).feed(event) for event in self._between.feed(chunks)])
        if self._first.error is not None and self.error is None:
            super().feed(sse.Event(None, self._first.error, b""))
        self.model, self.usage_obj = self._first.model, self._first.usage_obj
        return out
