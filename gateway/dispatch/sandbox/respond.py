"""Routes a request to a simulated endpoint, decides simulated failures, and waits out the delays.

`respond` is pure: the same arguments give the same bytes. `Sandbox` adds time; it must not know any endpoint.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import BadRequest, ClientError, NotFound, UpstreamBroken, UpstreamTimeout, error_body
from gateway.dispatch.sandbox.answer import SIMULATED, Answer, Profile
from gateway.dispatch.sandbox.chat import chat
from gateway.dispatch.sandbox.completions import completions
from gateway.dispatch.sandbox.others import embeddings, models, moderations
from gateway.dispatch.sandbox.text import Dice

_TICK_S = 0.001
_FAILURES = (
    (429, "requests", "rate_limit_exceeded", "Simulated rate limit of {}: one of its configured errors."),
    (500, "server_error", None, "Simulated server error of {}: one of its configured errors."),
    (503, "server_error", "overloaded", "Simulated overload of {}: one of its configured errors."),
)


def respond(
    profile: Profile, path: str, doc: dict[str, Any] | None, raw: bytes, now_s: int, counter: int = 0
) -> Answer:
    """The answer of `profile` to one call; never raises for what a client can send.

    `path` may start with `/v1` and carry a query; `doc` is the decoded `raw`, `None` when there is no JSON object.
    `now_s` is Unix seconds. `counter` gives a retry of the same bytes another chance to fail or not.
    """
    seed = b"%d" % profile.seed
    dice = Dice(raw, path.encode("utf-8", "replace"), seed, b"%d" % counter)
    request_id = Dice(raw, seed, b"%d %d" % (now_s, counter)).hex("id")[:24]
    if dice.unit("fails") < profile.error_rate:
        answer = _failure(profile, dice)
    else:
        try:
            answer = _dispatched(profile, path, doc, request_id, now_s)
        except ClientError as exc:
            answer = _refused(exc, profile)
    return msgspec.structs.replace(answer, headers=[*answer.headers, ("x-request-id", f"req_{request_id}")])


def _dispatched(profile: Profile, path: str, doc: dict[str, Any] | None, request_id: str, now_s: int) -> Answer:
    route = path.partition("?")[0].strip("/").removeprefix("v1/")
    head, _, rest = route.partition("/")
    if head == "models":
        return models(profile, rest, now_s)
    if route not in ("chat/completions", "completions", "embeddings", "moderations"):
        raise NotFound(f"Unknown request URL: {path.partition('?')[0]}. Please check the URL.", code="unknown_url")
    if doc is None:
        raise BadRequest("We could not parse the JSON body of your request: a JSON object is expected.")
    if route == "chat/completions":
        return chat(profile, doc, request_id, now_s)
    if route == "completions":
        return completions(profile, doc, request_id, now_s)
    if route == "embeddings":
        return embeddings(profile, doc)
    return moderations(profile, doc, request_id)


def _refused(exc: ClientError, profile: Profile) -> Answer:
    body = error_body(exc.message, "invalid_request_error", exc.param, exc.code)
    headers = [("content-type", "application/json"), SIMULATED]
    return Answer(exc.status, headers, min(profile.latency_ms / 1000, 0.01), body=body)


def _failure(profile: Profile, dice: Dice) -> Answer:
    status, kind, code, text = _FAILURES[int(dice.unit("which") * len(_FAILURES))]
    headers = [("content-type", "application/json"), SIMULATED]
    if status != 500:
        headers.append(("retry-after", "1"))
    return Answer(status, headers, 0.0, body=error_body(text.format(profile.name), kind, None, code))


class Reply:
    """An answer that is being read: the same five things that the HTTP client's response offers."""

    __slots__ = ("_left", "_sleep", "_total_s", "headers", "status")

    def __init__(self, answer: Answer, sleep: Callable[[float], Awaitable[None]], total_s: float) -> None:
        self.status = answer.status
        self.headers = [(name.encode(), value.encode()) for name, value in answer.headers]
        self._left = deque(answer.chunks if answer.body is None else [(0.0, answer.body)])
        self._sleep = sleep
        self._total_s = total_s

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    async def chunk(self, idle_s: float) -> bytes:
        """The next chunk at its time; `b""` at the end. Delays under 1 ms are saved up.

        Raises `UpstreamTimeout` when the simulated pace breaks the idle or the total deadline.
        """
        owed_s, data = 0.0, b""
        while self._left and not (data and owed_s + self._left[0][0] >= _TICK_S):
            delay_s, piece = self._left.popleft()
            owed_s += delay_s
            data += piece
        self._total_s -= await _waited(self._sleep, owed_s, [("idle", idle_s), ("total", self._total_s)])
        return data

    def unread(self) -> bytes:
        """Nothing: it makes no chunk before its time."""
        return b""

    async def read(self, limit: int) -> bytes:
        """The whole body; raises `UpstreamBroken` over `limit` bytes, `UpstreamTimeout` at the total deadline."""
        body = b""
        while data := await self.chunk(math.inf):
            body += data
            if len(body) > limit:
                raise UpstreamBroken(f"The upstream's answer is over {limit >> 20} MiB.")
        return body

    def close(self) -> None:
        """Ends the reading; what is left is never generated."""
        self._left.clear()


async def _waited(
    sleep: Callable[[float], Awaitable[None]], delay_s: float, deadlines: list[tuple[str, float]]
) -> float:
    """Sleeps `delay_s` and returns it; sleeps only until the earliest deadline and raises if that comes first."""
    phase, left_s = min(deadlines, key=lambda deadline: deadline[1])
    if delay_s > left_s:
        await sleep(max(left_s, 0.0))
        raise UpstreamTimeout(f"The upstream did not answer in time ({phase} deadline).", phase=phase)
    if delay_s > 0:
        await sleep(delay_s)
    return delay_s


class Sandbox:
    """Plays the answers of simulated models in time. Counts its calls, so that failures vary between retries."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._calls = 0

    async def send(
        self,
        profile: Profile,
        path: str,
        doc: dict[str, Any] | None,
        raw: bytes,
        *,
        head_s: float = math.inf,
        total_s: float = math.inf,
    ) -> Reply:
        """The reply, after the model's time to the first token; arguments as in `respond`.

        Raises `UpstreamTimeout` (phase `first_token` or `total`) when that time is over a deadline, in seconds.
        """
        self._calls += 1
        answer = respond(profile, path, doc, raw, int(self._clock.wall()), self._calls)
        deadlines = [("first_token", head_s), ("total", total_s)]
        spent_s = await _waited(self._sleep, answer.first_delay_s, deadlines)
        return Reply(answer, self._sleep, total_s - spent_s)
