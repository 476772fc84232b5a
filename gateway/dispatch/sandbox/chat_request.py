"""Decides what a `chat/completions` request means, tool calls included, and refuses it as OpenAI would."""

import re
from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.dispatch.sandbox import fields
from gateway.dispatch.sandbox.answer import Profile
from gateway.dispatch.sandbox.text import content_text

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_LIMIT = 1_000_000
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")
_VERBS = frozenset({"get", "fetch", "find", "look", "lookup", "search", "run", "call", "do", "make", "query", "use"})


class Chat(msgspec.Struct, frozen=True):
    """What the fields of a valid request mean."""

    model: str
    messages: list[dict[str, Any]]
    question: str
    tools: list[dict[str, Any]]
    """The functions to call, in order; empty for a text."""
    format: dict[str, Any]
    stops: list[str]
    limit: int | None
    n: int
    top_logprobs: int | None
    """`None` without log-probabilities, else how many alternatives beside each token."""
    stream: bool
    usage: bool


def parse(profile: Profile, doc: dict[str, Any]) -> Chat:
    """The request behind `doc`; raises `BadRequest` with the message, param and code of OpenAI."""
    messages = _messages(doc)
    fields.sampling(doc)
    question = next((content_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), "")
    top = fields.integer(doc, "top_logprobs", 0, 20)
    wanted = fields.flag(doc, "logprobs")
    if top is not None and not wanted:
        raise BadRequest(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
        )
    limit = fields.integer(doc, "max_completion_tokens", 1, _LIMIT) or fields.integer(doc, "max_tokens", 1, _LIMIT)
    model = doc.get("model")
    return Chat(
        model=model if isinstance(model, str) else profile.name,
        messages=messages,
        question=question,
        tools=_wanted_tools(doc, messages, question),
        format=_format(doc, messages),
        stops=fields.stops(doc),
        limit=limit,
        n=fields.integer(doc, "n", 1, 128) or 1,
        top_logprobs=(top or 0) if wanted else None,
        stream=fields.flag(doc, "stream"),
        usage=fields.wants_usage(doc),
    )


def _messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    messages = doc.get("messages")
    if messages is None:
        raise fields.missing("messages")
    if not isinstance(messages, list):
        raise fields.wrong_type("messages", "an array of objects", messages)
    if not messages:
        text = "empty array. Expected an array with minimum length 1, but got an empty array instead."
        raise BadRequest(f"Invalid 'messages': {text}", param="messages", code="empty_array")
    called = False
    for k, message in enumerate(messages):
        param = f"messages[{k}]"
        if not isinstance(message, dict):
            raise fields.wrong_type(param, "an object", message)
        role = message.get("role")
        if role is None:
            raise fields.missing(f"{param}.role")
        if role not in _ROLES:
            known = ", ".join(f"'{name}'" for name in _ROLES[:-1])
            text = f"Invalid value: '{role}'. Supported values are: {known}, and '{_ROLES[-1]}'."
            raise BadRequest(text, param=f"{param}.role", code="invalid_value")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise fields.wrong_type(f"{param}.content", "one of a string or array of objects", content)
        if content is None and role != "assistant":
            raise fields.missing(f"{param}.content")
        if role == "tool" and not called:
            # OpenAI's own spelling, which clients match on.
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise BadRequest(f"Invalid parameter: {text}", param=f"{param}.role")
        called = role == "tool" or bool(message.get("tool_calls"))
    return messages


def _format(doc: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = fields.obj(doc, "response_format")
    if chosen.get("type") == "json_object":
        if not any("json" in content_text(message.get("content")).lower() for message in messages):
            text = "'messages' must contain the word 'json' in some form, to use 'response_format' of type"
            raise BadRequest(f"{text} 'json_object'.", param="messages")
    elif chosen.get("type") == "json_schema":
        outline = fields.obj(chosen, "json_schema")
        if not isinstance(outline.get("schema"), dict):
            raise fields.missing("response_format.json_schema.schema")
    elif chosen.get("type", "text") != "text":
        text = f"Invalid value: '{chosen['type']}'. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise BadRequest(text, param="response_format.type", code="invalid_value")
    return chosen


def _wanted_tools(doc: dict[str, Any], messages: list[dict[str, Any]], question: str) -> list[dict[str, Any]]:
    """The functions that the answer calls, by tool_choice and, under `auto`, by what the user asks for."""
    tools = _functions(doc)
    choice = doc.get("tool_choice")
    if choice is not None and not tools:
        text = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise BadRequest(text, param="tool_choice")
    if isinstance(choice, dict):
        name = fields.obj(choice, "function").get("name")
        found = [tool for tool in tools if tool["name"] == name]
        if not found:
            text = f"Tool choice '{name}' not found in 'tools' parameter."
            raise BadRequest(text, param="tool_choice", code="invalid_value")
        return found
    if choice not in (None, "auto", "none", "required"):
        text = f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'."
        raise BadRequest(text, param="tool_choice", code="invalid_value")
    if choice == "none" or (choice != "required" and messages[-1]["role"] != "user"):
        return []
    named = [tool for tool in tools if _asked_for(tool["name"], question)]
    if choice == "required":
        named = named or tools[:1]
    return named if fields.flag(doc, "parallel_tool_calls", default=True) else named[:1]


def _functions(doc: dict[str, Any]) -> list[dict[str, Any]]:
    tools = doc.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise fields.wrong_type("tools", "an array of objects", tools)
    out = []
    for k, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise fields.wrong_type(f"tools[{k}]", "an object", tool)
        if tool.get("type", "function") != "function":
            continue
        function = fields.obj(tool, "function")
        if not isinstance(function.get("name"), str):
            raise fields.missing(f"tools[{k}].function.name")
        out.append(function)
    return out


def _asked_for(name: str, question: str) -> bool:
    """Whether the question names the tool: as it is written, or each word of its name but a verb such as `get`."""
    lowered = question.lower()
    if re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered):
        return True
    parts = {part.lower() for part in _NAME_PART.findall(name)} - _VERBS
    return bool(parts) and parts <= set(re.findall(r"\w+", lowered))
