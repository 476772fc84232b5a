"""The way to Redis: scripts by their digest, a short deadline, no retries, and a fuse. Knows nothing of budgets.

Calls of one turn of the event loop, and those that come while the few connections are busy, travel together in the next
pipeline: a burst opens no connections. Each lane keeps its connection, and hiredis packs: redis-py's pipeline, pool and
packer would take most of a call's time (docs/decisions/008-redis-path.md).
A server that does not answer costs one deadline per second for everybody together: after five failures in a row calls
fail at once, and one call a second tries again.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

SCRIPTS = ("reserve", "extend", "finish", "adopt", "open", "beat", "policy", "left")
FAILURES_IN_A_ROW = 5
BLOWN_S = 1.0
LANES = 4
"""Connections, and pipelines under way at once."""
TOGETHER = 64
_Command = tuple[str | int, ...]
_AHEAD_MOST_MS = 4e12
"""Before the first answer: Unix time in milliseconds, until 2096, against a monotonic clock that begins at 0."""


class Away(Exception):
    """Redis did not answer. `sent`: the call may have reached it all the same."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Fuse:
    """Blows after `FAILURES_IN_A_ROW`; then admits one call per `BLOWN_S`, until one works. Time is an argument."""

    def __init__(self) -> None:
        self._failures = 0
        self._retry_at = 0.0

    def admits(self, now: float) -> bool:
        """Whether a call may be made; True takes the one place of this second."""
        if self._failures < FAILURES_IN_A_ROW:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + BLOWN_S
        return True

    def worked(self) -> None:
        """A call was answered."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """A call was not answered."""
        self._failures += 1
        self._retry_at = now + BLOWN_S


class _Call:
    __slots__ = ("answer", "args", "script", "sent")

    def __init__(self, script: str, args: Sequence[str | int], answer: asyncio.Future[list[Any]]) -> None:
        self.script = script
        self.args = args
        self.answer = answer
        self.sent = False


class Link:
    """Runs the scripts of `lua/` on the server at `url`, for keys that begin with `prefix`.

    `deadline_s`: how long the server may be silent.
    """

    def __init__(self, url: str, clock: Callable[[], float], prefix: str, deadline_s: float) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self.ahead_ms = (0.0, _AHEAD_MOST_MS)
        """The least and the most that Redis' clock is ahead of `clock`, by the last answer."""
        self._fuse = Fuse()
        self._waiting: deque[_Call] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._starting = False
        folder = files("gateway.access") / "lua"
        # Each prefix has scripts of its own, so that each learns by their absence that the server has started.
        common = f"-- {prefix}\n" + (folder / "common.lua").read_text()
        self._prefix = prefix
        self._key = f"{prefix}epoch"
        self._fresh = (folder / "fresh.lua").read_text()
        self._sources = {name: common + (folder / f"{name}.lua").read_text() for name in SCRIPTS}
        self._digests = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }
        # Only makes connections. The deadline is the pipeline's, so that no read or write has a timer of its own.
        self._pool = ConnectionPool.from_url(
            url, socket_timeout=None, retry=Retry(NoBackoff(), 0), protocol=2, decode_responses=True
        )
        self._idle: list[AbstractConnection] = []

    async def call(self, script: str, args: Sequence[str | int]) -> list[Any]:
        """The script's answer. Raises `Away` once Redis has been silent for the deadline.

        The deadline is each pipeline's, not each call's: a burst that takes longer is slow, but not an outage.
        """
        if not self._fuse.admits(self._clock()):
            raise Away("Redis did not answer a moment ago", sent=False)
        call = _Call(script, args, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._start_lane()
        return await call.answer

    async def aclose(self) -> None:
        """Closes all connections; calls under way are cancelled."""
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        self._lanes.clear()
        self._starting = False
        for call in self._waiting:
            call.answer.cancel()
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    def _start_lane(self) -> None:
        if not self._starting and len(self._lanes) < LANES:
            self._starting = True
            self._lanes.add(asyncio.create_task(self._lane()))

    async def _lane(self) -> None:
        self._starting = False
        connection: AbstractConnection
        connection = self._idle.pop() if self._idle else self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            while self._waiting:
                calls = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                if self._waiting:
                    self._start_lane()
                calls = [call for call in calls if not call.answer.done()]
                if not calls:
                    continue
                try:
                    async with asyncio.timeout(self._deadline_s):
                        await self._pool.ensure_connection(connection)
                        answers = await self._send(connection, calls)
                    for call, answer in zip(calls, answers, strict=True):
                        self._answer(call, TimeoutError("the script did not run") if _did_not_run(answer) else answer)
                except (RedisError, OSError, TimeoutError) as exc:
                    # Who waits behind would only find the same.
                    calls += self._waiting
                    self._waiting.clear()
                    for call in calls:
                        self._answer(call, exc)
                finally:
                    for call in calls:
                        call.answer.cancel()
        finally:
            self._idle.append(connection)
            # Not in a callback: a call that comes before that would find every lane taken, and none that serves it.
            self._lanes -= {asyncio.current_task()}

    def _answer(self, call: _Call, answer: list[Any] | Exception) -> None:
        if isinstance(answer, Exception):
            self._fuse.failed(self._clock())
            if not call.answer.done():
                away = Away(f"Redis did not answer: {answer or type(answer).__name__}", sent=call.sent)
                away.__cause__ = answer
                call.answer.set_exception(away)
        else:
            self._fuse.worked()
            if not call.answer.done():
                call.answer.set_result(answer)

    async def _send(self, connection: AbstractConnection, calls: Sequence[_Call]) -> list[Any]:
        """An answer or an exception for each; raises when nothing is known of any."""
        answers = await self._run(connection, calls)
        again = [place for place, answer in enumerate(answers) if _did_not_run(answer)]
        if again:
            if any(isinstance(answers[place], NoScriptError) for place in again):
                await self._load(connection)
            for place, answer in zip(again, await self._run(connection, [calls[at] for at in again]), strict=True):
                answers[place] = answer
        return answers

    async def _load(self, connection: AbstractConnection) -> None:
        for commands in (
            [("EVAL", self._fresh, 1, self._key, self._prefix)],
            [("SCRIPT", "LOAD", source) for source in self._sources.values()],
        ):
            for answer in await _exchange(connection, commands):
                if isinstance(answer, ResponseError):
                    raise answer

    async def _run(self, connection: AbstractConnection, calls: Sequence[_Call]) -> list[Any]:
        sent_ms = self._clock() * 1000
        latest = int(sent_ms + self.ahead_ms[1] + self._deadline_s * 1000) + 1
        commands: list[_Command] = []
        for call in calls:
            call.sent = True
            commands.append(("EVALSHA", self._digests[call.script], 1, self._key, self._prefix, *call.args, latest))
        answers = await _exchange(connection, commands)
        if isinstance(answers[0], list):
            # Redis read its clock between the two.
            self.ahead_ms = (answers[0][2] - self._clock() * 1000, answers[0][2] - sent_ms)
        return answers


async def _exchange(connection: AbstractConnection, commands: Sequence[_Command]) -> list[Any]:
    """An answer or the server's error for each. redis-py closes a connection that breaks or is left half-read."""
    packed = [pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub knows one argument only
    await connection.send_packed_command(b"".join(packed), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as exc:
            answers.append(exc)
    return answers


def _did_not_run(answer: list[Any] | Exception) -> bool:
    """The server was restarted and lost the scripts, or its clock stepped ahead of what was known of it."""
    return isinstance(answer, NoScriptError) or (isinstance(answer, list) and answer[0] == "late")
