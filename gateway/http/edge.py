"""The API's edge: raw ASGI in, one `Exchange` through the pipeline, the reply out, one record at the end.

It decides what a URL means and how an error looks; it knows nothing of targets, prices or providers. Whatever
happens to a request, also when its caller leaves or a stage has a defect, it is finished exactly once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from litestar.types import HTTPScope, Receive

from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InternalError, UpstreamError
from gateway.core.exchange import Call, Dialect, Exchange, Next, Reply
from gateway.core.ids import uuid7
from gateway.http import guard
from gateway.http.answers import JSON, error_reply, gateway_headers
from gateway.http.server import Writer
from gateway.protocol import openai

log = logging.getLogger("farthing.http")


class Limits(msgspec.Struct, frozen=True):
    """`max_body_bytes` of a request; `body_idle_s`, the longest silence while it arrives."""

    max_body_bytes: int = 64 << 20
    body_idle_s: float = 15.0


class Edge:
    """The ASGI application for all API paths."""

    def __init__(
        self,
        pipeline: Next,
        *,
        list_models: Callable[[dict[bytes, bytes]], list[str]],
        finish: Callable[[Exchange, float], None],
        clock: Clock,
        getrandbits: Callable[[int], int],
        limits: Limits,
    ) -> None:
        self._pipeline = pipeline
        self._list_models = list_models
        self._finish = finish
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._bits = getrandbits
        self._limits = limits
        self.in_flight = 0

    async def __call__(self, scope: HTTPScope, receive: Receive) -> None:
        """One HTTP request, on a connection of `GuardedProtocol`."""
        started = self._monotonic()
        exchange = Exchange(uuid7(wall := self._wall(), self._bits), _unparsed(scope), started, wall)
        writer: Writer = scope.pop("farthing.writer")  # type: ignore[typeddict-item]
        task = asyncio.current_task(writer.connection.loop)
        gone = writer.connection.on_lost = _Gone(task, exchange)
        self.in_flight += 1
        try:
            reply = await self._answer(exchange, scope, receive, arrived=writer.body_arrived)
            await self._send(exchange, reply, writer)
        except asyncio.CancelledError:
            _left(exchange)
            if not gone.lost:
                raise
            assert task is not None
            task.uncancel()
        except guard.ClientGone:
            _left(exchange)
        finally:
            self.in_flight -= 1
            writer.connection.on_lost = None
            self._finish(exchange, self._monotonic())

    async def _answer(self, exchange: Exchange, scope: HTTPScope, receive: Receive, *, arrived: bool) -> Reply:
        try:
            exchange.call = await self._read(scope, receive, arrived=arrived)
            own = self._models(exchange) if exchange.call.path.startswith("/v1/models") else None
            return own or await self._pipeline(exchange)
        except GatewayError as error:
            if exchange.outcome != "upstream_error":  # said by dispatch, where no target was ready
                exchange.outcome = "upstream_error" if isinstance(error, UpstreamError) else "client_error"
            exchange.error = error.code or error.type
            return error_reply(error, exchange.call.dialect)
        except guard.ClientGone:
            raise
        except Exception:
            log.exception("request %s failed inside the gateway", exchange.id)
            exchange.outcome = "internal_error"
            exchange.error = "internal_error"
            ours = InternalError(f"The gateway failed on this request; its log has the details ({exchange.id}).")
            return error_reply(ours, exchange.call.dialect)

    async def _read(self, scope: HTTPScope, receive: Receive, *, arrived: bool) -> Call:
        headers = list(scope["headers"])
        index = guard.index_headers(headers)
        method = scope["method"]
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        path = guard.api_path(raw_path)
        limits = self._limits
        body = await guard.read_body(receive, index, limits.max_body_bytes, limits.body_idle_s, arrived=arrived)
        endpoint = openai.ENDPOINTS.get(path)
        query = scope["query_string"]
        if endpoint is not None and method == "POST":
            return openai.parse_call(endpoint, method, path, query, headers, index, body)
        return openai.parse_other(method, path, query, headers, index, body)

    def _models(self, exchange: Exchange) -> Reply | None:
        """The models that the caller may ask for by name; `None` for one that only its upstream can describe."""
        call = exchange.call
        wanted = call.path.removeprefix("/v1/models").removeprefix("/")
        if call.method not in ("GET", "HEAD"):
            return None
        names = self._list_models(call.index)
        created = int(exchange.started_wall)
        rows = [{"id": name, "object": "model", "created": created, "owned_by": "farthing"} for name in names]
        if not wanted:
            return Reply(200, [JSON], msgspec.json.encode({"object": "list", "data": rows}))
        return Reply(200, [JSON], msgspec.json.encode(rows[names.index(wanted)])) if wanted in names else None

    async def _send(self, exchange: Exchange, reply: Reply, writer: Writer) -> None:
        exchange.status = reply.status
        exchange.ttft_s = self._monotonic() - exchange.started
        headers, ours = reply.headers, gateway_headers(exchange)
        if exchange.limit_headers:  # the caller's limits are the gateway's, not those of the gateway's account
            headers = [pair for pair in headers if not pair[0].startswith(b"x-ratelimit-")]
        stream = reply.stream
        if stream is None:
            writer.respond(reply.status, headers, ours, reply.body, head_only=exchange.call.method == "HEAD")
            return
        try:
            writer.begin(reply.status, headers, ours, await anext(stream, b""))
            async for chunk in stream:
                await writer.write(chunk)
        except asyncio.CancelledError:
            raise
        except UpstreamError:
            writer.abort()  # a body without a format for errors: only a broken connection tells the truth
            return
        except Exception:
            log.exception("request %s failed inside the gateway while it was streamed", exchange.id)
            exchange.outcome = exchange.error = "internal_error"
            writer.abort()
            return
        finally:
            await stream.aclose()
        writer.end()


class _Gone:
    """What a lost connection calls: remembers it and cancels the request's task, unless others wait for its answer."""

    __slots__ = ("exchange", "lost", "task")

    def __init__(self, task: "asyncio.Task[Any] | None", exchange: Exchange) -> None:
        self.task = task
        self.exchange = exchange
        self.lost = False

    def __call__(self) -> None:
        self.lost = True
        shared = self.exchange.shared
        if self.task is not None and (shared is None or not shared()):
            self.task.cancel()


def _left(exchange: Exchange) -> None:
    if exchange.outcome is None:
        exchange.outcome = "client_disconnect"
        exchange.error = "client_disconnect"
    exchange.status = exchange.status or 499


def _unparsed(scope: HTTPScope) -> Call:
    """What is known of a request before it is read; errors until then are answered by it."""
    path = scope["path"]
    dialect: Dialect = "anthropic" if path.startswith(("/v1/messages", "/messages")) else "openai"
    return Call("other", dialect, scope["method"], path[:256], b"", [], b"")
