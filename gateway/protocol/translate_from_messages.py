"""An answer of Anthropic's Messages API as a chat completion, whole or as a stream.

Text blocks are joined; thinking is `reasoning_content`, and `thinking_blocks` keeps it with its signature so that a
follow-up can send it back; server-side tool blocks have no counterpart and are left out.
Source: Anthropic's Messages and streaming pages; OpenAI's chat reference for the chunks.
"""

from typing import Any, ClassVar

import msgspec

from gateway.core.errors import UpstreamBroken
from gateway.protocol.anthropic import FINISH_REASONS, chat_usage, openai_error_from_anthropic
from gateway.protocol.sse import DONE
from gateway.protocol.translate import Json, StreamTranslator, Translated, UsageDialect, encode


class _Details(msgspec.Struct):
    explanation: str | None = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")

    def thought(self) -> Json:
        """A thinking or redacted_thinking block as it is sent back."""
        if self.type == "redacted_thinking":
            return {"type": self.type, "data": self.data}
        return {"type": "thinking", "thinking": self.thinking, "signature": self.signature}


class _Message(msgspec.Struct):
    content: list[_Block] = []
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: _Details | None = None
    usage: Json | None = None


_decode_message = msgspec.json.Decoder(_Message).decode


def message_to_chat(body: bytes, *, model: str, created: int) -> Translated:
    """A Messages answer as a chat completion under the name `model`; `created` is in Unix seconds.

    Raises `UpstreamBroken` for a body that is not a message.
    """
    try:
        message = _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamBroken("The upstream's answer is not a message.") from exc
    reason = FINISH_REASONS.get(message.stop_reason or "", "stop")
    usage = message.usage or {}
    choice = {"index": 0, "message": _chat_message(message), "logprobs": None, "finish_reason": reason}
    completion = {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": chat_usage(usage),
    }
    return Translated(encode(completion), message.id, message.model, message.usage, "anthropic", (reason,))


