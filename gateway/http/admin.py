"""The admin API under /admin/v1: keys, tenants, admin credentials, audit and budgets over HTTP; others join it.

It decides how a call is authenticated and what it looks like; who may do what stands in `access.authority`, and the
store checks it again in the transaction of each change. A caller's key is nothing here. Fails closed: without a
credential 401, without the store 503. No answer but that to a creation or a rotation holds a secret.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from gateway.access import authority
from gateway.access.accounts import Spent
from gateway.access.authority import Actor, Permission
from gateway.access.keyring import Keyring
from gateway.access.keys import bearer
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import shown
from gateway.core.clock import Clock
from gateway.core.errors import BadRequest, GatewayError, InternalError, Unauthorized, error_body
from gateway.core.money import usd
from gateway.database import DatabaseError
from gateway.http import admin_bodies as bodies

log = logging.getLogger("farthing.admin")
PREFIX = "/admin/v1"
MAX_BODY_BYTES = 64 << 10
LOGIN_WINDOW_S = 60.0
MAX_ADDRESSES = 4096

Call = Request[Any, Any, Any]
Answer = Response[bytes]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[[Call], Awaitable[Answer]]
Row = tuple[Method, str, Permission, int, Handler]
"""A route: its path below `PREFIX`, what the caller must be permitted, the status of its answer."""


class TooManyLogins(GatewayError):
    """429: wrong credentials from one address. Right ones are never refused, so nobody can be locked out."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_logins"


class FailedLogins:
    """Counts wrong credentials per address over a minute. Bounded: the oldest address gives way."""

    def __init__(self, per_minute: int = 10) -> None:
        self._per_minute = per_minute
        self._seen: dict[str, tuple[float, int]] = {}

    def failed(self, address: str, now: float) -> float | None:
        """Takes one down; seconds until the next is heard if there were too many, else `None`."""
        since, count = self._seen.pop(address, (now, 0))
        if now - since >= LOGIN_WINDOW_S:
            since, count = now, 0
        if len(self._seen) >= MAX_ADDRESSES:
            del self._seen[next(iter(self._seen))]
        self._seen[address] = (since, count + 1)
        return since + LOGIN_WINDOW_S - now if count >= self._per_minute else None


def admin_router(
    store: KeyStore, keyring: Keyring, spent: Callable[[], list[Spent]], clock: Clock, more: Sequence[Row] = ()
) -> Router:
    """The routes, to be mounted at the root. `spent` gives the state of all budget windows and must not block.

    `more` are those of other rooms, behind the same guard.
    """
    api = _Api(store, keyring, spent, clock)
    table: list[Row] = [
        ("POST", "/keys", "keys:write", 201, api.create_key),
        ("GET", "/keys", "read", 200, api.list_keys),
        ("GET", "/keys/{id:str}", "read", 200, api.get_key),
        ("PATCH", "/keys/{id:str}", "keys:write", 200, api.update_key),
        ("DELETE", "/keys/{id:str}", "keys:write", 200, api.revoke_key),
        ("POST", "/keys/{id:str}/rotate", "keys:write", 200, api.rotate_key),
        ("GET", "/tenants", "read", 200, api.list_tenants),
        ("GET", "/tenants/{name:path}", "read", 200, api.get_tenant),
        ("PUT", "/tenants/{name:path}", "tenants:write", 200, api.put_tenant),
        ("POST", "/admins", "admins:write", 201, api.create_admin),
        ("GET", "/admins", "read", 200, api.list_admins),
        ("DELETE", "/admins/{id:str}", "admins:write", 200, api.revoke_admin),
        ("GET", "/audit", "read", 200, api.list_audit),
        ("GET", "/budgets", "read", 200, api.list_budgets),
        *more,
    ]
    return Router(
        path=PREFIX,
        route_handlers=[
            HTTPRouteHandler(path, http_method=method, status_code=status, opt={"permission": permission})(handler)
            for method, path, permission, status, handler in table
        ],
        guards=[api.guard],
        exception_handlers=ADMIN_ERRORS,
        request_max_body_size=MAX_BODY_BYTES,
        include_in_schema=False,
    )


