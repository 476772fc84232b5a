"""Callers: they ask, they read to the end or leave at a chosen point, and each answer is written down as it was seen."""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from tests.suites.crash.signing import Ask

READ_LIMIT_S = 60.0
RETRY_S = 0.03
_COST = re.compile(rb": x-farthing-cost-usd=(\S+) ")

End = Literal[
    "whole",  # everything arrived: a JSON body, or a stream with [DONE]
    "error frame",  # a stream that said itself that it is broken
    "cut",  # the connection ended before the answer did, and HTTP shows it
    "silent cut",  # HTTP says that the answer is complete, and [DONE] is missing
    "left",  # the caller went away
    "no head",  # the connection ended before an answer
]


@dataclass
class Answer:
    """What one caller saw. `told_micro` is the cost that it was told."""

    ask: Ask
    stream: bool
    leave_after: int | None = None
    status: int | None = None
    request_id: str | None = None
    end: End = "no head"
    text: str = ""
    chunks: int = 0
    told_micro: int | None = None
    error: str | None = None
    message: str | None = None
    sent_s: float = 0.0
    took_s: float = 0.0


@dataclass
class Wish:
    """What a caller does next: it reads to the end, or leaves after so many chunks of a stream, or after a time.

    `leave_after` 0 and `leave_s` read nothing at all, not even the head.
    """

    ask: Ask
    stream: bool
    max_tokens: int
    leave_after: int | None = None
    leave_s: float | None = None


class Caller:
    """One caller with a connection that it keeps as long as it can."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.current: Answer | None = None
        """What is being read, or was last."""

    async def ask(self, wish: Wish) -> Answer:
        """Raises `ConnectionError` only when there is nobody to connect to."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        answer = Answer(wish.ask, wish.stream, wish.leave_after, sent_s=time.time())
        self.current = answer
        began = time.monotonic()
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                await self._exchange(wish, answer)
        except (OSError, EOFError, ValueError):
            answer.end = "no head" if answer.status is None else "cut"
        answer.took_s = time.monotonic() - began
        if answer.end != "whole":
            await self.close()
        return answer

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._reader = self._writer = None

    async def _exchange(self, wish: Wish, answer: Answer) -> None:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(_request(self._key, wish))
        await self._writer.drain()
        if wish.leave_s is not None or wish.leave_after == 0:
            await asyncio.sleep(wish.ask.first_ms / 2000 if wish.leave_s is None else wish.leave_s)
            answer.end = "left"
            return
        headers = await self._head(answer)
        if headers.get("transfer-encoding") == "chunked":
            await self._stream(wish, answer)
        else:
            self._whole(answer, await self._reader.readexactly(int(headers["content-length"])))
        if headers.get("connection") == "close":
            await self.close()

    async def _head(self, answer: Answer) -> dict[str, str]:
        assert self._reader is not None
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer.status = int(lines[0].split(" ")[1])
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        answer.request_id = headers.get("x-farthing-request-id")
        if "x-farthing-cost-usd" in headers:
            answer.told_micro = _micro(headers["x-farthing-cost-usd"])
        return headers

    def _whole(self, answer: Answer, body: bytes) -> None:
        doc = json.loads(body)
        answer.end = "whole"
        if "error" in doc:
            answer.error = doc["error"]["code"]
            answer.message = doc["error"]["message"]
        else:
            answer.text = doc["choices"][0]["message"]["content"]

    async def _stream(self, wish: Wish, answer: Answer) -> None:
        assert self._reader is not None
        done = False
        rest = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            rest += (await self._reader.readexactly(size + 2))[:-2]
            *events, rest = rest.split(b"\n\n")
            for event in events:
                done = _event(answer, event) or done
                if wish.leave_after is not None and answer.chunks >= wish.leave_after:
                    answer.end = "left"
                    return
        await self._reader.readexactly(2)
        answer.end = "silent cut" if not done else "error frame" if answer.error else "whole"


def _event(answer: Answer, event: bytes) -> bool:
    """Notes one event; whether it was the last."""
    if told := _COST.match(event):
        answer.told_micro = _micro(told[1].decode())
    if not event.startswith(b"data: "):
        return False
    if event == b"data: [DONE]":
        return True
    doc = json.loads(event[6:])
    if "error" in doc:
        answer.error = doc["error"].get("code") or "error"
        return False
    for choice in doc["choices"]:
        if content := choice["delta"].get("content"):
            answer.text += content
            answer.chunks += 1
    return False


def _micro(usd: str) -> int | None:
    return None if usd in ("unknown", "None", "") else int(Decimal(usd) * 1_000_000)


def _request(key: str, wish: Wish) -> bytes:
    """The number of tokens takes nine places, so that it does not change the length of the body."""
    messages = json.dumps([{"role": "user", "content": wish.ask.prompt()}])
    more = ',"stream":true' if wish.stream else ""
    body = f'{{"model":"signed","messages":{messages},"max_tokens":{wish.max_tokens:9d}{more}}}'.encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Load:
    """`callers` callers at once until `stop`; each goes on over restarts of its gateway."""

    ports: list[int]
    keys: dict[str, str]
    seed: int
    wish: Callable[[random.Random, str], Wish]
    answers: list[Answer] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, callers: int) -> None:
        tenants = list(self.keys)
        for number in range(callers):
            tenant = tenants[number % len(tenants)]
            self._tasks.append(asyncio.create_task(self._call(number, tenant)))

    async def stop(self) -> list[Answer]:
        """Every caller ends its request first."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self.answers

    async def _call(self, number: int, tenant: str) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        caller = Caller(self.ports[number // len(self.keys) % len(self.ports)], self.keys[tenant])
        try:
            while not self._stopping.is_set():
                try:
                    answer = await caller.ask(self.wish(rng, tenant))
                except OSError:
                    await self._pause()
                    continue
                self.answers.append(answer)
                if answer.status is not None and answer.status >= 400:
                    await self._pause()
        finally:
            await caller.close()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._stopping.wait()


def mixed(rng: random.Random, tenant: str) -> Wish:
    """Half JSON, half streams; every fifth caller leaves before the end."""
    words = rng.randint(2, 24)
    ask = Ask(tenant, f"{rng.getrandbits(64):016x}", words, rng.randint(0, 15), rng.randint(0, 4))
    stream = rng.random() < 0.5
    leave_after = leave_s = None
    if rng.random() < 0.2:
        if stream:
            leave_after = rng.randint(0, words)
        else:
            leave_s = rng.random() * (ask.first_ms + words * ask.pace_ms) / 1000
    return Wish(ask, stream, words + rng.randint(0, 40), leave_after, leave_s)


def as_json(answer: Answer) -> dict[str, Any]:
    """For the file that a failed run leaves behind."""
    return {**answer.__dict__, "ask": answer.ask._asdict()}
