"""OpenAI's Responses: the response that a stream ends with, and a response told in events.

Items that are not told in pieces (or that we do not know) are added and done whole. Source: OpenAI's Responses
streaming reference and the event types of its Python SDK.
"""

from typing import Any

import msgspec

from gateway.cache.pieces import cut
from gateway.protocol.sse import frame

Json = dict[str, Any]
_encode = msgspec.json.encode
_ECHOES: Json = {"metadata": {}, "user": None, "safety_identifier": None, "prompt_cache_key": None}
"""Members of an answer that repeat what its own caller sent: a replay repeats what this caller sent."""
_ARGUMENTS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
_PARTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}


def assemble(events: list[Json]) -> bytes | None:
    """See `gateway.cache.replay.assemble`: the last event holds the whole response."""
    last = events[-1]
    if last["type"] not in ("response.completed", "response.incomplete") or any(e["type"] == "error" for e in events):
        return None
    return _encode(last["response"])


def renew(kept: bytes, asked: Json, id_: str, created: int) -> bytes:
    """The response with its new id and time; `asked` is the body of this caller's request."""
    answer = msgspec.json.decode(kept)
    answer["id"], answer["created_at"] = id_, created
    if answer.get("completed_at") is not None:
        answer["completed_at"] = created
    for key, default in _ECHOES.items():
        if key in answer:
            given = asked.get(key)
            answer[key] = default if given is None else given
    return _encode(answer)


def events(response: Json) -> list[bytes]:
    """See `gateway.cache.replay.stream`."""
    told = _Told()
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    begun.pop("output_text", None)
    if "completed_at" in begun:
        begun["completed_at"] = None
    told.say("response.created", {"response": begun})
    told.say("response.in_progress", {"response": begun})
    for index, item in enumerate(response["output"]):
        told.item(index, item)
    told.say(f"response.{response['status']}", {"response": response})
    return told.out


class _Told:
    """The events so far; each has the next `sequence_number`."""

    def __init__(self) -> None:
        self.out: list[bytes] = []

    def say(self, kind: str, members: Json) -> None:
        self.out.append(frame(_encode({"type": kind, "sequence_number": len(self.out), **members}), kind))

    def item(self, index: int, item: Json) -> None:
        at = {"item_id": item.get("id", ""), "output_index": index}
        opening = {**item, "status": "in_progress"} if "status" in item else dict(item)
        for key in ("content", "summary"):
            if isinstance(item.get(key), list):
                opening[key] = []
        field, kind = _ARGUMENTS.get(item["type"], ("", ""))
        if field:
            opening[field] = ""
        self.say("response.output_item.added", {"output_index": index, "item": opening})
        for i, part in enumerate(item.get("summary") or []):
            self._summary(at, i, part)
        for i, part in enumerate(item.get("content") or []):
            self._part({**at, "content_index": i}, part)
        if field:
            for piece in cut(item[field]):
                self.say(f"{kind}.delta", {**at, "delta": piece})
            named = {"name": item["name"]} if item["type"] == "function_call" else {}
            self.say(f"{kind}.done", {**at, **named, field: item[field]})
        self.say("response.output_item.done", {"output_index": index, "item": item})

    def _summary(self, at: Json, index: int, part: Json) -> None:
        at = {**at, "summary_index": index}
        self.say("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}})
        for piece in cut(part["text"]):
            self.say("response.reasoning_summary_text.delta", {**at, "delta": piece})
        self.say("response.reasoning_summary_text.done", {**at, "text": part["text"]})
        self.say("response.reasoning_summary_part.done", {**at, "part": part})

    def _part(self, at: Json, part: Json) -> None:
        field, kind = _PARTS.get(part["type"], ("", ""))
        opening = {**part, field: ""} if field else part
        if part.get("annotations"):
            opening["annotations"] = []
        self.say("response.content_part.added", {**at, "part": opening})
        if field:
            extra: Json = {"logprobs": []} if part["type"] == "output_text" else {}
            for piece in cut(part[field]):
                self.say(f"{kind}.delta", {**at, "delta": piece, **extra})
            for i, note in enumerate(part.get("annotations") or []):
                self.say(f"{kind}.annotation.added", {**at, "annotation_index": i, "annotation": note})
            self.say(f"{kind}.done", {**at, field: part[field], **extra})
        self.say("response.content_part.done", {**at, "part": part})
