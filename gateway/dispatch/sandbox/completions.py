"""Answers the legacy `completions`: prompts as text or tokens, echo, n, suffix, log-probabilities, chunks."""

from typing import Any

import msgspec

from gateway.core.errors import BadRequest
from gateway.dispatch.sandbox import fields
from gateway.dispatch.sandbox.answer import FINGERPRINT, Answer, Profile, json_answer, sse, sse_answer
from gateway.dispatch.sandbox.text import Dice, count, logprobs, pieces, reply

_DEFAULT_TOKENS = 16


class _Choice(msgspec.Struct, frozen=True):
    """One completion; `echoed` tokens of the prompt come first and are not counted as output."""

    dice: Dice
    echoed: list[str]
    tokens: list[str]
    finish: str


def prompts(value: Any, param: str) -> list[str]:
    """The texts of a `prompt` or `input`: a string, strings, token ids or lists of these; raises `BadRequest`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return value
        if all(_is_token(item) for item in value):
            return [_detokenised(value)]
        if all(isinstance(item, list) and item and all(_is_token(t) for t in item) for item in value):
            return [_detokenised(item) for item in value]
    raise BadRequest(f"'${param}' is invalid. Please check the API reference.", param=param, code="invalid_type")


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _detokenised(tokens: list[int]) -> str:
    return " ".join(f"token{token}" for token in tokens)


def completions(profile: Profile, doc: dict[str, Any], request_id: str, now_s: int) -> Answer:
    """The answer to one request; raises `BadRequest` where OpenAI would answer 400."""
    if doc.get("prompt") is None:
        raise fields.missing("prompt")
    texts = prompts(doc["prompt"], "prompt")
    fields.sampling(doc)
    n = fields.integer(doc, "n", 1, 128) or 1
    top = fields.integer(doc, "logprobs", 0, 5)
    name = doc.get("model")
    model = name if isinstance(name, str) else profile.name
    choices = [_choice(profile, doc, model, text, i) for text in texts for i in range(n)]
    prompt, completion = sum(map(count, texts)), sum(len(choice.tokens) for choice in choices)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    frame = {
        "id": f"cmpl-{request_id}",
        "object": "text_completion",
        "created": now_s,
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }
    delay_s = profile.latency_ms / 1000
    if fields.flag(doc, "stream"):
        chunks = _chunks(choices, frame, usage, top, wants_usage=fields.wants_usage(doc))
        return sse_answer([(tokens / profile.tokens_per_s, sse(chunk)) for tokens, chunk in chunks], delay_s)
    entries = []
    for i, choice in enumerate(choices):
        tokens = [*choice.echoed, *choice.tokens]
        entries.append(_entry(i, tokens, _scores(choice, top), choice.finish))
    longest = max(len(choice.tokens) for choice in choices)
    return json_answer({**frame, "choices": entries, "usage": usage}, delay_s + longest / profile.tokens_per_s)


def _choice(profile: Profile, doc: dict[str, Any], model: str, prompt: str, index: int) -> _Choice:
    key = msgspec.json.encode([model, prompt, doc.get("suffix"), doc.get("seed")])
    dice = Dice(key, b"%d" % profile.seed, b"%d" % index)
    text = " " + reply(model, profile.size, prompt, dice)
    ends = [found for found in (text.find(stop) for stop in fields.stops(doc)) if found >= 0]
    limit = fields.integer(doc, "max_tokens", 0, 1_000_000)
    limit = _DEFAULT_TOKENS if limit is None else limit
    tokens = pieces(text[: min(ends)] if ends else text)
    echoed = pieces(prompt) if fields.flag(doc, "echo") else []
    return _Choice(dice, echoed, tokens[:limit], "length" if len(tokens) > limit else "stop")


def _entry(index: int, tokens: list[str], scores: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"text": "".join(tokens), "index": index, "logprobs": scores, "finish_reason": finish}


def _scores(choice: _Choice, top: int | None) -> dict[str, Any] | None:
    """The legacy log-probabilities of echoed and new tokens; offsets are in characters."""
    if top is None:
        return None
    rows = logprobs([*choice.echoed, *choice.tokens], top, choice.dice)
    offsets, at = [], 0
    for token, _, _ in rows:
        offsets.append(at)
        at += len(token)
    return {
        "tokens": [token for token, _, _ in rows],
        "token_logprobs": [score for _, score, _ in rows],
        "top_logprobs": [dict(best) for _, _, best in rows] if top else None,
        "text_offset": offsets,
    }


def _chunks(
    choices: list[_Choice], frame: dict[str, Any], usage: dict[str, Any], top: int | None, *, wants_usage: bool
) -> list[tuple[int, dict[str, Any]]]:
    """(tokens that pass before it, chunk), one choice after another; the last chunk of each says why it ended."""
    extra: dict[str, Any] = {"usage": None} if wants_usage else {}
    out: list[tuple[int, dict[str, Any]]] = []
    for i, choice in enumerate(choices):
        scores = _scores(choice, top)
        for k, token in enumerate([*choice.echoed, *choice.tokens]):
            part = {key: rows[k : k + 1] if rows else None for key, rows in scores.items()} if scores else None
            out.append((1, {**frame, "choices": [_entry(i, [token], part, None)], **extra}))
        out.append((0, {**frame, "choices": [_entry(i, [], None, choice.finish)], **extra}))
    if wants_usage:
        out.append((0, {**frame, "choices": [], "usage": usage}))
    return out
