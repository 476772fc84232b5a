"""The upstream client against a real server on a socket, faults and all."""

import asyncio
import time

import pytest

from gateway.core.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from gateway.dispatch.client import HIGH_WATER, HttpClient
from tests.support import faults
from tests.support.answers import Shape
from tests.support.upstream import Upstream, refused_url, silent_url

BODY = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true}'


@pytest.fixture
async def upstream():
    async with Upstream() as server:
        yield server


@pytest.fixture
async def client():
    made = HttpClient()
    yield made
    made.close()


def request(body: bytes = BODY, method: bytes = b"POST") -> bytes:
    return method + b" /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def send(client, url, body=BODY, *, connect_s=1.0, head_s=2.0, total_s=5.0, **more):
    return await client.send(
        client.origin(url), request(body), connect_s=connect_s, head_s=head_s, total_s=total_s, **more
    )


async def read_stream(response, idle_s=1.0):
    parts = []
    while data := await response.chunk(idle_s):
        parts.append(data)
    return b"".join(parts)


async def test_a_connection_is_used_again(client, upstream):
    for _ in range(5):
        response = await send(client, upstream.url)
        assert response.status == 200
        await response.read(1 << 20)
    assert upstream.connections == 1


async def test_concurrent_calls_have_a_connection_each_and_all_are_kept(client, upstream):
    upstream.default = faults.ok(Shape(first_delay_s=0.05))
    for _ in range(2):
        responses = await asyncio.gather(*[send(client, upstream.url) for _ in range(8)])
        for response in responses:
            await response.read(1 << 20)
    assert upstream.connections == 8


async def test_a_connection_that_was_closed_while_idle_is_replaced_unseen(client, upstream):
    await (await send(client, upstream.url)).read(1 << 20)
    await upstream.drop_idle()
    assert (await send(client, upstream.url)).status == 200


async def test_a_connection_that_closes_at_its_reuse_is_tried_once_more(client, upstream):
    upstream.script("*", [faults.stale])
    await (await send(client, upstream.url)).read(1 << 20)
    response = await send(client, upstream.url)
    assert response.status == 200
    await response.read(1 << 20)


async def test_a_fresh_connection_that_closes_is_not_tried_again(client, upstream):
    upstream.default = faults.hang_up
    with pytest.raises(UpstreamUnreachable):
        await send(client, upstream.url)
    assert upstream.count() == 1


async def test_a_stream_arrives_as_it_is_sent(client, upstream):
    response = await send(client, upstream.url, STREAM)
    assert (await read_stream(response)).endswith(b"data: [DONE]\n\n")
    await send(client, upstream.url)
    assert upstream.connections == 1


async def test_leaving_a_stream_ends_the_upstreams_work(client, upstream):
    upstream.default = faults.endless(0.001)
    response = await send(client, upstream.url, STREAM)
    await response.chunk(1.0)
    response.close()
    await asyncio.wait_for(upstream.requests[0].aborted.wait(), 1)


async def test_cancelling_a_call_ends_the_upstreams_work(client, upstream):
    upstream.default = faults.stall()
    task = asyncio.create_task(send(client, upstream.url))
    seen = await upstream.received(1)
    task.cancel()
    await asyncio.wait_for(seen.aborted.wait(), 1)


async def test_closing_twice_does_not_touch_the_next_exchange(client, upstream):
    first = await send(client, upstream.url)
    await first.read(1 << 20)
    second = await send(client, upstream.url, STREAM)
    first.close()
    assert (await read_stream(second)).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("behaviour", "limits", "phase"),
    [
        (faults.stall(), {"head_s": 0.1}, "first_token"),
        (faults.stall(), {"total_s": 0.1}, "total"),
    ],
    ids=["head", "total"],
)
async def test_a_silent_upstream_meets_its_deadline(client, upstream, behaviour, limits, phase):
    upstream.default = behaviour
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout) as late:
        await send(client, upstream.url, STREAM, **limits)
    assert late.value.phase == phase
    assert time.monotonic() - started < 1


async def test_a_stalled_stream_meets_the_idle_deadline_and_is_aborted(client, upstream):
    upstream.default = faults.stall(2)
    response = await send(client, upstream.url, STREAM)
    with pytest.raises(UpstreamTimeout) as late:
        await read_stream(response, idle_s=0.1)
    assert late.value.phase == "idle"
    await asyncio.wait_for(upstream.requests[0].aborted.wait(), 1)


async def test_a_slow_stream_is_not_a_stalled_one(client, upstream):
    upstream.default = faults.ok(Shape(chunks=6, delay_s=0.05))
    response = await send(client, upstream.url, STREAM)
    assert (await read_stream(response, idle_s=0.2)).endswith(b"data: [DONE]\n\n")


async def test_an_endless_stream_meets_the_total_deadline(client, upstream):
    upstream.default = faults.endless(0.01)
    response = await send(client, upstream.url, STREAM, total_s=0.3)
    with pytest.raises(UpstreamTimeout) as late:
        await read_stream(response)
    assert late.value.phase == "total"


async def test_nobody_listening_is_unreachable(client):
    with refused_url() as url, pytest.raises(UpstreamUnreachable):
        await send(client, url)


async def test_a_connect_that_never_ends_meets_its_deadline(client):
    with silent_url() as url, pytest.raises(UpstreamTimeout):
        await send(client, url, connect_s=0.2, head_s=0.2, total_s=0.5)


@pytest.mark.parametrize("behaviour", [faults.short_length, faults.no_last_chunk], ids=["length", "chunked"])
async def test_a_cut_body_is_broken(client, upstream, behaviour):
    upstream.default = behaviour
    response = await send(client, upstream.url)
    with pytest.raises(UpstreamBroken):
        await response.read(1 << 20)


async def test_an_answer_over_the_limit_is_broken(client, upstream):
    response = await send(client, upstream.url)
    with pytest.raises(UpstreamBroken):
        await response.read(10)


async def test_a_compressed_answer_is_undone(client, upstream):
    upstream.default = faults.gzipped
    assert (await (await send(client, upstream.url)).read(1 << 20)).startswith(b"{")


async def test_interim_answers_are_passed_over(client, upstream):
    upstream.default = faults.interim(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    response = await send(client, upstream.url)
    assert response.status == 200
    assert response.header(b"link") is None


async def test_a_slow_reader_stops_the_reading(client, upstream):
    upstream.default = faults.endless()
    response = await send(client, upstream.url, STREAM)
    await response.chunk(1.0)
    sent, before = -1, upstream.requests[0].sent
    while sent != before:  # until the upstream can send no more: the socket buffers and ours are full
        sent, before = before, upstream.requests[0].sent
        await asyncio.sleep(0.1)
    assert len(await response.chunk(1.0)) < 4 * HIGH_WATER
    response.close()
