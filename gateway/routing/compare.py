"""Asks the other target of some requests too, after the caller has the answer, and stores which answer was how good.

A sample by the request's id, independent of score and choice, so that a certificate may rest on it. Every call is a
request of its own, admitted and on the ledger under the tenant `compare:ROUTE`, whose budget the policy states; its
reasons name the request (`compare=ID`, `rate=ID`). Answers that say the same are both of quality 1; others a judge
rates that does not know which is whose. Nothing that is sensitive leaves the plan's boundary: the other target and the
judge are confined as the request was, and the dispatcher asserts it. Fails open: what cannot be asked, rated or stored
teaches nothing, is counted, and never delays the caller.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from gateway.cache.answers import answer_text
from gateway.cache.replay import assemble
from gateway.cache.same import same_answer
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.exchange import Call, Exchange, Identity, Next, Plan, Reply
from gateway.database import DatabaseError
from gateway.encoder.port import Encoder, EncoderError
from gateway.guarantee.sampling import sampled, weight
from gateway.policy.choosing import Classify, alternatives, confined
from gateway.policy.compile_money import compare_tenant
from gateway.protocol.own import chat_call, unstreamed
from gateway.routing.judge_answers import quality, rate_request, read_ratings
from gateway.routing.labels import RoutingLabel, RoutingLabels
from gateway.routing.reading import conversation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE = 2
MOST_WAITING = 64
MOST_BYTES = 1 << 20
"""Of a request, and of an answer: larger ones are not held until their turn comes."""
ENDPOINTS = frozenset(["chat", "completions", "responses", "messages"])
_STATEFUL = ("previous_response_id", "conversation", "background")
"""Members that only the provider of the first answer can follow."""

log = logging.getLogger("farthing.routing")


class Seen(msgspec.Struct, frozen=True):
    """What a choice was made from. `vector` is `float32[384]` of the last user text, `None` where there is none.

    `late`: the score is another tier's than the route's, so nothing is learnt from it.
    """

    rule: Classify
    vector: "NDArray[np.float32] | None" = None
    late: bool = False


class Taken(msgspec.Struct, frozen=True):
    """A request that was answered, and its answer as the caller got it."""

    exchange: Exchange
    seen: Seen
    answer: bytes


class _Unlearnt(Exception):
    """No label comes of it; the argument says why."""


Versions = Callable[[Classify], Mapping[str, str]]


def in_sample(request_id: str, rule: Classify) -> bool:
    """Whether the request is one of those that both targets answer."""
    return rule.compare > 0 and sampled(request_id, rule.compare, f"compare:{rule.route}")


class Comparing:
    """See the module. The stage right before dispatch, and what runs beside the requests.

    `ask` is the pipeline behind the cache and `finish` closes a request's books; without a store there is no label.
    `rng` (in [0, 1)) draws which answer the judge sees first.
    """

    def __init__(
        self,
        labels: RoutingLabels | None,
        encoder: Callable[[], Encoder | None],
        versions: Versions,
        clock: Clock,
        new_id: Callable[[], str],
        rng: Callable[[], float],
    ) -> None:
        self._labels = labels
        self._encoder = encoder
        self._versions = versions
        self._clock = clock
        self._new_id = new_id
        self._rng = rng
        self._through: tuple[Next, Callable[[Exchange, float], None]] | None = None
        self._waiting: asyncio.Queue[Taken] = asyncio.Queue(MOST_WAITING)
        self.results: Counter[tuple[str, str]] = Counter()
        """By route and what came of it; see docs/observability.md."""

    def ask_through(self, ask: Next, finish: Callable[[Exchange, float], None]) -> None:
        """Where the other target and the judge are asked."""
        self._through = (ask, finish)

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The next stage's reply, noted on its way where the request is one of the sample."""
        seen: Seen | None = exchange.scored
        if seen is None or self._labels is None or not in_sample(exchange.id, seen.rule):
            return call_next(exchange)
        return self._watch(exchange, seen, call_next)

    async def _watch(self, exchange: Exchange, seen: Seen, call_next: Next) -> Reply:
        reply = await call_next(exchange)
        if reply.status != 200:
            return reply
        if reply.stream is not None:
            reply.stream = self._tee(exchange, seen, reply.stream)
        else:
            self._take(Taken(exchange, seen, reply.body))
        return reply

    async def _tee(
        self, exchange: Exchange, seen: Seen, stream: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        noted, size, whole = [], 0, False
        try:
            async for chunk in stream:
                size += len(chunk)
                if size <= MOST_BYTES:
                    noted.append(chunk)
                yield chunk
            whole = True
        finally:
            await stream.aclose()
            if whole and exchange.outcome == "ok":
                self._take(Taken(exchange, seen, b"".join(noted) if size <= MOST_BYTES else b" " * (MOST_BYTES + 1)))

    def _take(self, taken: Taken) -> None:
        why = _unfit(taken)
        if why is None:
            try:
                self._waiting.put_nowait(taken)
            except asyncio.QueueFull:
                why = "dropped"
        if why is not None:
            self.results[taken.seen.rule.route, why] += 1

    async def run(self) -> None:
        """Compares, `AT_ONCE` at once, until cancelled; what waits then is dropped."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            taken = await self._waiting.get()
            route = taken.seen.rule.route
            try:
                label = await self._compare(taken)
                assert self._labels is not None, "nothing is taken without a store"
                await asyncio.to_thread(self._labels.add, label)
                self.results[route, "same" if label.source == "compared" else "rated"] += 1
            except _Unlearnt as exc:
                self.results[route, str(exc)] += 1
            except DatabaseError as exc:
                self.results[route, "unstored"] += 1
                log.warning("a label of route %s is lost: %s", route, exc.message)
            except Exception:
                self.results[route, "failed"] += 1
                log.exception("request %s could not be compared", taken.exchange.id)

    async def _compare(self, taken: Taken) -> RoutingLabel:
        """The label; raises `_Unlearnt`."""
        exchange, rule = taken.exchange, taken.seen.rule
        plan, choice = exchange.plan, exchange.choice
        assert plan is not None, "it was served"
        assert choice is not None, "it was chosen"
        own = await asyncio.to_thread(_text, exchange, taken.answer)
        if not own:
            raise _Unlearnt("no_text")
        weak, strong = alternatives(rule, plan)
        other = strong if choice.target == "weak" else weak
        if other is None:
            raise _Unlearnt("sensitive")
        asked = await self._ask(exchange, unstreamed(exchange.call), _alone(other, plan, f"compare={exchange.id}"))
        theirs = answer_text(exchange.call.endpoint, asked.reply)
        if not theirs:
            raise _Unlearnt("no_text")
        if await self._same(own, theirs):
            qualities, source = (1.0, 1.0), "compared"
        else:
            qualities, source = await self._rated(exchange, rule, own, theirs), "judged"
        costs = (exchange.attempts[-1].cost_micro_usd, asked.cost_micro_usd)
        if choice.target == "strong":
            qualities, costs = qualities[::-1], costs[::-1]
        return self._label(exchange, taken.seen, qualities, costs, source)

    def _label(
        self,
        exchange: Exchange,
        seen: Seen,
        qualities: tuple[float, float],
        costs: tuple[int | None, int | None],
        source: str,
    ) -> RoutingLabel:
        rule, choice, identity = seen.rule, exchange.choice, exchange.identity
        assert choice is not None, "it was chosen"
        assert choice.score is not None, "others are not taken"
        assert identity is not None, "authenticate comes first"
        return RoutingLabel(
            request_id=exchange.id,
            at_s=self._clock.wall(),
            tenant=identity.tenant,
            route=rule.route,
            weak=rule.weak.targets[0].name,
            strong=rule.strong.targets[0].name,
            tier=choice.tier or rule.tier,
            score=choice.score,
            versions=dict(self._versions(rule)),
            weak_quality=qualities[0],
            strong_quality=qualities[1],
            weak_cost_micro=costs[0],
            strong_cost_micro=costs[1],
            weight=weight(rule.compare),
            source="compared" if source == "compared" else "judged",
            vector=seen.vector.astype("<f2").tobytes() if seen.vector is not None else None,
        )

    async def _same(self, own: str, theirs: str) -> bool:
        """Whether the two say the same, as far as that is sure."""
        plain = same_answer(own, theirs)
        encoder = self._encoder()
        if plain is not None or encoder is None:
            return plain is True
        try:
            one, two = await encoder.encode(own), await encoder.encode(theirs)
        except EncoderError:
            return False
        if one is None or two is None:
            return False
        return same_answer(own, theirs, cosine=float(one.vector @ two.vector)) is True

    async def _rated(self, exchange: Exchange, rule: Classify, own: str, theirs: str) -> tuple[float, float]:
        """The qualities of the two; raises `_Unlearnt`."""
        plan = exchange.plan
        assert plan is not None, "it was served"
        assert rule.judge is not None, "`check` refuses a comparison without one"
        judge = rule.judge if plan.sensitive is None else confined(rule.judge, plan.sensitive)
        if judge is None:
            raise _Unlearnt("sensitive")
        turned = self._rng() < 0.5
        first, second = (theirs, own) if turned else (own, theirs)
        body = rate_request(conversation(exchange.call), first, second, judge.targets[0].model or "")
        asked = await self._ask(exchange, chat_call(body), _alone(judge, plan, f"rate={exchange.id}"))
        ratings = read_ratings(answer_text("chat", asked.reply))
        if ratings is None:
            raise _Unlearnt("unrated")
        found = (quality(ratings.first), quality(ratings.second))
        return found[::-1] if turned else found

    async def _ask(self, served: Exchange, call: Call, plan: Plan) -> "_Asked":
        """An answer with its cost; raises `_Unlearnt`. A request of its own in every account."""
        assert self._through is not None, "wired before anything runs"
        ask, finish = self._through
        clock = self._clock
        exchange = Exchange(self._new_id(), call, clock.monotonic(), clock.wall())
        exchange.identity = Identity(compare_tenant(plan.route), "compare")
        exchange.policy, exchange.decided_by, exchange.plan = served.policy, served.decided_by, plan
        try:
            reply = await ask(exchange)
            exchange.status = reply.status
        except GatewayError as error:
            exchange.status, exchange.error = error.status, error.code or error.type
            exchange.outcome = exchange.outcome or "client_error"
            raise _Unlearnt("failed" if exchange.admitted else "refused") from error
        finally:
            finish(exchange, clock.monotonic())
        if reply.status != 200 or reply.stream is not None:
            raise _Unlearnt("failed")
        return _Asked(reply.body, exchange.cost_micro_usd)


class _Asked(msgspec.Struct, frozen=True):
    reply: bytes
    cost_micro_usd: int | None


def _unfit(taken: Taken) -> str | None:
    """Why an answer is not compared, `None` for one that is."""
    exchange, seen = taken.exchange, taken.seen
    call, choice = exchange.call, exchange.choice
    if choice is None or choice.score is None or seen.late:
        return "no_score"
    if call.endpoint not in ENDPOINTS or any((call.doc or {}).get(name) for name in _STATEFUL):
        return "stateful"
    side = seen.rule.weak if choice.target == "weak" else seen.rule.strong
    if exchange.target != side.targets[0].name:
        return "failed_over"
    if len(call.raw) > MOST_BYTES or len(taken.answer) > MOST_BYTES:
        return "too_long"
    return None


def _text(exchange: Exchange, answer: bytes) -> str:
    endpoint = exchange.call.endpoint
    whole = assemble(endpoint, answer, exchange.usage) if exchange.call.stream else answer
    return answer_text(endpoint, whole) if whole is not None else ""


def _alone(other: Plan, served: Plan, reason: str) -> Plan:
    """The first target of a plan and nobody behind it, under the boundary of the request that was served."""
    return Plan(other.route, other.targets[:1], (f"route={other.route}", reason), served.sensitive)
