"""Answers `embeddings`, `moderations` and `models`: short endpoints with one body each."""

import base64
import struct
from typing import Any

from gateway.core.errors import BadRequest, NotFound
from gateway.dispatch.sandbox import fields
from gateway.dispatch.sandbox.answer import Answer, Profile, json_answer
from gateway.dispatch.sandbox.completions import prompts
from gateway.dispatch.sandbox.text import content_text, count, vector

_DIMENSIONS = {"small": 384, "large": 1024}
_MOST_INPUTS = 2048
_CATEGORIES = {
    "harassment": ("idiot",),
    "harassment/threatening": (),
    "hate": ("hate",),
    "hate/threatening": (),
    "illicit": ("steal",),
    "illicit/violent": ("bomb",),
    "self-harm": (),
    "self-harm/instructions": (),
    "self-harm/intent": ("suicide",),
    "sexual": (),
    "sexual/minors": (),
    "violence": ("kill", "murder"),
    "violence/graphic": (),
}


def embeddings(profile: Profile, doc: dict[str, Any]) -> Answer:
    """Unit vectors, 384 (small) or 1024 (large) numbers each unless asked; raises `BadRequest`."""
    if doc.get("input") is None:
        raise fields.missing("input")
    texts = prompts(doc["input"], "input")
    if len(texts) > _MOST_INPUTS or not all(texts):
        raise BadRequest("'$.input' is invalid. Please check the API reference.", param="input")
    dimensions = fields.integer(doc, "dimensions", 1, 4096) or _DIMENSIONS[profile.size]
    encoding = doc.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        text = f"Invalid value: '{encoding}'. Supported values are: 'float' and 'base64'."
        raise BadRequest(text, param="encoding_format", code="invalid_value")
    data = []
    for i, text in enumerate(texts):
        values: Any = vector(text, dimensions)
        if encoding == "base64":
            values = base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()
        data.append({"object": "embedding", "index": i, "embedding": values})
    total = sum(map(count, texts))
    model = doc.get("model")
    body = {
        "object": "list",
        "data": data,
        "model": model if isinstance(model, str) else profile.name,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }
    return json_answer(body, profile.latency_ms / 1000)


def moderations(profile: Profile, doc: dict[str, Any], request_id: str) -> Answer:
    """Flags a text by a short list of words; a simulation, never a safety measure. Raises `BadRequest`."""
    value = doc.get("input")
    if value is None:
        raise fields.missing("input")
    multimodal = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    texts = [content_text(value)] if multimodal else prompts(value, "input")
    results = []
    for text in texts:
        words = set(text.lower().split())
        hits = {name: not words.isdisjoint(found) for name, found in _CATEGORIES.items()}
        results.append(
            {
                "flagged": any(hits.values()),
                "categories": hits,
                "category_scores": {name: 0.95 if hit else 0.0001 for name, hit in hits.items()},
                "category_applied_input_types": {name: ["text"] for name in hits},
            }
        )
    body = {"id": f"modr-{request_id}", "model": profile.name, "results": results}
    return json_answer(body, profile.latency_ms / 1000)


def models(profile: Profile, name: str, now_s: int) -> Answer:
    """The list of the one model, or that model when `name` is its; raises `NotFound` for another."""
    model = {"id": profile.name, "object": "model", "created": now_s, "owned_by": "farthing-sandbox"}
    if not name:
        return json_answer({"object": "list", "data": [model]}, 0.0)
    if name != profile.name:
        raise NotFound(f"The model '{name}' does not exist.", param="model")
    return json_answer(model, 0.0)
