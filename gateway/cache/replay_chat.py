"""Chat completions and text completions: chunks put together into one answer, and an answer told in chunks.

Members that we do not know survive both ways: texts of a delta are joined, lists merged by `index`, the rest is what
was said last. Source: OpenAI's chat streaming reference, and how its Python SDK accumulates deltas.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.cache.pieces import cut
from gateway.core.exchange import Endpoint, Usage
from gateway.protocol.sse import DONE, frame

Json = dict[str, Any]
_encode = msgspec.json.encode
_SAID_ONCE = frozenset(["role", "id", "type", "name", "index", "signature"])
_TOLD_IN_PIECES = ("reasoning_content", "reasoning", "content", "refusal")
_OBJECTS = {"chat": "chat.completion", "completions": "text_completion"}


def assemble(endpoint: Endpoint, chunks: list[Json], usage: Usage | None) -> bytes | None:
    """See `gateway.cache.replay.assemble`; `[DONE]` is not among the chunks."""
    top: Json = {}
    choices: dict[int, _Heard] = {}
    for chunk in chunks:
        if chunk.get("error"):
            return None
        for key, value in chunk.items():
            if key != "choices" and (top.get(key) is None or (key == "usage" and value is not None)):
                top[key] = value
        for said in chunk.get("choices") or []:
            index = said.get("index", 0)
            if index not in choices:
                choices[index] = _Heard()
            choices[index].hear(said)
    if not choices or any(not choice.rest.get("finish_reason") for choice in choices.values()):
        return None
    top.pop("obfuscation", None)
    whole = [{"index": i, **choices[i].settled(endpoint)} for i in sorted(choices)]
    spent = top.pop("usage", None) or (usage_object(usage) if usage is not None else None)
    return _encode({**top, "object": _OBJECTS[endpoint], "choices": whole, "usage": spent})


class _Heard:
    """One choice so far; its text is kept in pieces, for long answers have thousands of them."""

    def __init__(self) -> None:
        self.message: Json = {"role": "assistant"}
        self.text: list[str] = []
        self.rest: Json = {}

    def hear(self, said: Json) -> None:
        for key, value in said.items():
            if key == "delta":
                self._delta(value or {})
            elif key == "text":
                self.text.append(value or "")
            elif key != "index" and (value is not None or key not in self.rest):
                self.rest[key] = value

    def _delta(self, delta: Json) -> None:
        text = delta.get("content")
        if isinstance(text, str):
            self.text.append(text)
            if len(delta) == 1:
                return
            delta = {key: value for key, value in delta.items() if key != "content"}
        _merge(self.message, delta)

    def settled(self, endpoint: Endpoint) -> Json:
        text = "".join(self.text)
        if endpoint == "completions":
            return {**self.rest, "text": text}
        for key, value in self.message.items():
            if isinstance(value, list):
                self.message[key] = [_unnumbered(item) for item in value]
        if self.text:
            self.message["content"] = text
        self.message.setdefault("content", None)
        return {**self.rest, "message": self.message}


def _merge(into: Json, delta: Json) -> None:
    for key, value in delta.items():
        held = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and isinstance(held, str):
            into[key] = (value or held) if key in _SAID_ONCE else held + value
        elif isinstance(value, dict) and isinstance(held, dict):
            _merge(held, value)
        elif isinstance(value, list):
            into[key] = held if isinstance(held, list) else []
            for item in value:
                _merge_item(into[key], item)
        else:
            into[key] = value


def _merge_item(items: list[Any], item: Any) -> None:
    """A piece of a list: by its `index`, or (servers that leave it out) by a new `id` that begins a new element."""
    if isinstance(item, dict):
        index, id_ = item.get("index"), item.get("id")
        if type(index) is int:
            known = next((one for one in items if isinstance(one, dict) and one.get("index") == index), None)
        else:
            last = items[-1] if items and isinstance(items[-1], dict) and "function" in item else None
            known = last if last is not None and (not id_ or last.get("id") == id_) else None
        if known is not None:
            _merge(known, item)
            return
        item = msgspec.json.decode(_encode(item))
    items.append(item)


def _unnumbered(item: Any) -> Any:
    return {k: v for k, v in item.items() if k != "index"} if isinstance(item, dict) else item


def usage_object(usage: Usage) -> Json:
    """OpenAI's usage object from the counts of the record."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def events(endpoint: Endpoint, answer: Json, *, include_usage: bool) -> list[bytes]:
    """See `gateway.cache.replay.stream`: the role first, the finish reason last, then usage if asked for, `[DONE]`."""
    top = {k: v for k, v in answer.items() if k not in ("choices", "usage")}
    top["object"] = "chat.completion.chunk" if endpoint == "chat" else "text_completion"
    extra: Json = {"usage": None} if include_usage else {}
    said = _chat if endpoint == "chat" else _text
    out = [
        frame(_encode({**top, "choices": [{"index": choice.get("index", i), **part}], **extra}))
        for i, choice in enumerate(answer["choices"])
        for part in said(choice)
    ]
    if include_usage:
        out.append(frame(_encode({**top, "choices": [], "usage": answer.get("usage")})))
    return [*out, DONE]


def _chat(choice: Json) -> Iterator[Json]:
    message = dict(choice["message"])
    calls, function = message.pop("tool_calls", None), message.pop("function_call", None)
    content = "" if isinstance(message.get("content"), str) else message.get("content")
    texts = [(key, message.pop(key)) for key in _TOLD_IN_PIECES if isinstance(message.get(key), str) and message[key]]
    rest = {k: _numbered(v) for k, v in message.items() if k not in ("role", "content")}
    yield _said({"role": "assistant", "content": content, **rest})
    for key, text in texts:
        for piece in cut(text):
            yield _said({key: piece})
    for i, call in enumerate(calls or []):
        yield from _call(i, call)
    if function:
        yield _said({"function_call": {**function, "arguments": ""}})
        for piece in cut(function.get("arguments") or ""):
            yield _said({"function_call": {"arguments": piece}})
    end = {k: v for k, v in choice.items() if k not in ("index", "message", "logprobs")}
    yield {"delta": {}, "logprobs": None, **end}


def _said(delta: Json) -> Json:
    return {"delta": delta, "logprobs": None, "finish_reason": None}


def _call(index: int, call: Json) -> Iterator[Json]:
    """A tool call: its id, type and name once, then its arguments in pieces."""
    kind = "custom" if "custom" in call else "function"
    field = "input" if kind == "custom" else "arguments"
    text = call[kind].get(field)
    if not isinstance(text, str):  # some servers send the object itself
        yield _said({"tool_calls": [{**call, "index": index}]})
        return
    yield _said({"tool_calls": [{**call, "index": index, kind: {**call[kind], field: ""}}]})
    for piece in cut(text):
        yield _said({"tool_calls": [{"index": index, kind: {field: piece}}]})


def _numbered(value: Any) -> Any:
    """Elements of a list with the `index` by which SDKs merge them."""
    if not isinstance(value, list):
        return value
    return [{**item, "index": i} if isinstance(item, dict) else item for i, item in enumerate(value)]


def _text(choice: Json) -> Iterator[Json]:
    for piece in cut(choice.get("text") or ""):
        yield {"text": piece, "logprobs": None, "finish_reason": None}
    yield {"logprobs": None, **{k: v for k, v in choice.items() if k != "index"}, "text": ""}
