"""What a stream that its caller leaves is charged: all that had arrived, whether or not the caller saw it."""

import asyncio
import contextlib
import json
import time

import pytest

from gateway.core.exchange import Exchange, Target
from gateway.dispatch.attempt import Running
from gateway.dispatch.breaker import Breaker
from gateway.dispatch.client import HttpClient
from gateway.dispatch.codec import codec_for
from gateway.dispatch.relay import relay
from tests.support.calls import chat

WORDS = [f"word {number:03d} of the answer " for number in range(40)]
USAGE = {"prompt_tokens": 7, "completion_tokens": 300, "total_tokens": 307}


def event(**doc) -> bytes:
    data = (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **doc}).encode() + b"\n\n"
    )
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(word: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])


@contextlib.asynccontextmanager
async def streaming(rest: bytes):
    """A stream whose first word has been read and whose `rest` has arrived unread: its relay and its exchange."""
    more, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(said(WORDS[0]))
        await more.wait()
        writer.write(rest)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = HttpClient()
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    response = await client.send(client.origin(url), request, connect_s=1, head_s=2, total_s=10)
    call, target = chat("hello", stream=True), Target("t", "openai_compatible", base_url=url)
    exchange, breaker = Exchange("0" * 32, call, 0.0, 0.0), Breaker(lambda: 0.0)
    permit = breaker.try_acquire(0.0)
    assert permit is not None
    run = Running(exchange, target, None, breaker, permit, lambda *_: 1, 0.0)
    codec = codec_for(call, target).stream(call, target, 0)
    first = codec.feed(await response.chunk(1.0))
    sent = relay(exchange, run, response, codec, first, time.monotonic)
    assert await anext(sent) == first
    more.set()
    deadline = time.monotonic() + 5
    while response._conn.buffered < len(rest) - 600:  # all but its framing
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    yield sent, exchange
    client.close()
    await ended.wait()
    server.close()
    await server.wait_closed()


async def test_what_arrived_before_the_caller_left_is_charged_though_unread():
    async with streaming(b"".join(map(said, WORDS[1:]))) as (sent, exchange):
        await sent.aclose()
        (attempt,) = exchange.attempts
        assert attempt.error == "client_disconnect"
        assert attempt.usage.source == "estimated"
        assert attempt.usage.output == pytest.approx(sum(map(len, WORDS)) / 4, abs=1)


async def test_the_usage_that_had_arrived_is_what_is_charged():
    async with streaming(b"".join(map(said, WORDS[1:])) + event(choices=[], usage=USAGE)) as (sent, exchange):
        await sent.aclose()
        assert exchange.attempts[0].usage.output == 300
        assert exchange.attempts[0].usage.source == "reported"


async def test_what_cannot_be_read_any_more_keeps_nothing_from_being_charged():
    async with streaming(b"".join(map(said, WORDS[1:])) + b"9\r\ndata: {{{\r\n" + b"zz not a chunk\r\n") as (
        sent,
        exchange,
    ):
        await sent.aclose()
        assert exchange.attempts[0].usage.output > 200
