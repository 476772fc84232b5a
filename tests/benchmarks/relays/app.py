"""The smallest relay there is, as an ASGI application: what a server and an upstream client cost by themselves.

$RELAY_UPSTREAM is the upstream's URL, $RELAY_CLIENT one of farthing, pyreqwest, aiohttp, httpx.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

UPSTREAM = os.environ["RELAY_UPSTREAM"]
URL = f"{UPSTREAM}/v1/chat/completions"
CLIENT = os.environ["RELAY_CLIENT"]
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: upstream\r\ncontent-type: application/json\r\ncontent-length: "
made: dict[str, Any] = {}


async def farthing(body: bytes) -> AsyncIterator[bytes]:
    from gateway.dispatch.client import HttpClient

    client = made.setdefault("client", HttpClient())
    request = b"%b%d\r\n\r\n%b" % (HEAD, len(body), body)
    response = await client.send(client.origin(UPSTREAM), request, connect_s=2, head_s=60, total_s=600)
    while chunk := await response.chunk(10):
        yield chunk


async def pyreqwest(body: bytes) -> AsyncIterator[bytes]:
    from pyreqwest.client import ClientBuilder

    client = made.get("client") or made.setdefault("client", ClientBuilder().build())
    async with (
        client.post(URL).header("content-type", "application/json").body_bytes(body).build_streamed() as response
    ):
        while (chunk := await response.body_reader.read_chunk()) is not None:
            yield bytes(chunk)


async def aiohttp(body: bytes) -> AsyncIterator[bytes]:
    import aiohttp as library

    client = made.get("client") or made.setdefault("client", library.ClientSession())
    async with client.post(URL, data=body, headers={"content-type": "application/json"}) as response:
        async for chunk in response.content.iter_any():
            yield chunk


async def httpx(body: bytes) -> AsyncIterator[bytes]:
    import httpx as library

    client = made.get("client") or made.setdefault(
        "client", library.AsyncClient(timeout=None, limits=library.Limits(max_keepalive_connections=None))
    )
    async with client.stream("POST", URL, content=body, headers={"content-type": "application/json"}) as response:
        async for chunk in response.aiter_raw():
            yield chunk


relay = {"farthing": farthing, "pyreqwest": pyreqwest, "aiohttp": aiohttp, "httpx": httpx}[CLIENT]


@asgi("/v1/chat/completions")
async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    stream = b'"stream":true' in body
    chunks = relay(body)
    if not stream:
        whole = b"".join([chunk async for chunk in chunks])
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(whole))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": whole, "more_body": False})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


app = Litestar([chat], openapi_config=None, logging_config=None)
