"""A chat completion as an answer of Anthropic's Messages API, whole or as a stream.

Reasoning is a thinking block with an empty signature, a refusal is text, each tool call a tool_use block. The counts
of a stream arrive with its end, so `message_start` says 0 and `message_delta` has the cumulative truth.
Source: Anthropic's Messages and streaming pages.
"""

from typing import Any, ClassVar

import msgspec

from gateway.core.errors import UpstreamBroken
from gateway.protocol.anthropic import STOP_REASONS, anthropic_error_from_openai, messages_usage
from gateway.protocol.sse import frame
from gateway.protocol.translate import Json, StreamTranslator, Translated, UsageDialect, encode
from gateway.protocol.translate_chat_wire import Calls, Choice, Spoken, ToolCall, decode_chunk, decode_completion


def stop_of(choice: Choice, *, called: bool) -> tuple[str, str | None]:
    """`(stop_reason, stop_sequence)`; a forced call ends with `stop` at OpenAI, and with `tool_use` at Anthropic."""
    reason = STOP_REASONS.get(choice.finish_reason or "stop", "end_turn")
    if reason == "end_turn" and called:
        return "tool_use", None
    if reason == "end_turn" and isinstance(choice.stop_reason, str):
        return "stop_sequence", choice.stop_reason
    return reason, None


def chat_to_message(body: bytes, *, model: str) -> Translated:
    """A chat completion as a message under the name `model`.

    A call whose arguments were cut by the length limit is left out, as it cannot be made. Raises `UpstreamBroken` for
    a body that is not a completion, and for arguments that are not a JSON object.
    """
    completion, choice, message = decode_completion(body)
    content: list[Json] = []
    if message.thought:
        content.append({"type": "thinking", "thinking": message.thought, "signature": ""})
    if text := message.text or message.refusal or "":
        content.append({"type": "text", "text": text})
    called = False
    for i, call in enumerate(message.tool_calls or []):
        arguments = _arguments(call)
        if arguments is None and choice.finish_reason != "length":
            raise UpstreamBroken("The upstream's tool call has arguments that are not a JSON object.")
        if arguments is not None:
            called = True
            id_ = call.id or f"toolu_{completion.id or ''}_{i}"
            content.append({"type": "tool_use", "id": id_, "name": call.function.name or "", "input": arguments})
    reason, sequence = stop_of(choice, called=called)
    out = _message(completion.id, model, content, completion.usage)
    out["stop_reason"], out["stop_sequence"] = reason, sequence
    return Translated(encode(out), completion.id, completion.model, completion.usage, "openai", (reason,))


def _arguments(call: ToolCall) -> Json | None:
    try:
        return msgspec.json.decode(call.function.written() or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


def _message(id_: str | None, model: str, content: list[Json], usage: Json | None) -> Json:
    return {
        "id": id_ or "",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": messages_usage(usage or {}),
    }


class ChatToMessagesStream(StreamTranslator):
    """Chat chunks as Anthropic's event stream under the name `model`.

    One content block is open at a time, as Anthropic sends them. A tool call opens its block when its name is known.
    The end waits for `[DONE]`, because the usage comes after the finish reason. Pieces of two tool calls in
    turns cannot be said and raise `UpstreamBroken`.
    """

    usage_dialect: ClassVar[UsageDialect] = "openai"

    def __init__(self, model: str) -> None:
        super().__init__()
        self._name = model
        self._started = False
        self._open: str | int | None = None
        self._blocks = 0
        self._calls = Calls()
        self._choice = Choice()

    def _translate(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return self._end() if self.finish_reasons else b""
        chunk = decode_chunk(data)
        if chunk.error is not None:
            self.error = anthropic_error_from_openai(data, _status_of(chunk.error))
            return b""
        if chunk.usage is not None:
            self.usage_obj = chunk.usage
        out = b""
        if not self._started:
            self.id, self.model = chunk.id, chunk.model
            out = self._start()
        for choice in chunk.choices:
            if choice.delta is not None:
                out += self._delta(choice.delta)
            if choice.finish_reason:
                self._choice = choice
                self.finish_reasons = [stop_of(choice, called=bool(self._calls))[0]]
        return out

    def _start(self) -> bytes:
        self._started = True
        message = _message(self.id, self._name, [], None)
        return _event("message_start", {"message": message})

    def _delta(self, delta: Spoken) -> bytes:
        out = b""
        if delta.thought:
            out += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._piece({"type": "thinking_delta", "thinking": delta.thought}, len(delta.thought))
        if text := delta.text or delta.refusal or "":
            out += self._block("text", {"type": "text", "text": ""})
            out += self._piece({"type": "text_delta", "text": text}, len(text))
        for call in delta.tool_calls or []:
            out += self._call(call)
        return out

    def _call(self, call: ToolCall) -> bytes:
        piece = self._calls.piece(call)
        if piece is None:
            return b""
        if not piece.opens and self._open != piece.index:
            raise UpstreamBroken("The upstream sent pieces of two tool calls in turns.")
        if not piece.opens:
            return self._call_arguments(piece.arguments)
        id_ = piece.id or f"toolu_{self.id or ''}_{piece.index}"
        block = {"type": "tool_use", "id": id_, "name": piece.name, "input": {}}
        return self._block(piece.index, block) + self._call_arguments(piece.arguments)

    def _call_arguments(self, text: str) -> bytes:
        return self._piece({"type": "input_json_delta", "partial_json": text}, len(text)) if text else b""

    def _block(self, key: str | int, block: Json) -> bytes:
        """Opens a block for `key` unless it is the one that is open."""
        if self._open == key:
            return b""
        out = self._close()
        self._open = key
        return out + _event("content_block_start", {"index": self._blocks, "content_block": block})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._blocks += 1
        return _event("content_block_stop", {"index": self._blocks - 1})

    def _piece(self, delta: Json, chars: int) -> bytes:
        self.chars += chars
        return _event("content_block_delta", {"index": self._blocks, "delta": delta})

    def _end(self) -> bytes:
        self._done = True
        reason, sequence = stop_of(self._choice, called=bool(self._calls))
        self.finish_reasons = [reason]
        usage = messages_usage(self.usage_obj or {})
        return (
            self._close()
            + _event("message_delta", {"delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": usage})
            + _event("message_stop", {})
        )


def _status_of(error: Any) -> int:
    """The status that an error inside a stream names as its `code` (vLLM does), else 500."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if type(code) is int and 400 <= code < 600 else 500


def _event(kind: str, members: Json) -> bytes:
    return frame(encode({"type": kind, **members}), kind)
