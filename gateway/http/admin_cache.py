"""The admin API of the cache, below /admin/v1/cache: how it stands, why it answers as it does, what it shall forget.

A caller of one tenant sees, purges and explains that tenant alone. What changes the cache is on the audit before it
happens. Fails closed: without the audit nothing is purged.
"""

import asyncio

import msgspec

from gateway.access.authority import Actor
from gateway.access.keys_database import KeyStore
from gateway.cache.admin import CacheAdmin
from gateway.cache.entry import Selector
from gateway.core.clock import Clock
from gateway.core.errors import BadRequest
from gateway.core.exchange import Identity
from gateway.http import admin_bodies as bodies
from gateway.http.admin import Answer, Call, Row, actor_of, answered, visible_tenant
from gateway.protocol import openai


def cache_routes(cache: CacheAdmin, store: KeyStore, clock: Clock) -> list[Row]:
    """The routes, for `admin_router`."""
    api = _CacheApi(cache, store, clock)
    return [
        ("GET", "/cache", "read", 200, api.stats),
        ("POST", "/cache/purge", "cache:write", 200, api.purge),
        ("POST", "/cache/feedback", "cache:write", 200, api.feedback),
        ("POST", "/cache/explain", "cache:write", 200, api.explain),
    ]


class _CacheApi:
    """The handlers."""

    def __init__(self, cache: CacheAdmin, store: KeyStore, clock: Clock) -> None:
        self._cache = cache
        self._store = store
        self._clock = clock

    def __deepcopy__(self, memo: object) -> "_CacheApi":
        """Litestar copies what it registers; there is one cache."""
        return self

    async def stats(self, request: Call) -> Answer:
        """GET /cache."""
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        return answered(await self._cache.stats(actor_of(request).tenant))

    async def purge(self, request: Call) -> Answer:
        """POST /cache/purge."""
        body = bodies.read_body(await request.body(), bodies.PurgeBody)
        asked = Selector(body.tenant, body.tag, body.route, body.key, body.entry, body.all)
        self._cache.check(asked)
        own = visible_tenant(request, body.tenant)
        selector = msgspec.structs.replace(asked, tenant=own, all=asked.all and own is None)
        what = {name: value for name, value in msgspec.to_builtins(body).items() if value} | (
            {"tenant": own} if own else {}
        )
        subject = " ".join(f"{name}={value}" for name, value in what.items())
        if "\x00" in subject:
            raise BadRequest("A field holds a NUL character.")
        await self._note("cache.purge", subject, own, what, actor_of(request))
        return answered({"object": "cache.purge", "purged": await self._cache.purge(selector)})

    async def feedback(self, request: Call) -> Answer:
        """POST /cache/feedback."""
        body = bodies.read_body(await request.body(), bodies.FeedbackBody)
        actor = actor_of(request)
        entry = await self._cache.find(body.entry, actor.tenant)
        what = {"route": entry.route, "target": entry.target, "stored_s": entry.stored_s, "wrong": True}
        await self._note("cache.feedback", entry.id, entry.tenant, what, actor)
        await self._cache.was_wrong(entry)
        return answered({"object": "cache.feedback", "entry": entry.id, "route": entry.route, "removed": True})

    async def explain(self, request: Call) -> Answer:
        """POST /cache/explain."""
        body = bodies.read_body(await request.body(), bodies.ExplainBody)
        tenant = visible_tenant(request, body.tenant)
        if tenant is None:
            raise BadRequest("`tenant` is missing: whose request is it?", param="tenant")
        endpoint = openai.ENDPOINTS.get(body.path)
        if endpoint is None:
            raise BadRequest(f"`path` must be one of {', '.join(openai.ENDPOINTS)}.", param="path")
        headers = [(name.lower().encode(), value.encode()) for name, value in body.headers.items()]
        call = openai.parse_call(endpoint, "POST", body.path, b"", headers, dict(headers), bytes(body.request))
        identity = Identity(tenant, "explain", frozenset(body.tags))
        return answered(await self._cache.explain(identity, call))

    async def _note(self, action: str, subject: str, tenant: str | None, what: dict[str, object], actor: Actor) -> None:
        await asyncio.to_thread(self._store.note_cache, action, subject, tenant, what, actor, self._clock.wall())
