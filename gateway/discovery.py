"""What a machine has when no policy names a target: API keys, a local model server, else the sandbox.

`probe` asks; `policy_document` decides, purely. The order is the promise of the README: keys in the environment
first, then an OpenAI-compatible server on localhost (vLLM on 8000, Ollama on 11434), then the sandbox.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

LOCAL_SERVERS = (("vllm", "http://127.0.0.1:8000/v1"), ("ollama", "http://127.0.0.1:11434/v1"))


class LocalServer(msgspec.Struct, frozen=True):
    """An OpenAI-compatible server that answered: its preset, its base URL, the models it lists."""

    preset: str
    base_url: str
    models: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """A policy made from what was found, and the sentences that say so."""

    document: dict[str, Any]
    notes: tuple[str, ...]


def has_keys(environ: Mapping[str, str]) -> bool:
    """A provider's key is set, so that no local server need be looked for."""
    return bool(environ.get("OPENAI_API_KEY") or environ.get("ANTHROPIC_API_KEY"))


def policy_document(environ: Mapping[str, str], servers: Sequence[LocalServer]) -> Found:
    """A policy document for what is there; keys by reference, so that no secret enters it."""
    if has_keys(environ):
        return _external(environ)
    if servers:
        return _local(servers[0])
    return _sandbox()


def _external(environ: Mapping[str, str]) -> Found:
    targets: dict[str, Any] = {}
    routes: list[dict[str, Any]] = []
    notes: list[str] = []
    if environ.get("ANTHROPIC_API_KEY"):
        targets["anthropic"] = {"provider": "anthropic", "api_key": "env:ANTHROPIC_API_KEY"}
        routes.append({"name": "anthropic", "match": {"models": ["claude-*"]}, "target": "anthropic"})
        notes.append("ANTHROPIC_API_KEY is set: models claude-* go to Anthropic")
    if environ.get("OPENAI_API_KEY"):
        targets["openai"] = {"provider": "openai", "api_key": "env:OPENAI_API_KEY"}
        routes.append({"name": "openai", "match": {}, "target": "openai"})
        notes.append("OPENAI_API_KEY is set: all other models go to OpenAI")
    return Found({"version": 1, "targets": targets, "routes": routes}, tuple(notes))


def _local(server: LocalServer) -> Found:
    targets = {server.preset: {"provider": server.preset, "base_url": server.base_url}}
    routes: list[dict[str, Any]] = [
        {"name": server.preset, "match": {"models": list(server.models)}, "target": server.preset},
        {"name": "default", "match": {}, "target": server.preset},
    ]
    note = f"{server.base_url} answers with {', '.join(server.models[:5]) or 'no models'}: everything goes there"
    return Found({"version": 1, "targets": targets, "routes": routes if server.models else routes[1:]}, (note,))


def _sandbox() -> Found:
    names = ("sandbox-small", "sandbox-large")
    document = {
        "version": 1,
        "targets": {name: {"provider": "sandbox", "model": name} for name in names},
        "routes": [{"name": name, "match": {"models": [name]}, "target": name} for name in names],
    }
    note = "no policy, no API key, no local server: the sandbox answers (a simulation, labelled in every answer)"
    return Found(document, (note,))


async def probe(candidates: Sequence[tuple[str, str]] = LOCAL_SERVERS, timeout_s: float = 0.4) -> list[LocalServer]:
    """Those of `candidates` (preset, base URL) that list their models in time; an unexpected answer is no server."""
    import httpx  # noqa: PLC0415 - only a start without targets needs it

    found = []
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        for preset, base_url in candidates:
            try:
                answer = await client.get(f"{base_url}/models")
                rows = answer.json()["data"] if answer.status_code == 200 else None
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                continue
            if isinstance(rows, list):
                names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
                found.append(LocalServer(preset, base_url, tuple(names)))
    return found
