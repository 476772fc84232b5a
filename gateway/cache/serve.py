"""The stage that answers from the cache, or lets one request of many identical ones be answered and keeps the answer.

Behind admission, before dispatch: whoever comes here is on the ledger. Fails open: what cannot be kept is not kept, and
an answer on its way is never delayed for it. A request that waited for another's call in vain makes its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Protocol

from gateway.cache import replay
from gateway.cache.entry import Entry
from gateway.cache.fill import Draft, Filler
from gateway.cache.flight import Flight, Form
from gateway.cache.store import CacheStore, StoreError
from gateway.cache.ticket import Ticket
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.exchange import CacheHit, Exchange, Next, Reply, Usage
from gateway.core.money import usd

_JSON = [(b"content-type", b"application/json")]
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_UNTOLD = Usage(source="estimated")
LEASE_S = 30.0
"""So long one replica asks for all; one that dies, or takes longer, is not waited for."""
POLL_S = 0.05
TRIES = 2
"""After so many flights that failed, the failure is the answer for all who waited."""


class Leases(Protocol):
    """Who flies for a key, across replicas. Raises `StoreError`."""

    async def lease(self, exact: str, owner: str, ttl_s: float) -> bool:
        """Whether `owner` has it now, for at most `ttl_s` seconds."""
        ...

    async def release(self, exact: str, owner: str) -> bool:
        """Gives it back; `False` when it was another's."""
        ...


