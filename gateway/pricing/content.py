"""How much a request can hand to a model: bytes of text, images, and content that is not in its body. Pure.

Looks only at the shape of the decoded request. What it does not know it takes for content of unknown size.
"""

from typing import Any

import msgspec

from gateway.core.exchange import Call, Endpoint

_TEXT = frozenset(
    {
        "text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "thinking",
        "redacted_thinking", "tool_use", "search_result", "input_audio", "tool_reference",
        "function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "computer_call",
        "mcp_approval_response",
    }
)  # fmt: skip
"""Parts and items whose tokens are at most their bytes. Audio is: a second is kilobytes and some ten tokens."""
_IMAGES = frozenset({"image_url", "input_image", "image", "computer_screenshot"})
_HOLDERS = {
    "message": "content",
    "tool_result": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "local_shell_call_output": "output",
    "shell_call_output": "output",
    "apply_patch_call_output": "output",
    "computer_call_output": "output",
}
_ELSEWHERE = frozenset({"previous_response_id", "conversation", "cached_content", "extra_body"})
"""Members that name content held by the provider."""
_PRICED_APART = frozenset({"service_tier", "speed", "inference_geo", "web_search_options", "mcp_servers", "plugins"})
"""Members that may have a price of their own."""
_SPECIAL = _ELSEWHERE | _PRICED_APART | {"functions", "tools"}
"""Members that add something beside the prompt, or that have a price of their own."""
_CLIENT_TOOLS = ("bash_", "text_editor_", "memory_", "computer", "local_shell", "apply_patch")
"""Typed tools that the caller runs; the rest of those with a type is run, and billed, by the provider."""


_MAX_DEPTH = 8


class Content(msgspec.Struct):
    """What a request holds. `bytes` bounds the tokens of all text; images and opaque parts are counted apart.

    `prompts` is how many are answered one by one; `typed_tools` how many tools the provider describes to the model
    itself; `apart` names something that the price book does not price, `None` if there is nothing.
    """

    bytes: int
    images: int = 0
    opaque: int = 0
    prompts: int = 1
    tools: bool = False
    typed_tools: int = 0
    apart: str | None = None

    def add_parts(self, parts: Any, depth: int = 0) -> None:
        """A list of content parts, or one; a text counts by its bytes alone."""
        for part in parts if type(parts) is list else (parts,):
            if type(part) is dict:
                kind = part.get("type")
                if type(kind) is not str or kind not in _TEXT:
                    self._add_part(part, kind, depth)

    def _add_part(self, part: dict[str, Any], kind: Any, depth: int) -> None:
        if kind is None and "role" in part:
            kind = "message"
        if type(kind) is not str or depth >= _MAX_DEPTH:
            self.opaque += 1
        elif kind in _IMAGES:
            self.images += 1
            self.bytes -= _inline_bytes(part)
        elif kind in _HOLDERS:
            self.add_parts(part.get(_HOLDERS[kind]), depth + 1)
        elif kind == "document" and _source(part).get("type") in ("text", "content"):
            self.add_parts(_source(part).get("content"), depth + 1)
        elif kind != "reasoning" or type(part.get("encrypted_content")) is not str:
            self.opaque += 1

    def add_tools(self, tools: Any) -> None:
        """The declared tools."""
        self.tools = self.tools or bool(tools)
        for tool in tools if type(tools) is list else ():
            kind = tool.get("type") if type(tool) is dict else None
            if kind in (None, "function", "custom"):
                continue
            self.typed_tools += 1
            if type(kind) is not str or not kind.startswith(_CLIENT_TOOLS):
                self.apart = f"the tool {str(kind)[:64]!r} is billed apart"


def content_of(call: Call) -> Content:
    """The content of a JSON request to one of the endpoints that generate or embed."""
    doc, endpoint = call.doc or {}, call.endpoint
    found = Content(len(call.raw))
    get = doc.get
    messages = get("messages")
    if type(messages) is list:
        for message in messages:
            if type(message) is dict:
                content = message.get("content")
                if type(content) is list:
                    found.add_parts(content)
                if "audio" in message and message["audio"] is not None:  # an earlier answer's, by its id
                    found.opaque += 1
    if endpoint != "chat":
        _add_prompt(found, endpoint, doc)
    if _SPECIAL.isdisjoint(doc):
        return found
    if not _ELSEWHERE.isdisjoint(doc):
        found.opaque += sum(get(key) is not None for key in _ELSEWHERE)
    found.tools = bool(get("functions"))
    found.add_tools(get("tools"))
    if found.apart is None and not _PRICED_APART.isdisjoint(doc):
        found.apart = _priced_apart(doc)
    return found


def _add_prompt(found: Content, endpoint: Endpoint, doc: dict[str, Any]) -> None:
    """What the endpoints other than chat have beside messages."""
    if endpoint in ("completions", "embeddings"):
        prompt = doc.get("prompt" if endpoint == "completions" else "input")
        if type(prompt) is list and prompt and type(prompt[0]) is not int:
            found.prompts = len(prompt)
            found.add_parts(prompt)
    elif endpoint == "responses":
        found.add_parts(doc.get("input"))
        found.opaque += doc.get("prompt") is not None
    elif endpoint == "messages":
        found.add_parts(doc.get("system"))


def _priced_apart(doc: dict[str, Any]) -> str | None:
    """What the request asks for that costs more than the price book's rows say."""
    tier = doc.get("service_tier")
    if tier is not None and tier not in ("auto", "default", "flex", "standard_only"):
        return f"the service tier {str(tier)[:64]!r} has a price of its own"
    if doc.get("speed") not in (None, "standard"):
        return "the speed has a price of its own"
    if doc.get("inference_geo") not in (None, "global"):
        return "the region has a price of its own"
    for key in ("web_search_options", "mcp_servers", "plugins"):
        if doc.get(key):
            return f"{key} is billed apart"
    return None


def _source(part: dict[str, Any]) -> dict[str, Any]:
    source = part.get("source")
    return source if type(source) is dict else {}


def _inline_bytes(part: dict[str, Any]) -> int:
    """Bytes of an image that stands in the body; 0 for one that is fetched."""
    url = part.get("image_url")
    if type(url) is dict:
        url = url.get("url")
    if type(url) is str and url.startswith("data:"):
        return len(url)
    source = _source(part)
    data = source.get("data")
    return len(data) if source.get("type") == "base64" and type(data) is str else 0
