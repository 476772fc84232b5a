"""What translations read of chat completions and their chunks, from any OpenAI-compatible server.

Tolerates what such servers do: reasoning as `reasoning_content` (DeepSeek, SGLang) or `reasoning` (newer vLLM,
OpenRouter), content as parts, null members, tool calls without `index` or `id`, errors inside a stream.
"""

from typing import Any

import msgspec

from gateway.core.errors import UpstreamBroken
from gateway.protocol.translate import Json


class Function(msgspec.Struct):
    """Name and arguments, either of them perhaps still to come."""

    name: str | None = None
    arguments: str | Json | None = None

    def written(self) -> str:
        """The arguments as JSON text (some servers send the object itself)."""
        if isinstance(self.arguments, dict):
            return msgspec.json.encode(self.arguments).decode()
        return self.arguments or ""


class ToolCall(msgspec.Struct):
    """A call, or a piece of one in a stream."""

    index: int | None = None
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Part(msgspec.Struct):
    """A part of content."""

    text: str | None = None
    refusal: str | None = None


class Spoken(msgspec.Struct):
    """A message of the assistant, or a chunk's delta."""

    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking_blocks: list[Json] | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        """The reasoning, under either name."""
        return self.reasoning_content or self.reasoning or ""

    @property
    def text(self) -> str:
        """The text, parts joined."""
        content = self.content
        if isinstance(content, list):
            return "".join([part.text or part.refusal or "" for part in content])
        return content or ""


class Choice(msgspec.Struct):
    """One choice; `stop_reason` is vLLM's: the stop string (or token) that ended it."""

    finish_reason: str | None = None
    message: Spoken | None = None
    delta: Spoken | None = None
    stop_reason: Any = None
    index: int = 0


class Completion(msgspec.Struct):
    """A completion or a chunk."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[Choice] = []
    usage: Json | None = None
    error: Any = None


decode_chunk = msgspec.json.Decoder(Completion).decode


def decode_completion(body: bytes) -> tuple[Completion, Choice, Spoken]:
    """The completion, its first choice and that choice's message; raises `UpstreamBroken` where there is none."""
    try:
        completion = decode_chunk(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamBroken("The upstream's answer is not a chat completion.") from exc
    if not completion.choices or completion.choices[0].message is None:
        raise UpstreamBroken("The upstream's answer has no choice.")
    return completion, completion.choices[0], completion.choices[0].message


class CallPiece(msgspec.Struct):
    """What a chunk adds to call number `index`; `opens` is true once, when the name is known."""

    index: int
    opens: bool
    id: str | None
    name: str
    arguments: str


class Calls:
    """Puts a stream's tool calls together, also where a server leaves out `index`: a new id is then a new call.

    A call is held back until its name is known.
    """

    def __init__(self) -> None:
        self._last = -1
        self._id: str | None = None
        self._held: dict[int, CallPiece] = {}
        self._begun: set[int] = set()

    def __bool__(self) -> bool:
        """Whether any call has begun."""
        return bool(self._begun)

    def piece(self, call: ToolCall) -> CallPiece | None:
        """What can be told of `call` now, `None` while its name is missing."""
        index = self._index(call)
        if index in self._begun:
            return CallPiece(index, False, None, "", call.function.written())
        piece = self._held.setdefault(index, CallPiece(index, True, None, "", ""))
        piece.id = call.id or piece.id
        piece.name = call.function.name or ""
        piece.arguments += call.function.written()
        if not piece.name:
            return None
        self._begun.add(index)
        return self._held.pop(index)

    def _index(self, call: ToolCall) -> int:
        if call.index is not None:
            self._last = call.index
        elif self._last < 0 or (call.id and call.id != self._id):
            self._last += 1
        if call.id:
            self._id = call.id
        return self._last
