"""What a simulated model is (`Profile`) and what it answers (`Answer`); knows nothing of any endpoint."""

from typing import Any, Literal

import msgspec

from gateway.core.errors import PolicyError
from gateway.core.exchange import Target

SIMULATED = ("x-farthing-simulated", "true")
FINGERPRINT = "farthing-sandbox"


class Profile(msgspec.Struct, frozen=True):
    """One simulated model: how fast, how chatty, how unreliable.

    `latency_ms` is the time to the first token, `tokens_per_s` the pace after it, `error_rate` the fraction of
    calls answered 429, 500 or 503. The same `seed` gives the same texts and the same failures.
    """

    name: str
    size: Literal["small", "large"]
    latency_ms: float
    tokens_per_s: float
    error_rate: float = 0.0
    seed: int = 0


class Answer(msgspec.Struct, frozen=True):
    """One complete answer: `body`, or `chunks` of a stream as (delay before it in seconds, bytes).

    `first_delay_s` passes before the status line. Header names are lower-case. `chunks` count if `body` is `None`.
    """

    status: int
    headers: list[tuple[str, str]]
    first_delay_s: float
    body: bytes | None = None
    chunks: list[tuple[float, bytes]] = []


class _Options(msgspec.Struct, frozen=True):
    """The sandbox's own options; those of other rooms, a price for one, pass by. The policy refuses unknown ones."""

    size: Literal["small", "large"] | None = None
    latency_ms: float | None = None
    tokens_per_s: float | None = None
    error_rate: float = 0.0
    seed: int = 0


_LATENCY_MS = {"small": 40.0, "large": 250.0}
_TOKENS_PER_S = {"small": 400.0, "large": 150.0}


def profile(target: Target) -> Profile:
    """The profile that `target.options` ask for; the size is `large` when the model's name says so.

    Options of other rooms are ignored. Raises `PolicyError` for a value out of range, naming the option.
    """
    name = target.model or target.name
    try:
        options = msgspec.convert(target.options, _Options)
    except msgspec.ValidationError as exc:
        raise PolicyError(f"sandbox target {target.name!r}: {exc}") from exc
    size = options.size or ("large" if "large" in name else "small")
    latency_ms = _LATENCY_MS[size] if options.latency_ms is None else options.latency_ms
    tokens_per_s = _TOKENS_PER_S[size] if options.tokens_per_s is None else options.tokens_per_s
    if latency_ms < 0:
        raise PolicyError(f"sandbox target {target.name!r}: latency_ms must be 0 or more, not {latency_ms}")
    if tokens_per_s <= 0:
        raise PolicyError(f"sandbox target {target.name!r}: tokens_per_s must be above 0, not {tokens_per_s}")
    if not 0 <= options.error_rate <= 1:
        raise PolicyError(f"sandbox target {target.name!r}: error_rate is 0 to 1, not {options.error_rate}")
    return Profile(name, size, latency_ms, tokens_per_s, options.error_rate, options.seed)


def json_answer(doc: Any, delay_s: float, status: int = 200) -> Answer:
    """`doc` as a JSON answer after `delay_s`."""
    headers = [("content-type", "application/json"), SIMULATED]
    return Answer(status, headers, delay_s, body=msgspec.json.encode(doc))


def sse_answer(chunks: list[tuple[float, bytes]], delay_s: float) -> Answer:
    """A stream of server-sent events, closed by `[DONE]`."""
    headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), SIMULATED]
    return Answer(200, headers, delay_s, chunks=[*chunks, (0.0, b"data: [DONE]\n\n")])


def sse(doc: Any) -> bytes:
    """One `data:` event."""
    return b"data: " + msgspec.json.encode(doc) + b"\n\n"
