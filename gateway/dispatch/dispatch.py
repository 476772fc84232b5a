"""The last stage: carries a request to the first target of its plan that answers, and the answer back.

This driver does the I/O; what follows a failure is decided in `retry` and `verdict`, purely. Nothing is sent to
the caller before an upstream's first event is here, so that a failure until then can still go elsewhere.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import (
    Busy,
    GatewayError,
    InternalError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    error_body,
)
from gateway.core.exchange import Call, Exchange, Reply, Target
from gateway.dispatch import verdict as verdicts
from gateway.dispatch.attempt import Price, Running
from gateway.dispatch.breaker import BreakerRegistry, State
from gateway.dispatch.codec import Codec, codec_for, estimate, upstream_model
from gateway.dispatch.relay import passthrough, relay
from gateway.dispatch.retry import AttemptOutcome, Failover, GiveUp, RetryBudget, Step, Wait
from gateway.dispatch.upstream import Headers, Response, Upstreams, relayed_headers, request_id
from gateway.pool.balance import PoolState, Replica
from gateway.pool.registry import PoolRegistry

MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 1 << 20
_EVENT_STREAM = b"text/event-stream"
_SSE_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_JSON: Headers = [(b"content-type", b"application/json")]


class Failure(msgspec.Struct, frozen=True):
    """An attempt that gave the caller nothing: what `retry` needs to know, and what to answer if it was the last."""

    outcome: AttemptOutcome
    answer: Reply | GatewayError


class Dispatcher:
    """See the module. One per process; holds no state of a request."""

    def __init__(
        self,
        *,
        upstreams: Upstreams,
        pools: PoolRegistry,
        breakers: BreakerRegistry,
        budget: RetryBudget,
        price: Price,
        clock: Clock,
        rng: Callable[[], float],
    ) -> None:
        self._upstreams = upstreams
        self._pools = pools
        self._breakers = breakers
        self._budget = budget
        self._price = price
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._rng = rng

    async def __call__(self, exchange: Exchange) -> Reply:
        """A reply, or a `GatewayError` when no target gave one."""
        plan = exchange.plan
        assert plan is not None, "resolve comes before dispatch"
        if plan.sensitive is not None and not all(target.self_hosted for target in plan.targets):
            raise InternalError("A sensitive request was about to leave the machines of the operator.")
        failures: list[Failure] = []
        tried: list[Replica] = []
        failover = Failover(plan, self._budget, self._ready_in, self._rng)
        step: Step = failover.first(self._monotonic())
        while not isinstance(step, GiveUp):
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            target = plan.targets[step.target]
            run = self._begin(exchange, target, tried)
            if run is None:
                step = failover.skip()
                continue
            remaining = target.deadlines.total_s - (run.started - exchange.started)
            result = await self._attempt(exchange, run, remaining)
            if isinstance(result, Reply):
                return result
            failures.append(result)
            if not await _covered(exchange):
                step = GiveUp(len(failures) - 1, "unfunded")
                break
            now = self._monotonic()
            outcome = result.outcome
            if target.pool is not None and self._siblings(run, tried):
                outcome = msgspec.structs.replace(outcome, siblings=True)
            step = failover.after(outcome, now, target.deadlines.total_s - (now - exchange.started))
        return self._give_up(exchange, step, failures)

    def _give_up(self, exchange: Exchange, step: GiveUp, failures: list[Failure]) -> Reply:
        if step.relay is None:
            assert exchange.plan is not None
            raise self._none_ready(exchange, exchange.plan.targets)
        answer = failures[step.relay].answer
        if isinstance(answer, GatewayError):
            raise answer
        exchange.outcome = "client_error" if answer.status < 500 and answer.status != 429 else "upstream_error"
        exchange.error = exchange.error or f"upstream_{answer.status}"
        return answer

    def _none_ready(self, exchange: Exchange, targets: tuple[Target, ...]) -> Busy:
        """No target admits a call: 429 while all of them asked for quiet, else 503; both say when to come back."""
        now = self._monotonic()
        wait_s = min(30.0, max(1.0, min(self._ready_in(target) for target in targets)))
        exchange.outcome = "upstream_error"
        cooling = [t.pool is None and self._breakers.get(t.place).state(now) is State.COOLING for t in targets]
        if all(cooling):
            error = Busy("The upstream's rate limit is reached.", code="upstream_rate_limited", retry_after_s=wait_s)
            error.status, error.type = 429, "rate_limit_error"
        else:
            error = Busy(
                "No upstream of this route is ready; its circuit breakers are open.",
                code="no_target_ready",
                retry_after_s=wait_s,
            )
        exchange.error = error.code
        return error

    # -- one attempt ---------------------------------------------------------------------------------------------

    def _pool(self, target: Target) -> PoolState | None:
        """The live state of a target's pool; `None` for other targets and for a pool that a reload removed."""
        if target.pool is None:
            return None
        try:
            return self._pools.get(target.pool.name)
        except KeyError:
            return None

    def _ready_in(self, target: Target) -> float:
        now = self._monotonic()
        if target.pool is None:
            return self._breakers.get(target.place).ready_in(now)
        pool = self._pool(target)
        return pool.ready_in(now) if pool is not None else float("inf")

    def _begin(self, exchange: Exchange, target: Target, tried: list[Replica]) -> Running | None:
        """The opened books of an attempt, or `None` when no breaker admits it any more."""
        now = self._monotonic()
        replica = None
        if target.pool is None:
            breaker = self._breakers.get(target.place)
        else:
            pool = self._pool(target)
            replica = pool.choose(exchange.call, now, tried) if pool is not None else None
            if replica is None:
                return None
            tried.append(replica)
            breaker = replica.breaker
        permit = breaker.try_acquire(now)
        return Running(exchange, target, replica, breaker, permit, self._price, now) if permit else None

    def _siblings(self, run: Running, tried: list[Replica]) -> bool:
        pool = self._pool(run.target)
        return pool is not None and pool.has_sibling(self._monotonic(), tried)

    async def _attempt(self, exchange: Exchange, run: Running, total_s: float) -> Reply | Failure:
        call, target = exchange.call, run.target
        exchange.model = upstream_model(call, target)
        response: Response | None = None
        committed = sent = False
        try:
            codec = codec_for(call, target)
            path, body = codec.request(call, target)
            replica = run.replica.url if run.replica is not None else None
            sent = True
            response = await self._upstreams.send(target, replica, call, path, body, exchange.id, total_s)
            run.status = response.status
            if response.status >= 300:
                return await self._refused(exchange, run, codec, response)
            kind = response.header(b"content-type") or b""
            if kind.startswith(_EVENT_STREAM) and call.stream:
                result = await self._peeked(exchange, run, codec, response)
                committed = isinstance(result, Reply)
                return result
            if call.endpoint == "other" and b"json" not in kind:
                committed = True
                return self._raw(exchange, run, response)
            return await self._whole(exchange, run, codec, response)
        except UpstreamError as error:
            return self._failed(run, error, call)
        finally:
            if response is not None and not committed:
                response.close()
            if not run.closed and not committed:  # the caller left, or a codec refused the request
                billable = sent and (run.status or 200) < 300
                run.abandoned(self._monotonic(), estimate(call, 0) if billable else None, unseen=True)

    async def _whole(self, exchange: Exchange, run: Running, codec: Codec, response: Response) -> Reply:
        call = exchange.call
        body = await response.read(MAX_ANSWER_BYTES)
        decoded = codec.answer(call, run.target, body, int(exchange.started_wall))
        exchange.response_id = decoded.id
        exchange.finish_reasons = decoded.finish_reasons
        exchange.upstream_request_id = request_id(response.headers)
        run.answered(self._monotonic(), decoded.usage, decoded.model or exchange.model)
        return Reply(response.status, relayed_headers(response.headers), decoded.body)

    def _raw(self, exchange: Exchange, run: Running, response: Response) -> Reply:
        """An answer of another kind (audio, a file) on a path that is only forwarded."""
        exchange.upstream_request_id = request_id(response.headers)
        body = passthrough(exchange, run, response, self._monotonic)
        return Reply(response.status, relayed_headers(response.headers), stream=body)

    async def _peeked(self, exchange: Exchange, run: Running, codec: Codec, response: Response) -> Reply | Failure:
        """Waits for the first event that the caller would see; until then nothing is promised."""
        stream = codec.stream(exchange.call, run.target, int(exchange.started_wall))
        until = run.started + run.target.deadlines.first_token_s
        first = b""
        while not first and not stream.done:
            try:
                data = await response.chunk(max(0.0, until - self._monotonic()))
            except UpstreamTimeout as error:
                if error.phase == "idle":
                    error = UpstreamTimeout("The upstream sent no first token in time.", phase="first_token")
                return self._failed(run, error, exchange.call)
            first = stream.feed(data) if data else stream.finish()
            if stream.error is not None:
                return self._error_event(run, stream.error)
            if not data and stream.truncated:
                raise UpstreamBroken("The upstream closed the stream before its first event.")
        exchange.upstream_request_id = request_id(response.headers)
        run.first_byte(self._monotonic())
        headers = [*relayed_headers(response.headers), *_SSE_HEADERS]
        return Reply(response.status, headers, stream=relay(exchange, run, response, stream, first, self._monotonic))

    # -- what failed ----------------------------------------------------------------------------------------------

    def _failed(self, run: Running, error: UpstreamError, call: Call) -> Failure:
        """A call that was cut or took too long may be billed: its input is booked, as an estimate.

        One that used up its time without an answer was generating all along: it is booked as reserved.
        """
        verdict = verdicts.classify(None, verdicts.kind_of(error))
        late = isinstance(error, UpstreamTimeout) and error.phase != "connect"
        usage = estimate(call, 0) if late or isinstance(error, UpstreamBroken) else None
        unseen = isinstance(error, UpstreamTimeout) and error.phase == "total"
        run.failed(self._monotonic(), verdict, error.code or error.kind, usage=usage, unseen=unseen)
        return Failure(AttemptOutcome(verdict), error)

    def _error_event(self, run: Running, payload: bytes) -> Failure:
        """An error in place of the first event: the status was 200, the caller must not see that."""
        status = verdicts.event_status(payload)
        verdict = verdicts.classify(status, None, payload)
        run.failed(self._monotonic(), verdict, "error_event")
        if verdict.masked is not None:
            return Failure(AttemptOutcome(verdict), _masked(verdict.masked, run.target, status))
        return Failure(AttemptOutcome(verdict), Reply(status, list(_JSON), payload))

    async def _refused(self, exchange: Exchange, run: Running, codec: Codec, response: Response) -> Failure:
        body = await response.read(MAX_ERROR_BYTES)
        status = response.status
        verdict = verdicts.classify(status, None, body)
        after_s = verdicts.retry_after_s(
            _text(response.header(b"retry-after")), _text(response.header(b"retry-after-ms")), self._wall()
        )
        run.failed(self._monotonic(), verdict, f"status_{status}", after_s)
        exchange.upstream_request_id = request_id(response.headers)
        outcome = AttemptOutcome(verdict, after_s)
        if verdict.masked is not None:
            return Failure(outcome, _masked(verdict.masked, run.target, status))
        return Failure(outcome, _relayed_error(codec, status, response.headers, body))


