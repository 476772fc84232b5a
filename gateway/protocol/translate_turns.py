"""A chat conversation as Anthropic's: the system prompt and alternating turns of content blocks.

System and developer messages are hoisted, in their order, into the system prompt, as Anthropic's own compatibility
layer does. Consecutive messages of one role become one turn; tool results open the user turn that follows the calls.
Ids of tool calls are spelled with the characters that Anthropic allows, the same way in calls and results. Blank text
is left out (Anthropic refuses it), and so are `name` on messages, `detail` on images and `reasoning_content` without
signed `thinking_blocks` (Anthropic takes back only what it signed).
"""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.core.errors import BadRequest
from gateway.protocol.translate import Json, array, data_url, mapping, refused, string

_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


def conversation(messages: Any) -> tuple[list[Json], list[Json]]:
    """`(system blocks, messages)` of a chat request's `messages`; raises `BadRequest`."""
    system: list[Json] = []
    turns: list[Json] = []
    for i, item in enumerate(array(messages, "messages")):
        at = f"messages[{i}]"
        message = mapping(item, at)
        role = message.get("role")
        if role in ("system", "developer"):
            system += _cached(_texts(message.get("content"), f"{at}.content"), message)
        elif role == "user":
            _add(turns, "user", _cached(_parts(message.get("content"), f"{at}.content"), message))
        elif role == "assistant":
            _add(turns, "assistant", _cached(_assistant(message, at), message))
        elif role == "tool":
            _add_result(turns, _tool_result(message, at))
        else:
            raise refused(f"{at}.role", "only system, developer, user, assistant and tool messages can be.")
    if not turns:
        raise BadRequest("At least one message that is not a system message is needed.", param="messages")
    return system, turns


