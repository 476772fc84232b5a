"""A committed stream on its way to the caller: the bytes, the end or the error frame, the books.

Once a byte has been sent there is no failover. A cut, a stall or an upstream's error frame ends the stream with an
error frame in the caller's format and never with an invented finish reason. The cost follows as an SSE comment,
which every SSE parser skips, before the terminator.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable

import msgspec

from gateway.core.errors import UpstreamBroken, UpstreamError
from gateway.core.exchange import Exchange
from gateway.core.money import usd
from gateway.dispatch.attempt import Running
from gateway.dispatch.codec import StreamCodec, estimate
from gateway.dispatch.upstream import Response
from gateway.dispatch.verdict import classify, kind_of
from gateway.protocol.openai import DONE

DRAIN_S = 0.25
"""How long the end of a finished stream is waited for, so that its connection can be used again."""


async def relay(
    exchange: Exchange,
    run: Running,
    response: Response,
    codec: StreamCodec,
    first: bytes,
    monotonic: Callable[[], float],
) -> AsyncGenerator[bytes, None]:
    """The caller's bytes, `first` among them. Closing the generator early cancels the upstream call."""
    idle_s = run.target.deadlines.idle_s
    chunk, feed = response.chunk, codec.feed
    out = first
    try:
        while not codec.done and codec.error is None:
            if out:
                yield out
            data = await chunk(idle_s)
            if not data:
                out = codec.finish()
                break
            out = feed(data)
        if codec.error is not None:
            yield out + _broken(
                exchange, run, codec, UpstreamBroken("The upstream ended its answer with an error."), monotonic()
            )
        elif codec.truncated:
            cut = UpstreamBroken("The upstream closed the stream before its end.")
            yield out + _broken(exchange, run, codec, cut, monotonic())
        else:
            _finished(exchange, run, codec, monotonic())
            yield _stamped(out, exchange)
            with contextlib.suppress(UpstreamError):
                await chunk(DRAIN_S)
    except UpstreamError as error:
        if not run.closed:
            yield _broken(exchange, run, codec, error, monotonic())
    finally:
        if not run.closed:
            with contextlib.suppress(UpstreamError):
                feed(response.unread())  # generated and billed, though the caller left before it
        response.close()
        if not run.closed:
            _note(exchange, run, codec)
            run.abandoned(monotonic(), codec.usage or estimate(exchange.call, codec.chars))


async def passthrough(
    exchange: Exchange, run: Running, response: Response, monotonic: Callable[[], float]
) -> AsyncGenerator[bytes, None]:
    """A body that is not read (audio, files): its bytes as they come. A cut ends the connection, not the answer."""
    try:
        while data := await response.chunk(run.target.deadlines.total_s):
            yield data
        run.answered(monotonic(), None, exchange.model)
    except UpstreamError as error:
        run.failed(monotonic(), classify(None, kind_of(error)), error.code or error.kind)
        exchange.outcome = "truncated"
        exchange.error = error.code or error.kind
        raise
    finally:
        response.close()
        if not run.closed:
            run.abandoned(monotonic(), None)


def _note(exchange: Exchange, run: Running, codec: StreamCodec) -> None:
    exchange.model = codec.model or run.target.model or exchange.call.model or ""
    exchange.response_id = codec.id
    exchange.finish_reasons = codec.reasons


def _finished(exchange: Exchange, run: Running, codec: StreamCodec, now: float) -> None:
    _note(exchange, run, codec)
    run.answered(now, codec.usage or estimate(exchange.call, codec.chars), exchange.model)


def _broken(exchange: Exchange, run: Running, codec: StreamCodec, error: UpstreamError, now: float) -> bytes:
    """Books the cut and returns the frame that tells the caller."""
    _note(exchange, run, codec)
    usage = codec.usage or estimate(exchange.call, codec.chars)
    run.failed(now, classify(None, kind_of(error)), error.code or error.kind, usage=usage)
    exchange.outcome = "truncated"
    exchange.error = error.code or error.kind
    return error_frame(exchange, codec.error, error)


def error_frame(exchange: Exchange, payload: bytes | None, error: UpstreamError) -> bytes:
    """The error event of the caller's format; `payload` is the upstream's own in that format, if it sent one."""
    call = exchange.call
    if call.endpoint == "messages":
        body = payload or msgspec.json.encode(
            {"type": "error", "error": {"type": "api_error", "message": error.message}}
        )
        return b"event: error\ndata: " + body + b"\n\n"
    if call.endpoint == "responses":
        body = payload or msgspec.json.encode(
            {"type": "error", "code": error.code, "message": error.message, "param": None}
        )
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + (payload or error.body()) + b"\n\n" + DONE


def _stamped(out: bytes, exchange: Exchange) -> bytes:
    """`out` with the comment that carries what headers could not: the cost of the whole request."""
    cost = usd(exchange.cost_micro_usd)
    comment = f": x-farthing-cost-usd={cost} x-farthing-request-id={exchange.id}\n\n".encode()
    return out[: -len(DONE)] + comment + DONE if out.endswith(DONE) else out + comment