class _Api:
    """The handlers. Each reads, asks the store in a thread, and answers."""

    def __init__(self, store: KeyStore, keyring: Keyring, spent: Callable[[], list[Spent]], clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._spent = spent
        self._clock = clock
        self._failed = FailedLogins()

    def __deepcopy__(self, memo: object) -> "_Api":
        """Litestar copies what it registers; there is one store, and one count of failed logins."""
        return self

    async def guard(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Before the body is read: whose credential this is, and whether its role permits the route."""
        token = bearer({b"authorization": connection.headers.get("authorization", "").encode("latin-1")})
        record = self._keyring.find_admin(token) if token else None
        if record is None:
            address = connection.client.host if connection.client else ""
            wait_s = self._failed.failed(address, self._clock.monotonic())
            if wait_s is not None:
                raise TooManyLogins("Too many wrong admin credentials from this address.", retry_after_s=wait_s)
            raise Unauthorized("This needs an admin credential: Authorization: Bearer sk-farthing-admin-...")
        actor = authority.actor_of(record)
        permission = handler.opt.get("permission")
        if permission is None:  # not of the table: Litestar's own OPTIONS
            raise MethodNotAllowedException
        authority.require(actor, permission)
        connection.state.actor = actor

    async def _changed(self) -> None:
        """A change is seen by this process at once; the poll brings it if this read fails."""
        with contextlib.suppress(DatabaseError):
            await asyncio.to_thread(self._keyring.refresh)

    async def create_key(self, request: Call) -> Answer:
        """POST /keys."""
        body = bodies.read_body(await request.body(), bodies.KeyBody)
        record, made = await asyncio.to_thread(
            self._store.create_key, body.draft(), actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record) | {"secret": made.secret}, 201)

    async def list_keys(self, request: Call) -> Answer:
        """GET /keys."""
        return await self._list(request, self._store.keys)

    async def get_key(self, request: Call) -> Answer:
        """GET /keys/{id}."""
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        record = await asyncio.to_thread(self._store.key, request.path_params["id"])
        _must_see(request, record.tenant, "key")
        return answered(shown(record))

    async def update_key(self, request: Call) -> Answer:
        """PATCH /keys/{id}."""
        patch = bodies.read_body(await request.body(), bodies.KeyPatch)
        record = await asyncio.to_thread(
            self._store.update_key, request.path_params["id"], patch, actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record))

    async def revoke_key(self, request: Call) -> Answer:
        """DELETE /keys/{id}."""
        record = await asyncio.to_thread(
            self._store.revoke_key, request.path_params["id"], actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record))

    async def rotate_key(self, request: Call) -> Answer:
        """POST /keys/{id}/rotate."""
        grace_s = bodies.read_body(await request.body(), bodies.RotateBody).grace_s
        record, made = await asyncio.to_thread(
            self._store.rotate_key, request.path_params["id"], grace_s, actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record) | {"secret": made.secret})

    async def list_tenants(self, request: Call) -> Answer:
        """GET /tenants."""
        return await self._list(request, self._store.tenants)

    async def get_tenant(self, request: Call) -> Answer:
        """GET /tenants/{name}."""
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        name = _tenant_name(request)
        _must_see(request, name, "tenant")
        return answered(shown(await asyncio.to_thread(self._store.tenant, name)))

    async def put_tenant(self, request: Call) -> Answer:
        """PUT /tenants/{name}."""
        body = bodies.read_body(await request.body(), bodies.TenantBody)
        name = _tenant_name(request)
        record = await asyncio.to_thread(
            self._store.put_tenant, name, body.limits(), body.metadata, actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record))

    async def create_admin(self, request: Call) -> Answer:
        """POST /admins."""
        body = bodies.read_body(await request.body(), bodies.AdminBody)
        record, made = await asyncio.to_thread(
            self._store.create_admin, body.draft(), actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record) | {"secret": made.secret}, 201)

    async def list_admins(self, request: Call) -> Answer:
        """GET /admins."""
        return await self._list(request, self._store.admins)

    async def revoke_admin(self, request: Call) -> Answer:
        """DELETE /admins/{id}."""
        record = await asyncio.to_thread(
            self._store.revoke_admin, request.path_params["id"], actor_of(request), self._clock.wall()
        )
        await self._changed()
        return answered(shown(record))

    async def list_audit(self, request: Call) -> Answer:
        """GET /audit."""
        query = bodies.read_query(dict(request.query_params), bodies.AuditQuery)
        rows = await asyncio.to_thread(
            self._store.audit,
            tenant=visible_tenant(request, query.tenant),
            subject=query.subject,
            before=query.before,
            limit=query.limit + 1,
        )
        return _page([msgspec.to_builtins(row) for row in rows], query.limit)

    async def list_budgets(self, request: Call) -> Answer:
        """GET /budgets."""
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        return _page([_budget(each) for each in self._spent() if self._sees_scope(actor_of(request), each)])

    def _sees_scope(self, actor: Actor, spent: Spent) -> bool:
        kind, _, name = spent.window.budget.scope.partition(":")
        if kind == "key":
            held = self._keyring.by_id.get(name)
            return authority.sees(actor, held.identity.tenant if held is not None else None)
        return authority.sees(actor, name if kind == "tenant" else None)

    async def _list(self, request: Call, read: Callable[..., list[Any]]) -> Answer:
        query = bodies.read_query(dict(request.query_params), bodies.PageQuery)
        tenant = visible_tenant(request, query.tenant)
        records = await asyncio.to_thread(read, tenant=tenant, after=query.after, limit=query.limit + 1)
        return _page([shown(record) for record in records], query.limit)


def actor_of(request: Call) -> Actor:
    """Whose credential the guard has let in."""
    actor: Actor = request.state.actor
    return actor


def visible_tenant(request: Call, asked: str | None) -> str | None:
    """The tenant to filter by: the actor's own, whatever is asked for; raises `NotFound` for another's."""
    own = actor_of(request).tenant
    if asked is not None and own is not None and asked != own:
        raise authority.no_such("tenant")
    return own if own is not None else asked


def _must_see(request: Call, tenant: str, noun: str) -> None:
    """Another tenant's record is answered as one that does not exist."""
    if not authority.sees(actor_of(request), tenant):
        raise authority.no_such(noun)


def _tenant_name(request: Call) -> str:
    """Names of tenants may hold slashes."""
    return str(request.path_params["name"]).lstrip("/")


def _budget(spent: Spent) -> dict[str, Any]:
    window = spent.window
    return {
        "object": "budget",
        "id": window.budget.id,
        "scope": window.budget.scope,
        "period": window.budget.period,
        "starts_s": window.starts_s,
        "ends_s": window.ends_s,
        "limit_usd": usd(window.budget.limit_micro_usd),
        "committed_usd": usd(spent.committed),
        "reserved_usd": usd(spent.reserved),
        "remaining_usd": usd(spent.remaining),
    }


def _page(rows: list[dict[str, Any]], limit: int | None = None) -> Answer:
    """A list in OpenAI's shape; one row more than `limit` tells that there are more."""
    return answered({"object": "list", "data": rows[:limit], "has_more": limit is not None and len(rows) > limit})


def answered(value: Any, status: int = 200) -> Answer:
    """`value` as JSON, which nobody stores."""
    return _response(msgspec.json.encode(value), status, {})


def _response(body: bytes, status: int, headers: dict[str, str]) -> Answer:
    headers = {"content-type": "application/json", "cache-control": "no-store"} | headers
    return Response(body, status_code=status, headers=headers)


def _refused(_: Call, error: GatewayError) -> Answer:
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return _response(error.body(), error.status, headers)


def _refused_by_litestar(_: Call, error: HTTPException) -> Answer:
    """Unknown paths, methods and bodies over the cap, in OpenAI's shape and without Litestar's details."""
    known = {404: ("Unknown request URL.", "unknown_url"), 405: ("This URL does not take that method.", "bad_method")}
    known[413] = (f"The body is over {MAX_BODY_BYTES >> 10} KiB.", "request_too_large")
    message, code = known.get(error.status_code, ("The request cannot be read.", "bad_request"))
    return _response(error_body(message, BadRequest.type, None, code), error.status_code, {})


def _failed(_: Call, error: Exception) -> Answer:
    log.error("the admin API failed: %s", type(error).__name__, exc_info=error)
    ours = InternalError("The gateway failed on this request; its log has the details.")
    return _response(ours.body(), ours.status, {})


ADMIN_ERRORS: dict[int | type[Exception], Callable[[Any, Any], Answer]] = {
    GatewayError: _refused,
    HTTPException: _refused_by_litestar,
    Exception: _failed,
}
"""For the application too: paths that no route takes never reach the router's own handlers."""
