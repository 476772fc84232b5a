"""Answers `chat/completions` as OpenAI would: texts, tool calls, JSON, log-probabilities, chunks."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.dispatch.sandbox.answer import FINGERPRINT, Answer, Profile, json_answer, sse, sse_answer
from gateway.dispatch.sandbox.chat_request import Chat, parse
from gateway.dispatch.sandbox.schema import instance, quoted
from gateway.dispatch.sandbox.text import Dice, content_text, count, logprobs, pieces, reply

_IMAGE_TOKENS = 85
_KEY = re.compile(r"[A-Za-z_]\w{0,63}")


class _Call(msgspec.Struct):
    """One tool call; `arguments` are the tokens of its JSON."""

    id: str
    name: str
    arguments: list[str]


class _Choice(msgspec.Struct):
    """One of n: either text tokens or calls, and why it ended."""

    dice: Dice
    finish: str
    tokens: list[str]
    calls: list[_Call]

    def size(self) -> int:
        return len(self.tokens) + sum(len(call.arguments) for call in self.calls)


def chat(profile: Profile, doc: dict[str, Any], request_id: str, now_s: int) -> Answer:
    """The answer to one request; raises `BadRequest` where OpenAI would answer 400."""
    request = parse(profile, doc)
    seed = [request.model, request.messages, doc.get("seed")]
    key = msgspec.json.encode(seed, order="deterministic")
    choices = [_choice(profile, request, Dice(key, b"%d" % profile.seed, b"%d" % i), i) for i in range(request.n)]
    completion, prompt = sum(choice.size() for choice in choices), _prompt_tokens(request, doc)
    usage = _usage(prompt, completion)
    head = {"id": f"chatcmpl-{request_id}", "created": now_s, "model": request.model}
    delay_s = profile.latency_ms / 1000
    if request.stream:
        chunks = _chunks(request, choices, head, usage)
        return sse_answer([(tokens / profile.tokens_per_s, sse(chunk)) for tokens, chunk in chunks], delay_s)
    longest = max(choice.size() for choice in choices)
    body = {
        "id": head["id"],
        "object": "chat.completion",
        "created": now_s,
        "model": request.model,
        "choices": [_whole(request, choice, i) for i, choice in enumerate(choices)],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    return json_answer(body, delay_s + longest / profile.tokens_per_s)


def _choice(profile: Profile, request: Chat, dice: Dice, index: int) -> _Choice:
    if request.tools:
        calls = [
            _Call(f"call_{dice.hex(f'call {k}')[:24]}", tool["name"], pieces(_arguments(tool, request.question)))
            for k, tool in enumerate(request.tools)
        ]
        return _cut(_Choice(dice, "tool_calls", [], calls), request.limit)
    text = _text(profile, request, dice)
    if index and "type" not in request.format:
        text += f" This is alternative {index + 1}."
    ends = [found for found in (text.find(stop) for stop in request.stops) if found >= 0]
    return _cut(_Choice(dice, "stop", pieces(text[: min(ends)] if ends else text), []), request.limit)


def _text(profile: Profile, request: Chat, dice: Dice) -> str:
    if request.format.get("type") == "json_schema":
        schema = request.format["json_schema"]["schema"]
        return _encoded(schema, request.question, "response_format")
    if request.format.get("type") == "json_object":
        keys = [found for found in quoted(request.question) if _KEY.fullmatch(found)]
        outline = {"type": "object", "properties": {key: {"type": "string"} for key in keys or ["answer"]}}
        return _encoded(outline, "", "response_format")
    last = request.messages[-1]
    if last["role"] == "tool":
        returned = content_text(last.get("content"))[:400]
        return f"This is a simulated answer from {request.model}, after a tool returned: {returned}"
    return reply(request.model, profile.size, request.question, dice)


def _arguments(tool: dict[str, Any], question: str) -> str:
    schema = tool.get("parameters")
    if not isinstance(schema, dict) or not schema:
        return "{}"
    return _encoded({"type": "object", **schema}, question, "tools")


def _encoded(schema: dict[str, Any], question: str, param: str) -> str:
    """A JSON text valid under `schema`; raises `BadRequest` for a schema that is none."""
    try:
        return msgspec.json.encode(instance(schema, question)).decode()
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError) as exc:
        raise BadRequest(f"Invalid schema in '{param}': {exc}", param=param, code="invalid_json_schema") from exc


def _cut(choice: _Choice, limit: int | None) -> _Choice:
    """The first `limit` tokens of `choice`; it then ended for `length`."""
    if limit is None or choice.size() <= limit:
        return choice
    left = limit - len(choice.tokens[:limit])
    calls = []
    for call in choice.calls:
        if left > 0:
            calls.append(_Call(call.id, call.name, call.arguments[:left]))
            left -= len(call.arguments)
    return _Choice(choice.dice, "length", choice.tokens[:limit], calls)


def _prompt_tokens(request: Chat, doc: dict[str, Any]) -> int:
    """Tokens of texts, calls, images (a flat 85 each) and tool definitions, 3 more per message, 3 to start."""
    total = 3
    for message in request.messages:
        content = message.get("content")
        total += 3 + count(content_text(content))
        if isinstance(content, list):
            total += _IMAGE_TOKENS * sum(isinstance(p, dict) and p.get("type") == "image_url" for p in content)
        if message.get("tool_calls"):
            total += count(msgspec.json.encode(message["tool_calls"]).decode())
    if doc.get("tools"):
        total += count(msgspec.json.encode(doc["tools"]).decode())
    return total


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _scores(request: Chat, choice: _Choice) -> list[dict[str, Any]]:
    """`logprobs.content` of all text tokens of the choice."""
    return [
        {
            "token": token,
            "logprob": score,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in best],
        }
        for token, score, best in logprobs(choice.tokens, request.top_logprobs or 0, choice.dice)
    ]


def _call(call: _Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _whole(request: Chat, choice: _Choice, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(choice.tokens),
        "refusal": None,
        "annotations": [],
    }
    if choice.calls:
        message["content"] = None
        message["tool_calls"] = [_call(call, "".join(call.arguments)) for call in choice.calls]
    scored = request.top_logprobs is not None and not choice.calls
    scores = {"content": _scores(request, choice), "refusal": None} if scored else None
    return {"index": index, "message": message, "logprobs": scores, "finish_reason": choice.finish}


def _chunks(
    request: Chat, choices: list[_Choice], head: dict[str, Any], usage: dict[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(tokens that pass before it, chunk): the choices advance side by side, one token each."""
    frame = {
        "id": head["id"],
        "object": "chat.completion.chunk",
        "created": head["created"],
        "model": head["model"],
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    extra: dict[str, Any] = {"usage": None} if request.usage else {}
    running = [(i, _deltas(request, choice)) for i, choice in enumerate(choices)]
    pace = 0
    while running:
        alive = []
        tokens = pace
        for i, deltas in running:
            step = next(deltas, None)
            if step is None:
                continue
            delta, scores, finish = step
            entry = {"index": i, "delta": delta, "logprobs": scores, "finish_reason": finish}
            yield tokens, {**frame, "choices": [entry], **extra}
            tokens = 0
            alive.append((i, deltas))
        running = alive
        pace = 1
    if request.usage:
        yield 0, {**frame, "choices": [], "usage": usage}


def _deltas(request: Chat, choice: _Choice) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None, str | None]]:
    """(delta, logprobs, finish_reason) of one choice, the role first and the finish reason last."""
    yield {"role": "assistant", "content": None if choice.calls else "", "refusal": None}, None, None
    scores = _scores(request, choice) if request.top_logprobs is not None else None
    for k, token in enumerate(choice.tokens):
        yield {"content": token}, {"content": [scores[k]], "refusal": None} if scores else None, None
    for k, call in enumerate(choice.calls):
        yield {"tool_calls": [{"index": k, **_call(call, "")}]}, None, None
        for piece in call.arguments:
            yield {"tool_calls": [{"index": k, "function": {"arguments": piece}}]}, None, None
    yield {}, None, choice.finish
