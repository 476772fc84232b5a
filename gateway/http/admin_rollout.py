"""The admin API of rollouts, below /admin/v1/rollout: what is on trial, what was in force, and the way back.

A policy serves every tenant, so a credential of one tenant has no part in it. A candidate is compiled with the secrets
of the process that is asked before anything changes. Fails closed: without the store nothing is changed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec

from gateway.access.authority import Actor
from gateway.core.clock import Clock
from gateway.core.errors import BadRequest, Forbidden, PolicyError
from gateway.database import DatabaseError
from gateway.http import admin_bodies as bodies
from gateway.http.admin import Answer, Call, Row, actor_of, answered
from gateway.policy.load import document_from_texts
from gateway.policy.table import Policy
from gateway.rollout.operate import Done, Operations
from gateway.rollout.serving import Compile
from gateway.rollout.show import shown_history, shown_status


class StartBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /rollout. `documents` are YAML texts by file name."""

    documents: dict[str, str]
    mode: Literal["shadow", "canary"]
    share: float | None = None
    abort_on: str = ""


class MoveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH /rollout. What is left out stays."""

    mode: Literal["shadow", "canary"] | None = None
    share: float | None = None
    abort_on: str | None = None


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /rollout/rollback. `to` is the hash of an earlier policy, or its beginning; `None` as the command does."""

    to: str | None = None


class NoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where nothing is to be said."""


def rollout_routes(
    operations: Operations, compile_: Compile, refresh: Callable[[], Awaitable[None]], clock: Clock
) -> list[Row]:
    """The routes, for `admin_router`. `refresh` makes this process follow at once; others poll."""
    api = _RolloutApi(operations, compile_, refresh, clock)
    return [
        ("GET", "/rollout", "policy:read", 200, api.status),
        ("POST", "/rollout", "policy:write", 200, api.start),
        ("PATCH", "/rollout", "policy:write", 200, api.move),
        ("POST", "/rollout/promote", "policy:write", 200, api.promote),
        ("POST", "/rollout/rollback", "policy:write", 200, api.roll_back),
        ("POST", "/rollout/resume", "policy:write", 200, api.resume),
        ("GET", "/rollout/history", "policy:read", 200, api.history),
    ]


class _RolloutApi:
    """The handlers."""

    def __init__(
        self, operations: Operations, compile_: Compile, refresh: Callable[[], Awaitable[None]], clock: Clock
    ) -> None:
        self._operations = operations
        self._compile = compile_
        self._refresh = refresh
        self._wall = clock.wall

    def __deepcopy__(self, memo: object) -> "_RolloutApi":
        """Litestar copies what it registers; there is one."""
        return self

    async def status(self, request: Call) -> Answer:
        """GET /rollout."""
        _of_all(request)
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        return answered(shown_status(await asyncio.to_thread(self._operations.status, self._wall())))

    async def history(self, request: Call) -> Answer:
        """GET /rollout/history."""
        _of_all(request)
        bodies.read_query(dict(request.query_params), bodies.Nothing)
        return answered({"object": "list", "data": shown_history(await asyncio.to_thread(self._operations.history))})

    async def start(self, request: Call) -> Answer:
        """POST /rollout."""
        actor = _of_all(request)
        body = bodies.read_body(await request.body(), StartBody)
        share = body.share if body.share is not None else 1.0 if body.mode == "shadow" else None
        if share is None:
            raise BadRequest("A canary needs a share of the requests.", param="share")
        policy = await asyncio.to_thread(self._compiled, body.documents)
        start = partial(self._operations.start, abort_on=body.abort_on)
        return await self._done(start, policy.hash, policy.text, body.mode, share, actor, self._wall())

    def _compiled(self, documents: dict[str, str]) -> Policy:
        """The candidate, with this process's secrets. Raises `BadRequest` with every problem."""
        try:
            document = document_from_texts({name: text.encode() for name, text in documents.items()})
            return self._compile(document.text, None)
        except PolicyError as exc:
            raise BadRequest(exc.message, param="documents", code="policy_error") from exc

    async def move(self, request: Call) -> Answer:
        """PATCH /rollout."""
        body, actor = bodies.read_body(await request.body(), MoveBody), _of_all(request)
        move = partial(self._operations.move, abort_on=body.abort_on)
        return await self._done(move, body.mode, body.share, actor, self._wall())

    async def promote(self, request: Call) -> Answer:
        """POST /rollout/promote."""
        bodies.read_body(await request.body(), NoBody)
        return await self._done(self._operations.promote, _of_all(request), self._wall())

    async def roll_back(self, request: Call) -> Answer:
        """POST /rollout/rollback."""
        body = bodies.read_body(await request.body(), RollbackBody)
        return await self._done(self._operations.roll_back, body.to, _of_all(request), self._wall())

    async def resume(self, request: Call) -> Answer:
        """POST /rollout/resume."""
        bodies.read_body(await request.body(), NoBody)
        return await self._done(self._operations.resume, _of_all(request), self._wall())

    async def _done(self, change: Callable[..., Done], *arguments: object) -> Answer:
        done = await asyncio.to_thread(change, *arguments)
        with suppress(DatabaseError):  # the change is durable; the poll brings it if this read fails
            await self._refresh()
        return answered({"object": "rollout.change", "version": done.version, "told": done.told})


def _of_all(request: Call) -> Actor:
    """The actor, who works on all tenants."""
    actor = actor_of(request)
    if actor.tenant is not None:
        raise Forbidden("A policy serves every tenant; this credential is of one.", code="tenant_not_allowed")
    return actor
