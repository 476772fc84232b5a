"""Which requests the cache may look at, and which answers it may keep; knows no header, no store, no threshold.

The exact cache refuses what has no fixed answer even for the very same request. The semantic cache refuses that, and
all that may not be shared with a request in other words. A refusal is one of these names, and is recorded:

| reason | exact | semantic | the request |
|---|---|---|---|
| endpoint | x | x | is not chat, messages, responses, completions or embeddings (semantic: the first three) |
| stateful | x | x | goes on from something that the provider keeps, or asks it to keep the answer |
| logprobs | x | x | wants log-probabilities, which a replay could not cut into chunks truthfully |
| high_temperature | x | x | asks for variety: `temperature` above the rule's limit |
| server_tools | x | x | lets the provider search, run or fetch, so that the world is part of the answer |
| audio | x | x | wants an answer that is not text |
| remote_media | x | x | refers to an image or a file by an address or id: its bytes can change |
| no_user | x | x | names no user where the rule keeps users apart |
| media | | x | holds images, audio or files |
| tool_result | | x | has a tool's result among its turns |
| tool_call | | x | has a tool call among its turns |
| choices | | x | asks for more than one choice |
| no_user_text | | x | does not end with a user's text |
| empty, long, short, script, code, volatile, side_effect, personal | | x | see `gateway.cache.wording.REASONS` |

| reason | exact | semantic | the answer |
|---|---|---|---|
| status | x | x | is not a 200 |
| damaged | x | x | is not the JSON that the endpoint answers with |
| no_usage | x | x | came without a count of tokens, reported or estimated |
| too_large | x | x | is over the rule's size |
| stateful | x | x | says that the provider keeps it: a copy under a new id could not be continued |
| not_finished | x | x | ended for another reason than having been finished: length, filter, error |
| refusal | x | x | is a refusal |
| server_tools | x | x | holds the results of the provider's own tools |
| empty | x | x | says nothing |
| tool_call | | x | calls a tool: its arguments were made for this text |

A follow-up such as "and for him?" is safe: the turns before it are in the scope, byte for byte.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.cache.wording import MAX_CHARS, Personal
from gateway.cache.wording import refuse_text as refuse_text  # noqa: PLC0414 - this module is where it is looked for
from gateway.core.exchange import Call, Usage

_TURNS = {"chat": "messages", "messages": "messages", "responses": "input"}
_EXACT_ONLY = frozenset(["completions", "embeddings"])
_STATEFUL = ("previous_response_id", "conversation", "background", "container")
_TEXT = frozenset(["text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "summary_text",
                   "reasoning_text", "tool_use", "tool_result"])  # fmt: skip
_TURN_ITEMS = frozenset(["message", "reasoning", "function_call", "function_call_output", "custom_tool_call",
                         "custom_tool_call_output"])  # fmt: skip
_CALLER_TOOLS = frozenset(["", "function", "custom"])
_RESULTS = frozenset(["tool_result", "function_call_output", "custom_tool_call_output"])
_CALLS = frozenset(["tool_use", "function_call", "custom_tool_call"])


class AdmissionRule(msgspec.Struct, frozen=True):
    """The policy's part. `max_temperature` 1.0 is what most servers use when none is asked for."""

    max_temperature: float = 1.0
    personal: Personal = "generic"
    user_scoped: bool = False
    """Answers are shared with the same user only; a request that names none is refused."""
    any_script: bool = False
    """The encoder was trained on more than the Latin script."""
    max_chars: int = MAX_CHARS
    max_bytes: int = 256 << 10
    """Of an answer that is kept."""


def refuse_exact(call: Call, user: str | None, rule: AdmissionRule) -> str | None:
    """Why not even the same request again may have the same answer, else `None`."""
    doc = call.doc
    if doc is None or (call.endpoint not in _TURNS and call.endpoint not in _EXACT_ONLY):
        return "endpoint"
    if any(doc.get(name) for name in _STATEFUL) or doc.get("store") is True:
        return "stateful"
    if call.endpoint == "responses" and doc.get("prompt"):
        return "stateful"
    if _wants_logprobs(doc.get("logprobs")) or doc.get("top_logprobs") or _includes_logprobs(doc):
        return "logprobs"
    temperature = doc.get("temperature")
    if isinstance(temperature, int | float) and temperature > rule.max_temperature:
        return "high_temperature"
    if (
        doc.get("web_search_options")
        or doc.get("mcp_servers")
        or any(_server_side(t) for t in _dicts(doc.get("tools")))
    ):
        return "server_tools"
    if doc.get("audio") or doc.get("modalities") not in (None, [], ["text"]):
        return "audio"
    if any(_remote(part) for part in _parts(call)):
        return "remote_media"
    if rule.user_scoped and user is None:
        return "no_user"
    return None


def refuse(call: Call, text: str | None, user: str | None, rule: AdmissionRule) -> str | None:
    """Why no similar request's answer may serve this one, nor its answer a similar one; `None` if they may.

    `text` is the last user text (see `gateway.cache.keys.scope_key`), `None` where there is none.
    """
    reason = refuse_exact(call, user, rule)
    if reason is not None:
        return reason
    if call.endpoint in _EXACT_ONLY:
        return "endpoint"
    if call.n > 1:
        return "choices"
    reason = _turns(call)
    if reason is not None:
        return reason
    if text is None:
        return "no_user_text"
    return refuse_text(
        text,
        user_scoped=rule.user_scoped,
        personal=rule.personal,
        any_script=rule.any_script,
        max_chars=rule.max_chars,
    )


