"""Says what the cache would do with a request and why, by the look-up's own code; changes nothing, serves nothing.

For people who ask why a question was, or was not, answered from the cache. Shows stored questions, never answers.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.cache import wording
from gateway.cache.certificates import Certificates, Standing
from gateway.cache.controls import Controls, controls
from gateway.cache.entry import Entry
from gateway.cache.flight import Flight
from gateway.cache.lookup import Lookup, fresh
from gateway.cache.semantic import Match, Semantic
from gateway.cache.store import StoreError
from gateway.cache.ticket import Ticket
from gateway.core.errors import NotFound
from gateway.core.exchange import Call, Exchange, Identity, Plan
from gateway.policy.caching import CacheRule
from gateway.policy.table import Policy

Decision = Literal["exact", "semantic", "coalesced", "miss", "bypass", "off"]

WHY: Mapping[str, str] = {
    **{name: f"the question is refused: {text}" for name, text in wording.REASONS.items()},
    "asked": "the request's own headers ask for no stored answer",
    "endpoint": "this endpoint is not cached this way",
    "stateful": "the request goes on from something that the provider keeps, or asks it to keep the answer",
    "logprobs": "the request wants log-probabilities",
    "high_temperature": "the request's temperature asks for variety",
    "server_tools": "the provider would search, run or fetch for it",
    "audio": "the request wants an answer that is not text",
    "remote_media": "the request refers to an image or a file whose bytes can change",
    "no_user": "the route keeps users apart, and the request names none",
    "media": "the request holds images, audio or files",
    "tool_result": "a tool's result is among its turns",
    "tool_call": "a tool call is among its turns",
    "choices": "the request asks for more than one choice",
    "no_user_text": "the request does not end with a user's text",
    "too_long": "the question does not fit the encoder's window",
    "unknown_words": "the question has words that the encoder does not know",
    "unavailable": "the store, the encoder or the verifier was late or away; ask again",
    "shadow": "a neighbour was found, and the route has no certificate in force",
    "below_threshold": "the best neighbour scores below the certified threshold",
    "no_entry": "no answer to exactly this request is stored",
    "no_neighbour": "nothing like it is stored in its scope: the same tenant, model, system prompt, tools and turns",
    "too_old": "what was found is older than the route or the request allows",
    "no_encoder": "there is no encoder or verifier",
    "only": "it would be refused with 504: the request asks for a stored answer or none",
}
"""Reasons in words; `veto_NAME` and what is not here speak for themselves."""


class Stored(msgspec.Struct, frozen=True):
    """A stored answer, without its text. `question` is `None` where only its exact key finds it."""

    entry: str
    question: str | None
    age_s: float
    expires_in_s: float
    target: str
    model: str
    tags: tuple[str, ...]


class Neighbour(msgspec.Struct, frozen=True):
    """A stored question near the one asked; `accepted` is what the certificate in force says of its score alone."""

    stored: Stored
    similarity: float
    score: float
    veto: str | None
    fresh: bool
    accepted: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen (`decision`), why as a code (`None` for a hit) and in words.

    `key` and `scope` are what the store is asked for, `text` is what is compared; `None` where it did not come to that.
    `threshold` is the certified one. `neighbours` come the best first, as the verifier has them.
    """

    object: str = "cache.explanation"
    tenant: str
    route: str
    decision: Decision
    reason: str | None
    why: str
    key: str | None = None
    exact: Stored | None = None
    scope: str | None = None
    text: str | None = None
    serves: bool | None = None
    standing: str | None = None
    threshold: float | None = None
    neighbours: tuple[Neighbour, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """Who asks what; `now` is Unix seconds."""

    identity: Identity
    call: Call
    now: float


class Explain:
    """See the module. `semantic` is `None` without an encoder, `flights` are the calls under way."""

    def __init__(
        self,
        lookup: Lookup,
        certificates: Certificates,
        semantic: Semantic | None,
        semantic_error: str | None,
        flights: Mapping[str, Flight],
    ) -> None:
        self._lookup = lookup
        self._certificates = certificates
        self._semantic = semantic
        self._semantic_error = semantic_error
        self._flights = flights

    async def __call__(self, asked: Asked, policy: Policy) -> Explanation:
        """Raises `NotFound` for a model that no route takes, `BadRequest` for headers that make no sense."""
        identity, call = asked.identity, asked.call
        route = policy.resolve(identity, call.model or "", call.headers)
        if route is None:
            raise NotFound("No route takes this model from this tenant.", param="model")
        rule = policy.caching.get(route.name)
        if rule is None:
            why = "the route keeps nothing; fix: give it `cache:` in the policy"
            return Explanation(tenant=identity.tenant, route=route.name, decision="off", reason=None, why=why)
        said = controls(call)
        exchange = Exchange("explain", call, 0.0, asked.now)
        exchange.identity, exchange.plan = identity, Plan(route.name, route.targets)
        await self._lookup.look(exchange, rule, said)
        ticket: Ticket | None = exchange.ticket
        matches = await self._matches(ticket, asked.now)
        versions = self._semantic.versions if self._semantic is not None else {}
        standing = self._certificates.standing(rule, versions) if rule.semantic is not None else None
        neighbours = tuple(_neighbour(match, rule, said, standing, asked.now) for match in matches)
        decision, reason = self._decided(exchange, rule, said, neighbours)
        return Explanation(
            tenant=identity.tenant,
            route=route.name,
            decision=decision,
            reason=reason,
            why=self._words(decision, reason),
            key=ticket.exact if ticket is not None else None,
            exact=stored(ticket.found, asked.now) if ticket and ticket.found and decision == "exact" else None,
            scope=(ticket.scope or None) if ticket is not None else None,
            text=ticket.text if ticket is not None else None,
            serves=standing.serves if standing is not None else None,
            standing=standing.why if standing is not None else None,
            threshold=standing.certificate.threshold if standing is not None and standing.certificate else None,
            neighbours=neighbours,
        )

    async def _matches(self, ticket: Ticket | None, now: float) -> list[Match]:
        if ticket is None or self._semantic is None or ticket.text is None or ticket.vector is None:
            return []
        try:
            return await self._semantic.matches(ticket.scope, ticket.text, ticket.vector, now)
        except StoreError:
            return []

    def _decided(
        self, exchange: Exchange, rule: CacheRule, said: Controls, neighbours: tuple[Neighbour, ...]
    ) -> tuple[Decision, str | None]:
        ticket: Ticket | None = exchange.ticket
        if exchange.hit is not None:
            return exchange.hit.kind, None
        if ticket is None:
            return "bypass", exchange.cache_reason
        if said.only:
            return "miss", "only"
        if rule.exact_ttl_s is not None and said.read and ticket.exact in self._flights:
            return "coalesced", None
        if exchange.cache_reason is not None:
            return "miss", exchange.cache_reason
        if rule.semantic is None:
            return "miss", "no_entry" if said.read else "asked"
        if self._semantic is None:
            return "miss", "no_encoder"
        return "miss", "too_old" if neighbours else "no_neighbour"

    def _words(self, decision: Decision, reason: str | None) -> str:
        if decision == "coalesced":
            return "the same request is under way: it would wait for that answer"
        if decision == "exact":
            return "the answer to exactly this request is stored"
        if decision == "semantic":
            return "a stored question is close enough by the certificate of the route"
        if reason == "no_encoder" and self._semantic_error is not None:
            return f"{WHY[reason]}: {self._semantic_error}"
        if reason is not None and reason.startswith("veto_"):
            return f"the guard `{reason.removeprefix('veto_')}` found a difference that changes the answer"
        return WHY.get(reason or "", reason or "")


def stored(entry: Entry, now: float) -> Stored:
    """What may be shown of an entry."""
    return Stored(
        entry.id,
        entry.text,
        max(0.0, now - entry.stored_s),
        entry.expires_s - now,
        entry.target,
        entry.model,
        entry.tags,
    )


def _neighbour(match: Match, rule: CacheRule, said: Controls, standing: Standing | None, now: float) -> Neighbour:
    assert rule.semantic is not None, "it has neighbours"
    certificate = standing.certificate if standing is not None and standing.serves else None
    return Neighbour(
        stored(match.entry, now),
        match.similarity,
        match.score,
        match.veto,
        fresh(match.entry, now, rule.semantic.ttl_s, said),
        certificate is not None and match.veto is None and certificate.accepts(match.score),
    )