def _add(turns: list[Json], role: str, blocks: list[Json]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _add_result(turns: list[Json], block: Json) -> None:
    if not turns or turns[-1]["role"] != "user":
        turns.append({"role": "user", "content": [block]})
        return
    content = turns[-1]["content"]
    at = 0
    while at < len(content) and content[at]["type"] == "tool_result":
        at += 1
    content.insert(at, block)


def _cached(blocks: list[Json], source: Json) -> list[Json]:
    """`blocks`, the last of them with the `cache_control` of the message that they came from."""
    if blocks and source.get("cache_control") is not None:
        blocks[-1]["cache_control"] = source["cache_control"]
    return blocks


def _text(text: str, source: Json | None = None) -> list[Json]:
    return _cached([{"type": "text", "text": text}], source or {}) if text.strip() else []


def _texts(content: Any, at: str) -> list[Json]:
    if isinstance(content, str):
        return _text(content)
    blocks: list[Json] = []
    for i, item in enumerate(array(content, at)):
        part = mapping(item, f"{at}[{i}]")
        if part.get("type") != "text":
            raise refused(f"{at}[{i}].type", "only text can be in this message.")
        blocks += _text(string(part.get("text"), f"{at}[{i}].text"), part)
    return blocks


def _parts(content: Any, at: str) -> list[Json]:
    if isinstance(content, str):
        return _text(content)
    blocks: list[Json] = []
    for i, item in enumerate(array(content, at)):
        blocks += _part(mapping(item, f"{at}[{i}]"), f"{at}[{i}]")
    return blocks


def _part(part: Json, at: str) -> list[Json]:
    kind = part.get("type")
    if kind == "text":
        return _text(string(part.get("text"), f"{at}.text"), part)
    if kind == "image_url":
        image = part.get("image_url")
        url = string(image.get("url") if isinstance(image, dict) else image, f"{at}.image_url.url")
        return _cached([{"type": "image", "source": _image_source(url, f"{at}.image_url.url")}], part)
    if kind == "file":
        return _cached([_document(mapping(part.get("file"), f"{at}.file"), f"{at}.file")], part)
    if kind in ("image", "document") and isinstance(part.get("source"), dict):
        return [dict(part)]  # already Anthropic's
    raise refused(f"{at}.type", "only text, image_url and file parts can be.")


def _image_source(url: str, at: str) -> Json:
    inline = data_url(url)
    if inline is not None:
        return {"type": "base64", "media_type": inline[0], "data": inline[1]}
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    raise BadRequest(f"'{at}' must be an http(s) URL or a base64 data URL.", param=at)


def _document(file: Json, at: str) -> Json:
    if file.get("file_id") is not None:
        raise refused(f"{at}.file_id", "files live with the provider they were uploaded to.")
    url = string(file.get("file_data"), f"{at}.file_data")
    inline = data_url(url)
    if inline is None:
        raise BadRequest(f"'{at}.file_data' must be a base64 data URL.", param=f"{at}.file_data")
    kind, data = inline
    if kind.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    if kind.startswith("text/"):
        try:
            plain = base64.b64decode(unquote_to_bytes(data), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise BadRequest(f"'{at}.file_data' is not base64 of UTF-8 text.", param=f"{at}.file_data") from exc
        source = {"type": "text", "media_type": "text/plain", "data": plain}
    else:
        source = {"type": "base64", "media_type": kind, "data": data}
    block: Json = {"type": "document", "source": source}
    if file.get("filename") is not None:
        block["title"] = string(file["filename"], f"{at}.filename")
    return block


def _assistant(message: Json, at: str) -> list[Json]:
    for key in ("audio", "function_call"):
        if message.get(key) is not None:
            raise refused(f"{at}.{key}", "Anthropic's API has no counterpart for it.")
    blocks: list[Json] = []
    for i, item in enumerate(array(message.get("thinking_blocks") or [], f"{at}.thinking_blocks")):
        block = mapping(item, f"{at}.thinking_blocks[{i}]")
        if block.get("signature") or block.get("type") == "redacted_thinking":
            blocks.append({key: value for key, value in block.items() if key != "index"})
    blocks += _spoken(message.get("content"), f"{at}.content")
    if message.get("refusal") is not None:
        blocks += _text(string(message["refusal"], f"{at}.refusal"))
    for i, item in enumerate(array(message.get("tool_calls") or [], f"{at}.tool_calls")):
        blocks.append(_tool_use(mapping(item, f"{at}.tool_calls[{i}]"), f"{at}.tool_calls[{i}]"))
    return blocks


def _spoken(content: Any, at: str) -> list[Json]:
    if content is None or isinstance(content, str):
        return _text(content or "")
    blocks: list[Json] = []
    for i, item in enumerate(array(content, at)):
        part = mapping(item, f"{at}[{i}]")
        key = part.get("type")
        if key not in ("text", "refusal"):
            raise refused(f"{at}[{i}].type", "only text and refusals can be in an assistant's message.")
        blocks += _text(string(part.get(key), f"{at}[{i}].{key}"), part)
    return blocks


def _tool_use(call: Json, at: str) -> Json:
    if call.get("type", "function") != "function":
        raise refused(f"{at}.type", "only function calls can be.")
    function = mapping(call.get("function"), f"{at}.function")
    written = string(function.get("arguments") or "{}", f"{at}.function.arguments")
    try:
        arguments = msgspec.json.decode(written)
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if type(arguments) is not dict:
        where = f"{at}.function.arguments"
        raise BadRequest(f"'{where}' is not a JSON object.", param=where, code="invalid_value")
    block = {
        "type": "tool_use",
        "id": _tool_id(call.get("id"), f"{at}.id"),
        "name": string(function.get("name"), f"{at}.function.name"),
        "input": arguments,
    }
    return _cached([block], call)[0]


def _tool_result(message: Json, at: str) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": _tool_id(message.get("tool_call_id"), f"{at}.tool_call_id")}
    content = message.get("content")
    if isinstance(content, str):
        if content:
            block["content"] = content
    elif content is not None and (parts := _parts(content, f"{at}.content")):
        block["content"] = parts
    return _cached([block], message)[0]


def _tool_id(value: Any, at: str) -> str:
    return _NOT_IN_IDS.sub("_", string(value, at))