async def _covered(exchange: Exchange) -> bool:
    """What the last call may cost is reserved beside the next one; without room in the budgets there is no next one."""
    cost = exchange.attempts[-1].cost_micro_usd
    return not cost or exchange.more is None or await exchange.more(exchange, cost)


def _masked(code: str, target: Target, status: int) -> UpstreamError:
    what = {
        "upstream_auth_failed": "refused the gateway's credentials",
        "upstream_quota_exceeded": "says that the gateway's account is out of credit",
        "upstream_broken": "answered with a redirect, which is not followed",
    }.get(code, "failed")
    error = UpstreamError(f"The upstream of target {target.name!r} {what} (status {status}).", code=code)
    error.retryable = False
    return error


def _relayed_error(codec: Codec, status: int, headers: Headers, body: bytes) -> Reply:
    """The upstream's own error; one that is not JSON (a proxy's HTML page) is put into OpenAI's shape."""
    kept = [pair for pair in relayed_headers(headers) if pair[0] != b"content-type"]
    try:
        is_object = isinstance(msgspec.json.decode(body), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "an error"
        kind = "invalid_request_error" if status < 500 else "upstream_error"
        body = error_body(f"The upstream answered {status} {phrase}.", kind, None, f"upstream_{status}")
    return Reply(status, [*kept, *_JSON], codec.error(status, body))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
