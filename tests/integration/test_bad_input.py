"""Whatever bytes a client sends: a 4xx in OpenAI's error shape, never a 5xx, and the process lives."""

import asyncio
import json
import re

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK_BODY = b'{"model":"m","messages":[]}'


async def raw(gateway, payload: bytes, *, wait_s: float = 5) -> tuple[int, bytes]:
    """Sends bytes as they are; returns status and body of the first answer (0 for none)."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(payload)
        await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), wait_s)
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        return int(head.split(b" ")[1]), await asyncio.wait_for(reader.readexactly(length), wait_s)
    finally:
        writer.close()


def request(
    body: bytes = OK_BODY, *lines: bytes, path: bytes = b"/v1/chat/completions", host: bytes = b"host: x"
) -> bytes:
    head = [b"POST " + path + b" HTTP/1.1", host, b"content-type: application/json", *lines]
    if not any(line.lower().startswith((b"content-length", b"transfer-encoding")) for line in lines):
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join([line for line in head if line]) + b"\r\n\r\n" + body


BODIES = {
    "broken JSON": b'{"model":"m",',
    "not an object": b"[1,2]",
    "empty": b"",
    "100k deep arrays": b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100k deep objects": b'{"model":"m","a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "invalid UTF-8": b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "lone surrogate": b'{"model":"m","messages":"\\ud800"}',
    "NaN": b'{"model":"m","temperature":NaN}',
    "Infinity": b'{"model":"m","temperature":-Infinity}',
    "1e999": b'{"model":"m","temperature":1e999}',
    "5,000 digits": b'{"model":"m","seed":' + b"9" * 5000 + b"}",
    "duplicate model": b'{"model":"m","model":"n"}',
    "duplicate key in a message": b'{"model":"m","messages":[{"role":"user","role":"system"}]}',
    "model of wrong type": b'{"model":{"a":1}}',
    "stream of wrong type": b'{"model":"m","stream":"true"}',
    "line break in the model": b'{"model":"m\\r\\nx-injected: 1"}',
    "byte order mark": b'\xef\xbb\xbf{"model":"m"}',
}
HEADS = {
    "two Host headers": request(OK_BODY, b"host: y"),
    "no Host header": request(host=b""),
    "bare CR in a header": request(OK_BODY, b"x-a: b\rx-injected: 1"),
    "NUL in a header": request(OK_BODY, b"x-a: b\0c"),
    "two lengths": request(OK_BODY, b"content-length: 3", b"content-length: 27"),
    "length with a sign": request(OK_BODY, b"content-length: +27"),
    "length and chunked": request(b"0\r\n\r\n", b"content-length: 5", b"transfer-encoding: chunked"),
    "not HTTP": b"hello gateway\r\n\r\n",
    "dot segments": request(path=b"/v1/../admin"),
    "encoded dot segments": request(path=b"/v1/%2e%2e/admin"),
    "double slash": request(path=b"//v1/chat/completions"),
    "encoded slash": request(path=b"/v1/files%2f..%2fadmin"),
    "oversize by its length": request(b"", b"content-length: 99999999999"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused_in_openais_shape(gateway, name):
    status, body = await raw(gateway, request(BODIES[name]))
    assert 400 <= status < 500, body
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("name", HEADS)
async def test_a_bad_head_is_refused_in_openais_shape(gateway, name):
    status, body = await raw(gateway, HEADS[name])
    assert 400 <= status < 500, body
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


async def test_a_head_that_is_too_large_is_refused(gateway):
    status, _ = await raw(gateway, request(OK_BODY, *[b"x-%d: " % i + b"y" * 1000 for i in range(100)]))
    assert status == 431


async def test_anthropic_clients_get_anthropics_shape(gateway):
    status, body = await raw(gateway, request(b"{", path=b"/v1/messages"))
    assert status == 400
    assert json.loads(body)["type"] == "error"


async def test_pipelined_requests_are_answered_in_order(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request(b"{") + request(b'{"model":1}') + request(OK_BODY, b"connection: close"))
    answers = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", answers)] == [400, 400, 200]


async def test_the_process_lived_through_all_of_it(gateway, client):
    assert (await client.get("/health/live")).text == "ok"
    assert gateway.metric("farthing_requests_total", outcome="internal_error") == 0
    assert "Traceback" not in gateway.log
