"""Who may do what in the admin API and on the command line, and that nothing minted exceeds what minted it. Pure.

Fails closed: a permission that no row of the table grants is refused. Knows no store and no HTTP.
"""

from typing import Literal

import msgspec

from gateway.access.keystore import AdminDraft, AdminRecord, KeyDraft, KeyLimits, KeyRecord, Role
from gateway.core.errors import Forbidden, NotFound
from gateway.policy.globs import covers

Permission = Literal[
    "read", "keys:write", "tenants:write", "admins:write", "cache:write", "policy:read", "policy:write"
]

GRANTS: dict[Permission, frozenset[Role]] = {
    "read": frozenset({"owner", "admin", "tenant_admin", "auditor"}),
    "keys:write": frozenset({"owner", "admin", "tenant_admin"}),
    "tenants:write": frozenset({"owner", "admin"}),
    "admins:write": frozenset({"owner", "admin", "tenant_admin"}),
    "cache:write": frozenset({"owner", "admin", "tenant_admin"}),
    "policy:read": frozenset({"owner", "admin", "auditor"}),
    "policy:write": frozenset({"owner", "admin"}),
}
_RANK: dict[Role, int] = {"auditor": 0, "tenant_admin": 1, "admin": 2, "owner": 3}


class Actor(msgspec.Struct, frozen=True):
    """Who changes something: an admin credential, or `cli:USER` at the machine, who owns the database anyway.

    `tenant` is the only one it sees, `None` for all; `limits` cap what it mints.
    """

    id: str
    role: Role = "owner"
    tenant: str | None = None
    limits: KeyLimits = KeyLimits()


def actor_of(record: AdminRecord) -> Actor:
    """The actor that a credential is."""
    return Actor(record.id, record.role, record.tenant, record.limits)


def require(actor: Actor, permission: Permission) -> None:
    """Raises `Forbidden` unless the actor's role grants `permission`."""
    if actor.role not in GRANTS[permission]:
        raise Forbidden(f"The role {actor.role} does not permit this ({permission}).", code="role_too_low")


def sees(actor: Actor, tenant: str | None) -> bool:
    """Whether the actor sees what belongs to `tenant`; what belongs to none (`None`) only those of all tenants do."""
    return actor.tenant is None or actor.tenant == tenant


def no_such(noun: str) -> NotFound:
    """The answer for what does not exist and for what the actor does not see; never repeats what was asked for."""
    return NotFound(f"There is no such {noun}.", code="not_found")


def check_key(actor: Actor, key: KeyDraft | KeyRecord) -> None:
    """Raises `Forbidden` when a key, as it would be handed out, is another tenant's or exceeds the actor."""
    if not sees(actor, key.tenant):
        raise Forbidden(f"This credential works on tenant {actor.tenant} only.", code="tenant_not_allowed")
    _check_within(key.limits, actor.limits)


def check_admin(actor: Actor, draft: AdminDraft) -> None:
    """Raises `Forbidden` when a credential would have more authority than the actor, or none that makes sense."""
    if _RANK[draft.role] > _RANK[actor.role]:
        raise Forbidden(f"The role {actor.role} cannot make the role {draft.role}.", code="role_too_low")
    if not sees(actor, draft.tenant):
        raise Forbidden(f"This credential makes credentials of tenant {actor.tenant} only.", code="tenant_not_allowed")
    _check_within(draft.limits, actor.limits)


def check_removal(actor: Actor, record: AdminRecord) -> None:
    """Raises `Forbidden` when the credential to be revoked stands above the actor."""
    if _RANK[record.role] > _RANK[actor.role]:
        raise Forbidden(f"The role {actor.role} cannot revoke the role {record.role}.", code="role_too_low")


def check_tenant(actor: Actor, limits: KeyLimits) -> None:
    """Raises `Forbidden` when a tenant's limits would exceed the actor's; tenants have no routes, models or expiry."""
    cap = actor.limits
    same = msgspec.structs.replace(limits, routes=cap.routes, models=cap.models, expires_s=cap.expires_s)
    _check_within(same, cap)


def _check_within(asked: KeyLimits, cap: KeyLimits) -> None:
    field = exceeded(asked, cap)
    if field is not None:
        raise Forbidden(
            f"`{field}` exceeds what this credential may hand out; state a value within its own limits.",
            param=field,
            code="exceeds_minter",
        )


def exceeded(asked: KeyLimits, cap: KeyLimits) -> str | None:
    """The first field in which `asked` allows more than `cap`; `None` when it stays within.

    No limit exceeds every limit. Budgets are compared period by period: a cap of $500 a month asks for a monthly
    budget, whatever a daily one would add up to.
    """
    for field in ("routes", "models"):
        if not covers(getattr(cap, field), getattr(asked, field)):
            return field
    for field in ("expires_s", "rpm", "tpm", "concurrency"):
        most, wanted = getattr(cap, field), getattr(asked, field)
        if most is not None and (wanted is None or wanted > most):
            return field
    wanted_budgets = {each.period: each.limit_micro_usd for each in asked.budgets}
    for each in cap.budgets:
        limit = wanted_budgets.get(each.period)
        if limit is None or limit > each.limit_micro_usd:
            return "budgets"
    return None
