"""What rules read of a request's body: the last user text, all text, whether there are images, tools, a JSON schema.

Knows the members of chat, completions, responses and messages bodies. Counts what has another type than the API says as
absent, so that no body can make it raise; walks without recursion, so that no depth can.
"""

from collections.abc import Iterator
from typing import Any, Final

_ROOTS: Final = ("input", "prompt", "system", "instructions", "suffix")
"""Members of a body that may be a text themselves."""
_NAMES: Final = frozenset(["role", "type", "id", "call_id", "tool_call_id", "tool_use_id", "object", "status", "detail",
                           "media_type", "model", "file_id", "format"])  # fmt: skip
"""Members whose text is the API's own."""
_IMAGES: Final = frozenset(["image_url", "input_image", "image"])
_STRUCTURED: Final = frozenset(["json_schema", "json_object"])


def last_user_text(doc: dict[str, Any] | None) -> str:
    """The text of the last user turn that has any; empty where there is none."""
    if doc is None:
        return ""
    turns = doc.get("messages", doc.get("input", doc.get("prompt")))
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns) if isinstance(turns, list) else ():
        if isinstance(turn, str):
            return turn
        if isinstance(turn, dict) and turn.get("role") == "user":
            text = _content(turn.get("content"))
            if text:
                return text
    return ""


def all_text(doc: dict[str, Any], most: int) -> tuple[str, bool]:
    """Every text that a model would read, joined by line breaks, and whether it ended before `most` characters.

    Images and other data in base64 are left out.
    """
    found: list[str] = []
    left = most
    for text in _strings(doc):
        if len(text) > left:
            found.append(text[:left])
            return "\n".join(found), False
        found.append(text)
        left -= len(text)
    return "\n".join(found), True


def has_tools(doc: dict[str, Any]) -> bool:
    """Whether the model may call something."""
    return bool(doc.get("tools") or doc.get("functions"))


def has_images(doc: dict[str, Any]) -> bool:
    """Whether a turn holds an image."""
    turns = doc.get("messages", doc.get("input"))
    stack = list(turns) if isinstance(turns, list) else []
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind in _IMAGES:
                return True
            inner = part.get("content", part.get("output"))
            if isinstance(inner, list):
                stack.extend(inner)
    return False


def is_structured(doc: dict[str, Any]) -> bool:
    """Whether an answer in JSON is asked for."""
    for owner, member in ((doc, "response_format"), (doc.get("text"), "format"), (doc.get("output_config"), "format")):
        asked = owner.get(member) if isinstance(owner, dict) else None
        kind = asked.get("type") if isinstance(asked, dict) else None
        if isinstance(kind, str) and kind in _STRUCTURED:
            return True
    return isinstance(doc.get("output_format"), dict)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join([text for text in texts if isinstance(text, str)])


def _strings(doc: dict[str, Any]) -> Iterator[str]:
    stack: list[Any] = []
    for name, value in reversed(doc.items()):
        if isinstance(value, dict | list) or (isinstance(value, str) and name in _ROOTS):
            stack.append(value)
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            if not node.startswith("data:"):
                yield node
        elif isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict):
            encoded = node.get("type") == "base64" or "filename" in node
            for name, value in reversed(node.items()):
                if name not in _NAMES and not (encoded and name in ("data", "file_data")) and name != "input_audio":
                    stack.append(value)