def refuse_answer(
    call: Call, status: int, body: bytes, usage: Usage | None, rule: AdmissionRule, *, semantic: bool
) -> str | None:
    """Why this answer may not be kept, for the semantic cache if `semantic`, else for the exact one; `None` if it may.

    `body` is the endpoint's JSON form (see `gateway.cache.replay.assemble`).
    """
    if status != 200:
        return "status"
    if usage is None:
        return "no_usage"
    if len(body) > rule.max_bytes:
        return "too_large"
    try:
        answer = msgspec.json.decode(body)
        reason = _READERS[call.endpoint](answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return "damaged"
    return None if reason == "tool_call" and not semantic else reason


def _wants_logprobs(value: Any) -> bool:
    return value is not None and value is not False  # 0 is a wish at `completions`


def _includes_logprobs(doc: dict[str, Any]) -> bool:
    include = doc.get("include")
    return isinstance(include, list) and "message.output_text.logprobs" in include


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _kind(part: dict[str, Any]) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else "" if kind is None else "unknown"


def _server_side(tool: dict[str, Any]) -> bool:
    """A tool that the provider runs: anything but a function (Anthropic's own client tools have dated types)."""
    return _kind(tool) not in _CALLER_TOOLS


def _parts(call: Call) -> Iterator[dict[str, Any]]:
    """Every part of every turn, also inside tool results; a turn without parts yields nothing."""
    turns = (call.doc or {}).get(_TURNS.get(call.endpoint, ""))
    for turn in _dicts(turns):
        if "role" not in turn and _kind(turn) not in _TURN_ITEMS:
            yield turn  # a Responses item that is not a turn: a reference, an image call
        for part in _dicts(turn.get("content")):
            yield part
            yield from _dicts(part.get("content"))
        yield from _dicts(turn.get("output"))


def _remote(part: dict[str, Any]) -> bool:
    for name in ("image_url", "video_url", "audio_url", "source", "file", "file_url"):
        at = part.get(name)
        if isinstance(at, dict):
            if _kind(at) in ("url", "file") or at.get("file_id"):
                return True
            at = at.get("url")
        if isinstance(at, str) and not at.startswith("data:"):
            return True
    return bool(part.get("file_id")) or _kind(part) == "item_reference"


def _turns(call: Call) -> str | None:
    doc = call.doc or {}
    for turn in _dicts(doc.get(_TURNS[call.endpoint])):
        if turn.get("role") in ("tool", "function") or _kind(turn) in _RESULTS:
            return "tool_result"
        if turn.get("tool_calls") or turn.get("function_call") or _kind(turn) in _CALLS:
            return "tool_call"
    for part in _parts(call):
        if _kind(part) in _RESULTS:
            return "tool_result"
        if _kind(part) in _CALLS:
            return "tool_call"
        if _kind(part) not in _TEXT:
            return "media"
    return None


def _chat(answer: dict[str, Any]) -> str | None:
    called = False
    for choice in answer["choices"]:
        message, finish = choice["message"], choice.get("finish_reason")
        called = called or bool(message.get("tool_calls") or message.get("function_call"))
        if finish not in ("stop", "tool_calls", "function_call"):
            return "not_finished"
        if message.get("refusal"):
            return "refusal"
        if not message.get("content") and not message.get("tool_calls") and not message.get("function_call"):
            return "empty"
    return "tool_call" if called else None if answer["choices"] else "empty"


def _completions(answer: dict[str, Any]) -> str | None:
    if any(choice.get("finish_reason") != "stop" for choice in answer["choices"]):
        return "not_finished"
    return None if any(choice["text"] for choice in answer["choices"]) else "empty"


def _embeddings(answer: dict[str, Any]) -> str | None:
    return None if answer["data"] else "empty"


def _messages(answer: dict[str, Any]) -> str | None:
    kinds = {block["type"] for block in answer["content"]}
    reason = answer["stop_reason"]
    if reason == "refusal":
        return "refusal"
    if reason not in ("end_turn", "stop_sequence", "tool_use"):
        return "not_finished"
    if kinds - {"text", "thinking", "redacted_thinking", "tool_use"}:
        return "server_tools"
    if "tool_use" in kinds:
        return "tool_call"
    return None if any(block.get("text") for block in answer["content"]) else "empty"


def _responses(answer: dict[str, Any]) -> str | None:
    if answer["status"] != "completed" or answer.get("error"):
        return "not_finished"
    if answer.get("store") is True:
        return "stateful"
    kinds = {item["type"] for item in answer["output"]}
    parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    if kinds - {"message", "reasoning", "function_call", "custom_tool_call"}:
        return "server_tools"
    if any(part["type"] == "refusal" for part in parts):
        return "refusal"
    if kinds & _CALLS:
        return "tool_call"
    return None if any(part.get("text") for part in parts) else "empty"


_READERS = {
    "chat": _chat,
    "completions": _completions,
    "embeddings": _embeddings,
    "messages": _messages,
    "responses": _responses,
}