def _chat_message(message: _Message) -> Json:
    blocks = message.content
    texts = [block.text for block in blocks if block.type == "text"]
    thoughts = [block for block in blocks if block.type in ("thinking", "redacted_thinking")]
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": bytes(block.input).decode()},
        }
        for block in blocks
        if block.type == "tool_use"
    ]
    refusal = message.stop_details.explanation if message.stop_details else None
    out: Json = {"role": "assistant", "content": "".join(texts) if texts or not calls else None, "refusal": refusal}
    if thinking := "".join(block.thinking for block in thoughts):
        out["reasoning_content"] = thinking
    if thoughts:
        out["thinking_blocks"] = [block.thought() for block in thoughts]
    if calls:
        out["tool_calls"] = calls
    return out


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None
    stop_details: _Details | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: Json | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class MessagesToChatStream(StreamTranslator):
    """Anthropic's event stream as chat chunks under the name `model`; `created` is in Unix seconds.

    Thinking streams as `reasoning_content`; each thinking block follows whole, signed, in `thinking_blocks` (with the
    `index` that the OpenAI SDK merges lists by) when it closes. A tool call without arguments gets `{}`. With
    `include_usage` a last chunk without choices carries the usage.
    """

    usage_dialect: ClassVar[UsageDialect] = "anthropic"

    def __init__(self, model: str, *, include_usage: bool, created: int) -> None:
        super().__init__()
        self._include_usage = include_usage
        self._name = model
        self._created = created
        self._head = b""
        self._block: _Block | None = None
        self._arguments = False
        self._calls = 0
        self._thoughts = 0

    def _translate(self, data: bytes) -> bytes:
        event = _decode_event(data)
        kind, delta = event.type, event.delta
        if event.usage:
            self._merge_usage(event.usage)
        if kind == "content_block_delta" and delta is not None:
            return self._delta(delta)
        if kind == "message_start":
            return self._start(event.message or _Message())
        if kind == "content_block_start" and event.content_block is not None:
            return self._open(event.content_block)
        if kind == "content_block_stop":
            return self._close()
        if kind == "message_delta" and delta is not None and delta.stop_reason:
            return self._stop(delta)
        if kind == "message_stop":
            return self._end()
        if kind == "error":
            self.error = openai_error_from_anthropic(data, 500)
        return b""

    def _merge_usage(self, usage: Json) -> None:
        """Later counts are cumulative, so they replace the earlier ones; a null one says nothing."""
        self.usage_obj = {**(self.usage_obj or {}), **{key: value for key, value in usage.items() if value is not None}}

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> bytes:
        if not self._head:  # a server that left out message_start
            self._set_head()
        tail = b',"usage":null}\n\n' if self._include_usage else b"}\n\n"
        reason = b"null" if finish_reason is None else encode(finish_reason)
        return self._head + encode(delta) + b',"logprobs":null,"finish_reason":' + reason + b"}]" + tail

    def _set_head(self) -> None:
        start = {"id": self.id or "", "object": "chat.completion.chunk", "created": self._created, "model": self._name}
        self._head = b"data: " + encode(start)[:-1] + b',"choices":[{"index":0,"delta":'

    def _start(self, message: _Message) -> bytes:
        self.id, self.model = message.id, message.model
        if message.usage:
            self._merge_usage(message.usage)
        self._set_head()
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _open(self, block: _Block) -> bytes:
        self._block = block
        if block.type == "tool_use":
            given = bytes(block.input)
            self._arguments = given.strip() not in (b"{}", b"null")
            function = {"name": block.name, "arguments": given.decode() if self._arguments else ""}
            call = {"index": self._calls, "id": block.id, "type": "function", "function": function}
            self._calls += 1
            return self._chunk({"tool_calls": [call]})
        if block.type == "text" and block.text:
            return self._text("content", block.text)
        if block.type == "thinking" and block.thinking:
            return self._text("reasoning_content", block.thinking)
        return b""

    def _delta(self, delta: _Delta) -> bytes:
        if delta.type == "text_delta":
            return self._text("content", delta.text)
        if delta.type == "thinking_delta":
            if self._block is not None:
                self._block.thinking += delta.thinking
            return self._text("reasoning_content", delta.thinking)
        if delta.type == "signature_delta" and self._block is not None:
            self._block.signature += delta.signature
        if delta.type == "input_json_delta" and delta.partial_json and self._is_call():
            self._arguments = True
            return self._call_arguments(delta.partial_json)
        return b""

    def _is_call(self) -> bool:
        return self._block is not None and self._block.type == "tool_use"

    def _text(self, key: str, text: str) -> bytes:
        if not text:
            return b""
        self.chars += len(text)
        return self._chunk({key: text})

    def _call_arguments(self, text: str) -> bytes:
        self.chars += len(text)
        return self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})

    def _close(self) -> bytes:
        block, is_call, self._block = self._block, self._is_call(), None
        if is_call and not self._arguments:
            return self._call_arguments("{}")
        if block is None or block.type not in ("thinking", "redacted_thinking"):
            return b""
        thought = {"index": self._thoughts, **block.thought()}
        self._thoughts += 1
        return self._chunk({"thinking_blocks": [thought]})

    def _stop(self, delta: _Delta) -> bytes:
        reason = FINISH_REASONS.get(delta.stop_reason or "", "stop")
        self.finish_reasons.append(reason)
        details = delta.stop_details
        explained: dict[str, Any] = {"refusal": details.explanation} if details and details.explanation else {}
        return self._chunk(explained, reason)

    def _end(self) -> bytes:
        self._done = True
        if not self._include_usage:
            return DONE
        last = {
            "id": self.id or "",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._name,
            "choices": [],
            "usage": chat_usage(self.usage_obj or {}),
        }
        return b"data: " + encode(last) + b"\n\n" + DONE
