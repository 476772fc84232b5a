"""Reads from a parsed request what features are made of: the last user text, and what stands around it.

Knows the members of chat, completions, responses and messages bodies; counts what has another type as absent, and
looks at a bounded number of turns and parts, so that no body can make it raise or take long.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from gateway.core.exchange import Call, Identity

_TURNS: Final = 256
_PARTS: Final = 64
_TEXT_PARTS = frozenset(["text", "input_text", "output_text"])
_IMAGE_PARTS = frozenset(["image_url", "input_image", "image"])
_TOOL_TURNS = frozenset(["function_call_output", "tool_result", "custom_tool_call_output"])
_EFFORT = {"none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 2.5, "max": 3.0}


class Request(NamedTuple):
    """A request as features read it. Lengths are in characters; `text` is the last user text, whole."""

    text: str
    turns: int = 0
    system_characters: int = 0
    history_characters: int = 0
    tools: int = 0
    tool_turns: int = 0
    images: int = 0
    structured: int = 0
    """An answer in JSON is asked for: 1 in any form, 2 by schema."""
    requested_tokens: int = 0
    """0 where the request names no limit."""
    reasoning_effort: float = 0.0
    """0 (none, or not named) to 3."""


class Caller(NamedTuple):
    """Who asks, as categories: for heads fitted on an operator's own traffic. The shipped ones read none."""

    tenant: str | None = None
    tags: tuple[str, ...] = ()


class _Part(NamedTuple):
    text: str = ""
    images: int = 0
    tools: int = 0


def caller_of(identity: Identity | None) -> Caller:
    """The categories of who asks."""
    return Caller() if identity is None else Caller(identity.tenant, tuple(sorted(identity.tags)))


def read_request(call: Call) -> Request:
    """What the request asks for; an empty text where there is no JSON body."""
    doc = call.doc
    if type(doc) is not dict:
        return Request("")
    text, turns, system, history, tool_turns, images = "", 0, 0, 0, 0, 0
    system += _length(doc.get("system")) + _length(doc.get("instructions"))
    for role, part in _turns(doc):
        turns += 1
        tool_turns += part.tools
        images += part.images
        if role in ("system", "developer"):
            system += len(part.text)
        elif role == "user" and part.text:
            history += len(text)
            text = part.text
        else:
            history += len(part.text)
    tools = doc.get("tools")
    return Request(
        text=text,
        turns=turns,
        system_characters=system,
        history_characters=history,
        tools=len(tools) if isinstance(tools, list) else 0,
        tool_turns=tool_turns,
        images=images,
        structured=_structured(doc),
        requested_tokens=call.max_tokens or 0,
        reasoning_effort=_effort(doc),
    )


def conversation(call: Call) -> str:
    """What was said in the request, turn by turn with who said it; empty where there is no JSON body."""
    doc = call.doc
    if type(doc) is not dict:
        return ""
    before = [("system", _content(doc.get(name)).text) for name in ("system", "instructions")]
    spoken = [*before, *((role, part.text) for role, part in _turns(doc))]
    return "\n\n".join(f"{role}: {text}" for role, text in spoken if text)


def _turns(doc: dict[str, Any]) -> Iterator[tuple[str, _Part]]:
    """The last `_TURNS` turns in order: the role, and what its content holds."""
    turns = doc.get("messages", doc.get("input", doc.get("prompt")))
    if isinstance(turns, str):
        yield "user", _Part(turns)
        return
    if not isinstance(turns, list):
        return
    for turn in turns[-_TURNS:]:
        if isinstance(turn, str):
            yield "user", _Part(turn)
        elif isinstance(turn, dict):
            role = turn.get("role")
            if role == "tool" or _kind(turn) in _TOOL_TURNS:
                yield "tool", _content(turn.get("content", turn.get("output")))._replace(tools=1)
            else:
                yield role if isinstance(role, str) else "assistant", _content(turn.get("content"))


def _content(content: Any) -> _Part:
    if isinstance(content, str):
        return _Part(content)
    if not isinstance(content, list):
        return _Part()
    texts, images, tools = [], 0, 0
    for part in islice(content, _PARTS):
        if not isinstance(part, dict):
            continue
        kind = _kind(part)
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        images += kind in _IMAGE_PARTS
        tools += kind in _TOOL_TURNS
    return _Part("\n".join(texts), images, tools)


def _kind(part: dict[str, Any]) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else ""


def _length(content: Any) -> int:
    return len(_content(content).text)


def _structured(doc: dict[str, Any]) -> int:
    asked = doc.get("response_format")
    if asked is None and isinstance(doc.get("text"), dict):
        asked = doc["text"].get("format")
    if not isinstance(asked, dict):
        return 0
    return {"json_schema": 2, "json_object": 1}.get(_kind(asked), 0)


def _effort(doc: dict[str, Any]) -> float:
    effort = doc.get("reasoning_effort")
    if effort is None and isinstance(doc.get("reasoning"), dict):
        effort = doc["reasoning"].get("effort")
    return _EFFORT.get(effort, 0.0) if isinstance(effort, str) else 0.0