class Serve:
    """See the module. `hit` is told of each semantic hit: some are asked anew.

    `leases` are those of several replicas, `None` for one process.
    """

    def __init__(
        self,
        store: CacheStore,
        filler: Filler,
        flights: dict[str, Flight],
        clock: Clock,
        *,
        hit: Callable[[Exchange, Ticket], None] | None = None,
        leases: Leases | None = None,
    ) -> None:
        self._filler = filler
        self._flights = flights
        self._wall = clock.wall
        self._hit = hit
        self._leases = leases
        self._store = store
        self._monotonic = clock.monotonic
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, exchange: Exchange, call_next: Next) -> Reply:
        """A stored answer, another request's, or the next stage's, which is kept on its way."""
        ticket: Ticket | None = exchange.ticket
        if ticket is None:
            return await call_next(exchange)
        if ticket.found is not None:
            if exchange.cache == "semantic" and self._hit is not None:
                self._hit(exchange, ticket)
            return self._answer(exchange, ticket.found)
        if ticket.rule.exact_ttl_s is None or not ticket.read:
            return await self._lead(exchange, ticket, call_next, None)
        failure: GatewayError | None = None
        for _ in range(TRIES):
            flight = self._flights.get(ticket.exact)
            if flight is None:
                flight = self._flights[ticket.exact] = Flight(exchange, _form(exchange))
                exchange.shared = flight.followed
                entry = await self._elsewhere(exchange, ticket, flight)
                if entry is not None:
                    return self._answer(exchange, entry)
                return await self._lead(exchange, ticket, call_next, flight)
            reply = await self._follow(exchange, flight)
            if reply is not None:
                return reply
            failure = flight.failure
        if failure is not None:
            raise failure
        return await call_next(exchange)

    # A stored answer.

    def _answer(self, exchange: Exchange, entry: Entry) -> Reply:
        exchange.target, exchange.provider, exchange.model = entry.target, entry.provider, entry.model
        exchange.outcome, exchange.cost_micro_usd = "ok", 0
        call, unique, created = exchange.call, exchange.id.replace("-", ""), int(self._wall())
        if not call.stream:
            return Reply(200, list(_JSON), replay.body(entry.endpoint, entry.body, call, unique, created))
        events = replay.stream(entry.endpoint, entry.body, call, unique, created)
        at = -1 if entry.endpoint in ("chat", "completions") else len(events)  # before [DONE], else behind the end
        return Reply(200, list(_SSE), stream=_once(b"".join([*events[:at], _told(exchange), *events[at:]])))

    # Another request's call.

    async def _follow(self, exchange: Exchange, flight: Flight) -> Reply | None:
        """The answer that `flight` brings; `None` when it brought none."""
        flight.followers += 1
        stays = False
        try:
            if not await flight.begun():
                return None
            if exchange.call.stream and flight.form == _form(exchange) and flight.reply is not None:
                self._coalesced(exchange, flight, _UNTOLD)
                stays = True
                return Reply(200, list(_SSE), stream=self._live(exchange, flight))
            entry = await flight.whole()
            if entry is None:
                return None
            self._coalesced(exchange, flight, entry.usage)
            return self._answer(exchange, entry)
        finally:
            if not stays:
                flight.followers -= 1

    async def _live(self, exchange: Exchange, flight: Flight) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in flight.live(_told(exchange)):
                yield chunk
            leader = flight.leader
            exchange.outcome, exchange.error = leader.outcome, leader.error
            self._coalesced(exchange, flight, leader.usage or _UNTOLD)
        finally:
            flight.followers -= 1

    def _coalesced(self, exchange: Exchange, flight: Flight, usage: Usage) -> None:
        leader = flight.leader
        exchange.cache, exchange.cost_micro_usd = "coalesced", 0
        exchange.hit = CacheHit("coalesced", leader.id, usage, exchange.started - leader.started, 0.0)
        exchange.target, exchange.provider, exchange.model = leader.target, leader.provider, leader.model

    async def _elsewhere(self, exchange: Exchange, ticket: Ticket, flight: Flight) -> Entry | None:
        """The answer of another replica that is asking the same; `None` when it is this one's turn to ask."""
        leases = self._leases
        if leases is None:
            return None
        entry: Entry | None = None
        until = self._monotonic() + LEASE_S
        try:
            while entry is None and not await leases.lease(ticket.exact, exchange.id, LEASE_S):
                if self._monotonic() >= until:
                    return None
                await asyncio.sleep(POLL_S)
                entry = await self._store.get(ticket.exact, self._wall())
        except StoreError:
            return None
        except BaseException:
            self._land(ticket, flight, None)
            raise
        if entry is not None:
            exchange.cache, exchange.cost_micro_usd = "coalesced", 0
            exchange.hit = CacheHit("coalesced", entry.id, entry.usage, entry.took_s, 0.0)
            self._flights.pop(ticket.exact, None)
            flight.settle(entry)
            exchange.shared = None
        return entry

    def _give_back(self, ticket: Ticket, owner: str) -> None:
        if self._leases is not None:
            task = asyncio.create_task(_released(self._leases, ticket.exact, owner))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # A call of its own.

    async def _lead(self, exchange: Exchange, ticket: Ticket, call_next: Next, flight: Flight | None) -> Reply:
        try:
            reply = await call_next(exchange)
        except BaseException as exc:
            self._land(ticket, flight, exc if isinstance(exc, GatewayError) else None)
            raise
        if reply.status != 200:
            self._land(ticket, flight, None)
            return reply
        if flight is not None:
            flight.begin(reply)
        if reply.stream is None:
            self._keep(exchange, ticket, flight, reply.body)
        else:
            reply.stream = self._tee(exchange, ticket, flight, reply.stream)
        return reply

    async def _tee(
        self, exchange: Exchange, ticket: Ticket, flight: Flight | None, stream: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """The stream as it comes, noted on its way."""
        noted: list[bytes] = flight.chunks if flight is not None else []
        whole = False
        try:
            async for chunk in stream:
                if flight is not None:
                    flight.add(chunk)
                else:
                    noted.append(chunk)
                yield chunk
            whole = True
        finally:
            await stream.aclose()
            if flight is not None:
                flight.end()
            if whole and exchange.outcome == "ok":
                self._keep(exchange, ticket, flight, noted)
            else:
                self._land(ticket, flight, None)

    def _keep(self, exchange: Exchange, ticket: Ticket, flight: Flight | None, answer: bytes | list[bytes]) -> None:
        exchange.shared = None
        done = partial(self._give_back, ticket, exchange.id)
        if not self._filler.put(Draft(exchange, ticket, flight, answer, self._wall(), done)):
            self._land(ticket, flight, None)

    def _land(self, ticket: Ticket, flight: Flight | None, failure: GatewayError | None) -> None:
        if flight is not None:
            if self._flights.get(ticket.exact) is flight:
                del self._flights[ticket.exact]
            flight.fail(failure)
            flight.leader.shared = None
            self._give_back(ticket, flight.leader.id)


def _form(exchange: Exchange) -> Form:
    return exchange.call.stream, exchange.call.wants_usage


def _told(exchange: Exchange) -> bytes:
    """The comment at a stream's end, as `dispatch.relay` writes it: the cost of what cost nothing."""
    return f": x-farthing-cost-usd={usd(0)} x-farthing-request-id={exchange.id}\n\n".encode()


async def _released(leases: Leases, exact: str, owner: str) -> None:
    with contextlib.suppress(StoreError):  # it is over by itself
        await leases.release(exact, owner)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
