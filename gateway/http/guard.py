"""What a request must look like before anything of it is believed: one Host, one normal path, a bounded body.

Pure but for `read_body`. Decisions are taken on the raw path as it came, never on a URL rebuilt from headers.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.core.errors import BadRequest, ClientError, NotFound, TooLarge
from gateway.protocol.openai import ENDPOINTS

Receive = Callable[[], Awaitable[Any]]
Headers = list[tuple[bytes, bytes]]

_NORMAL_PATH = re.compile(rb"(/[A-Za-z0-9_.:@~!$&'()*+,;=-]+(%20)?)+")
_OPENAI_ROOTS = frozenset(
    b"assistants audio batches chat completions containers conversations embeddings evals files fine_tuning "
    b"images messages models moderations organization realtime rerank responses score threads uploads "
    b"vector_stores videos".split()
)

_COMMON = {path.encode(): path for path in ENDPOINTS}


class ClientGone(Exception):
    """The caller closed the connection while it was still sending."""


class BodyTimeout(ClientError):
    """408: the body stopped arriving."""

    status = 408
    code = "request_timeout"


def index_headers(headers: Headers) -> dict[bytes, bytes]:
    """The headers by name; raises `BadRequest` unless there is exactly one Host header.

    Control characters in values were refused by the HTTP parser.
    """
    index = dict(headers)
    if b"host" not in index or (len(index) != len(headers) and sum([name == b"host" for name, _ in headers]) != 1):
        raise BadRequest("A request must have exactly one Host header.", code="invalid_host")
    return index


def api_path(raw_path: bytes) -> str:
    """The path with its `/v1` prefix (added to bare OpenAI paths); raises `NotFound` for all others."""
    known = _COMMON.get(raw_path)
    if known is not None:
        return known
    path = raw_path.rstrip(b"/") if len(raw_path) > 1 else raw_path
    segments = path.split(b"/")
    if _NORMAL_PATH.fullmatch(path) and not any(s in (b".", b"..") for s in segments):
        if segments[1] == b"v1" and len(segments) > 2:
            return path.decode("ascii")
        if segments[1] in _OPENAI_ROOTS:
            return "/v1" + path.decode("ascii")
    raise NotFound(f"Unknown request URL: {raw_path[:200].decode('ascii', 'replace')}.", code="unknown_url")


async def read_body(
    receive: Receive, index: Mapping[bytes, bytes], limit: int, idle_s: float, *, arrived: bool
) -> bytes:
    """The whole body; raises `TooLarge`, `BodyTimeout` after `idle_s` without a byte, or `ClientGone`.

    `arrived` says that the server holds the whole body already, so that no deadline need be set.
    """
    if not arrived and int(index.get(b"content-length", b"0")) > limit:
        raise _too_large(limit)
    message = await (receive() if arrived else _next_message(receive, idle_s))
    body: bytes = message["body"]
    if not message["more_body"]:
        if len(body) > limit:
            raise _too_large(limit)
        return body
    whole = bytearray(body)
    while message["more_body"]:
        message = await _next_message(receive, idle_s)
        whole += message["body"]
        if len(whole) > limit:
            raise _too_large(limit)
    return bytes(whole)


async def _next_message(receive: Receive, idle_s: float) -> Any:
    try:
        async with asyncio.timeout(idle_s):
            message = await receive()
    except TimeoutError:
        raise BodyTimeout("The request's body did not arrive in time.") from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is over {limit >> 20} MiB; the operator can raise FARTHING_MAX_BODY_MIB.")
