"""What is known of a recorded request, and how a line of a traffic file says it; knows no policy and no database.

A line of the file (JSONL, UTF-8) is one object; every key is optional but `request` or `model`:

| key | what it is |
|---|---|
| `request` | the body as the caller sent it; with it every rule can be decided |
| `model`, `facts` | instead of it: the model asked for, and what else is known of the request (`Facts`) |
| `path` | the endpoint [`/v1/chat/completions`] |
| `id`, `time` | its id; when it came: Unix seconds, or ISO 8601 (UTC unless it says otherwise) |
| `tenant`, `key`, `tags` | who asked [`default`, `open`, none] |
| `headers` | request headers; leave credentials out |
| `usage` | tokens: by the gateway's classes (`Usage`), or the object of OpenAI's or Anthropic's answer |
| `cost_usd` | what it was charged, as a decimal text or a number |
| `route`, `target`, `cache` | what served it: the route, the target, `exact`, `semantic`, `coalesced` or `miss` |
| `score` | the gain that a classifier expected of the strong target |
| `quality` | how good answers are, by `weak` and `strong` or by names of targets: a number, 1 is best; true, false |
"""

from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Literal

import msgspec

from gateway.core.errors import BadRequest, GatewayError
from gateway.core.exchange import Call, Endpoint, Identity, Usage
from gateway.core.money import micro_usd
from gateway.protocol.openai import ENDPOINTS, parse_call
from gateway.protocol.usage import from_anthropic, from_openai, from_responses

HITS: Final = frozenset(["exact", "semantic", "coalesced"])
MAX_LINE: Final = 32 << 20


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What is known of a request without its body; `None` is not known. `sensitive` says why, `""` that it is not."""

    input_tokens: int | None = None
    tools: bool | None = None
    images: bool | None = None
    structured: bool | None = None
    latency: str | None = None
    sensitive: str | None = None


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One request. `call` has its body, or is `None`; without it `headers` may be unknown: `None`.

    `usage` is of the answer that was served (`None`: not known), `cost_micro` what that answer was charged;
    `wasted_micro` what attempts before it were. `target` is empty where none is known.
    """

    identity: Identity
    model: str | None
    started_s: float | None = None
    endpoint: Endpoint = "chat"
    call: Call | None = None
    headers: tuple[tuple[bytes, bytes], ...] | None = None
    facts: Facts = Facts()
    usage: Usage | None = None
    cost_micro: int | None = None
    wasted_micro: int = 0
    route: str = ""
    target: str = ""
    cache: str = ""
    score: float | None = None
    tier: str | None = None
    """What made the score; `None` where that is not known, and the score is taken to be of any tier."""
    side: Literal["", "weak", "strong"] = ""
    """Which of a route's two targets was chosen; empty where nothing was, or that is not known."""
    session: str | None = None
    """The header `x-farthing-session`, of a request whose headers are not recorded."""
    quality: dict[str, float] | None = None
    policy: str = ""
    """The hash of the policy that served it, where it is known."""

    @property
    def hit(self) -> bool:
        """Whether it was answered from the cache."""
        return self.cache in HITS


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    id: str = ""
    time: float | str | None = None
    tenant: str = "default"
    key: str = "open"
    tags: list[str] = []
    path: str = "/v1/chat/completions"
    headers: dict[str, str] | None = None
    request: msgspec.Raw = msgspec.Raw()
    model: str | None = None
    facts: Facts = Facts()
    usage: dict[str, Any] | None = None
    cost_usd: str | float | None = None
    route: str = ""
    target: str = ""
    cache: str = ""
    score: float | None = None
    quality: dict[str, float | bool] | None = None


_decode = msgspec.json.Decoder(_Line).decode
_CLASSES = frozenset(name for name in Usage.__struct_fields__ if name != "source")


def read_line(raw: bytes, where: str) -> Recorded:
    """The request of a line. Raises `BadRequest` that begins with `where` and names the key."""
    try:
        return _recorded(_decode(raw))
    except msgspec.DecodeError as exc:
        raise BadRequest(f"{where}: {exc}; fix: one JSON object a line, see docs/policy-simulate.md") from exc
    except (GatewayError, ValueError, ArithmeticError, UnicodeError) as exc:
        raise BadRequest(f"{where}: {exc.message if isinstance(exc, GatewayError) else exc}") from exc


def caller(tenant: str, key: str, tags: tuple[str, ...]) -> Identity:
    """An identity; the same object for the same caller, as far as they are remembered."""
    return _caller(tenant, key, tags)


@lru_cache(maxsize=65_536)
def _caller(tenant: str, key: str, tags: tuple[str, ...]) -> Identity:
    return Identity(tenant, key, frozenset(tags))


def header_pairs(headers: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """Headers as a `Call` has them."""
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items())


def _recorded(line: _Line) -> Recorded:
    endpoint = ENDPOINTS.get(line.path)
    if endpoint is None:
        raise ValueError(f"path: {line.path!r} is no endpoint; fix: one of {', '.join(ENDPOINTS)}")
    headers = header_pairs(line.headers) if line.headers is not None else None
    call = None
    if line.request:
        pairs = list(headers or ())
        call = parse_call(endpoint, "POST", line.path, b"", pairs, dict(pairs), bytes(line.request))
    elif not line.model:
        raise ValueError("neither request nor model; fix: give the body, or the name of the model that was asked for")
    if line.score is not None and not isfinite(line.score):
        raise ValueError("score: not a finite number")
    return Recorded(
        identity=caller(line.tenant, line.key, tuple(line.tags)),
        model=call.model if call is not None else line.model,
        started_s=seconds(line.time),
        endpoint=endpoint,
        call=call,
        headers=headers,
        facts=line.facts,
        usage=_usage(line.usage, endpoint) if line.usage is not None else None,
        cost_micro=None if line.cost_usd is None else micro_usd(line.cost_usd),
        route=line.route,
        target=line.target,
        cache=line.cache,
        score=line.score,
        quality=None if line.quality is None else {name: float(good) for name, good in line.quality.items()},
    )


def seconds(time: float | str | None) -> float | None:
    """Unix seconds of a time as a line has it; raises `ValueError`."""
    if not isinstance(time, str):
        return time
    try:
        read = datetime.fromisoformat(time)
    except ValueError:
        raise ValueError(f"time: {time!r} is no time; fix: Unix seconds, or 2026-11-01T13:00:00Z") from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _usage(usage: dict[str, Any], endpoint: Endpoint) -> Usage:
    """The tokens; raises `ValueError` for what is neither the gateway's classes nor a provider's object."""
    if "prompt_tokens" in usage:
        return from_openai(usage)
    if "input_tokens" in usage:
        return from_responses(usage) if endpoint == "responses" else from_anthropic(usage)
    unknown = usage.keys() - _CLASSES
    if unknown:
        raise ValueError(f"usage: unknown key {min(unknown)!r}; fix: {', '.join(sorted(_CLASSES))}")
    if any(type(tokens) is not int or tokens < 0 for tokens in usage.values()):
        raise ValueError("usage: not a whole number of tokens")
    return Usage(**usage)
