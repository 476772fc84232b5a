"""What keys, tenants and admin credentials are: records, how their secrets look, and pure checks of what they may hold.

Secrets are here only while they are made; records hold their SHA-256. Knows no store, no clock and no request.
Fails closed: what cannot be checked is refused, an empty list of routes or models permits nothing.
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.exchange import Identity
from gateway.core.limits import Applies, Budget, Concurrency, Period, Rate
from gateway.core.money import MICRO, usd
from gateway.policy.globs import matches
from gateway.policy.units import BadValue, name, pattern

Role = Literal["owner", "admin", "tenant_admin", "auditor"]

KEY_SECRET = "sk-farthing-"  # noqa: S105 - what a secret begins with
ADMIN_SECRET = "sk-farthing-admin-"  # noqa: S105 - what a secret begins with
SHOWN_CHARS = 4
"""Of the random characters of a secret, so many are kept to tell keys apart; 39 of 43 stay unknown."""
MAX_METADATA_BYTES = 4096
MAX_ENTRIES = 64
MAX_GRACE_S = 30 * 86_400
MAX_COUNT = 1_000_000_000
MAX_LIMIT_MICRO_USD = 1_000_000_000 * MICRO
MAX_TIME_S = 253_402_300_799
"""The last second of the year 9999."""


class Allowance(msgspec.Struct, frozen=True):
    """A budget as a key or tenant carries it: at most one of each period."""

    period: Period
    limit_micro_usd: int


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key may reach and spend; on an admin credential, the most that a key minted with it may. `None`: any.

    `routes` and `models` are names with `*`; models are matched as callers write them. `expires_s` is Unix time.
    `rpm` and `tpm` are requests and tokens per minute.
    """

    routes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    expires_s: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budgets: tuple[Allowance, ...] = ()


class KeyDraft(msgspec.Struct, frozen=True):
    """What is asked for when a key is made."""

    name: str
    tenant: str
    tags: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()
    metadata: dict[str, Any] = {}


class KeyRecord(msgspec.Struct, frozen=True):
    """A key as stored. `prefix` is the part of the secret that is shown; times are Unix seconds.

    `previous_sha256` is the digest before the last rotation, good until `previous_until_s`.
    """

    id: str
    name: str
    tenant: str
    created_s: float
    created_by: str
    prefix: str
    sha256: str
    tags: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()
    metadata: dict[str, Any] = {}
    revoked_s: float | None = None
    previous_sha256: str | None = None
    previous_until_s: float | None = None

    def __repr__(self) -> str:
        """Without digests."""
        return f"KeyRecord({self.id!r}, {self.name!r}, tenant={self.tenant!r})"

    def identity(self) -> Identity:
        """Who a caller with this key is."""
        return Identity(self.tenant, self.id, frozenset(self.tags))


class TenantRecord(msgspec.Struct, frozen=True):
    """A tenant. `limits.budgets` hold for all its keys together; its rates and concurrency for each key without own.

    A tenant has no routes, models or expiry.
    """

    name: str
    created_s: float
    created_by: str
    limits: KeyLimits = KeyLimits()
    metadata: dict[str, Any] = {}


class AdminDraft(msgspec.Struct, frozen=True):
    """What is asked for when an admin credential is made. A tenant_admin has a tenant, an auditor may have one."""

    name: str
    role: Role
    tenant: str | None = None
    limits: KeyLimits = KeyLimits()


class AdminRecord(msgspec.Struct, frozen=True):
    """An admin credential as stored. `limits` cap what it mints; its `expires_s` ends the credential itself too."""

    id: str
    name: str
    role: Role
    tenant: str | None
    created_s: float
    created_by: str
    prefix: str
    sha256: str
    limits: KeyLimits = KeyLimits()
    revoked_s: float | None = None

    def __repr__(self) -> str:
        """Without the digest."""
        return f"AdminRecord({self.id!r}, {self.role!r}, tenant={self.tenant!r})"

    def active(self, now: float) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_s is None and (self.limits.expires_s is None or now < self.limits.expires_s)


class AuditRow(msgspec.Struct, frozen=True):
    """One change. `actor` is a credential's id or `cli:USER`; `before` and `after` hold no secrets and no digests."""

    seq: int
    at_s: float
    actor: str
    action: str
    subject: str
    tenant: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Minted(msgspec.Struct, frozen=True):
    """A new secret, in the open for the only time. `prefix` and `sha256` are what a record keeps of it."""

    secret: str
    prefix: str
    sha256: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Minted({self.prefix!r})"


def digest(secret: str | bytes) -> str:
    """SHA-256 as hex digits: all that is kept of a secret, and the only way to look one up."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def mint(kind: str, randbytes: Callable[[int], bytes]) -> Minted:
    """A new secret that begins with `kind` and ends with 43 characters for 32 bytes of `randbytes`."""
    text = kind + base64.urlsafe_b64encode(randbytes(32)).decode().rstrip("=")
    return Minted(text, text[: len(kind) + SHOWN_CHARS], digest(text))


def new_id(kind: str, randbytes: Callable[[int], bytes]) -> str:
    """A short public id: `kind`, `_` and ten base32 characters (50 random bits)."""
    return f"{kind}_{base64.b32encode(randbytes(7)).decode()[:10].lower()}"


def permits(limits: KeyLimits, route: str, model: str | None) -> bool:
    """Whether a key may take `route` for `model`, the name that the caller wrote.

    A request that names none (`None`) cannot be checked against a list of models: only `*` takes it.
    """
    if limits.routes is not None and not any(matches(glob, route) for glob in limits.routes):
        return False
    if limits.models is None:
        return True
    if model is None:
        return "*" in limits.models
    return any(matches(glob, model) for glob in limits.models)


def limits_of(record: KeyRecord, tenant: TenantRecord | None) -> Applies:
    """What limits a caller with this key: its budgets and its tenant's; its rates, else its tenant's defaults."""
    own = record.limits
    shared = tenant.limits if tenant is not None else KeyLimits()
    key = f"key:{record.id}"
    rpm = own.rpm if own.rpm is not None else shared.rpm
    tpm = own.tpm if own.tpm is not None else shared.tpm
    most = own.concurrency if own.concurrency is not None else shared.concurrency
    rates = []
    if rpm is not None:
        rates.append(Rate(f"{key}/requests", "requests", rpm))
    if tpm is not None:
        rates.append(Rate(f"{key}/tokens", "tokens", tpm))
    return Applies(
        (*_budgets(key, own), *_budgets(f"tenant:{record.tenant}", shared)),
        tuple(rates),
        (Concurrency(key, most),) if most is not None else (),
    )


def _budgets(scope: str, limits: KeyLimits) -> list[Budget]:
    return [Budget(f"{scope}/{each.period}", scope, each.period, each.limit_micro_usd) for each in limits.budgets]


def check_draft(draft: KeyDraft | AdminDraft, now: float | None) -> None:
    """Raises `BadRequest`, naming the field, for what no key or credential may hold. `now` as in `check_limits`."""
    check_title(draft.name)
    if draft.tenant is not None:
        check_name(draft.tenant, "tenant")
    if isinstance(draft, KeyDraft):
        if len(draft.tags) > MAX_ENTRIES:
            raise BadRequest(f"`tags` holds more than {MAX_ENTRIES} entries.", param="tags")
        for tag in draft.tags:
            check_name(tag, "tags")
        check_metadata(draft.metadata)
    elif draft.role == "tenant_admin" and draft.tenant is None:
        raise BadRequest("A tenant_admin needs a `tenant`.", param="tenant")
    elif draft.role in ("owner", "admin") and draft.tenant is not None:
        raise BadRequest(f"The role {draft.role} works on all tenants; leave `tenant` out.", param="tenant")
    check_limits(draft.limits, now)


def check_title(text: str) -> None:
    """Raises `BadRequest` unless `text` is a printable line of 1 to 128 characters."""
    if not 1 <= len(text) <= 128 or not text.isprintable() or text != text.strip():
        raise BadRequest("`name` must be a printable text of 1 to 128 characters.", param="name")


def check_name(text: str, field: str) -> None:
    """Raises `BadRequest` unless `text` is a name as policies take it for tenants and tags."""
    try:
        name(text)
    except BadValue as exc:
        raise BadRequest(f"`{field}`: {exc.message}; {exc.fix}.", param=field) from exc


def check_metadata(metadata: dict[str, Any]) -> None:
    """Raises `BadRequest` for more than 4 KiB of JSON."""
    if len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise BadRequest(f"`metadata` is larger than {MAX_METADATA_BYTES} bytes of JSON.", param="metadata")


def check_limits(limits: KeyLimits, now: float | None) -> None:
    """Raises `BadRequest`, naming the field. An expiry must lie after `now`; `None` leaves that unchecked."""
    for field in ("routes", "models"):
        _check_globs(getattr(limits, field), field)
    if limits.expires_s is not None and not (now or 0.0) < limits.expires_s <= MAX_TIME_S:
        raise BadRequest("`expires_s` must be a time in the future, in Unix seconds.", param="expires_s")
    for field in ("rpm", "tpm", "concurrency"):
        count = getattr(limits, field)
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise BadRequest(f"`{field}` must be from 1 to {MAX_COUNT}; null means no limit.", param=field)
    periods = [each.period for each in limits.budgets]
    if len(periods) != len(set(periods)):
        raise BadRequest("`budgets` has two entries for one period; state each period once.", param="budgets")
    for each in limits.budgets:
        if not 1 <= each.limit_micro_usd <= MAX_LIMIT_MICRO_USD:
            raise BadRequest("`budgets`: a limit must be from $0.000001 to $1,000,000,000.", param="budgets")


def _check_globs(globs: tuple[str, ...] | None, field: str) -> None:
    if globs is None:
        return
    if not 1 <= len(globs) <= MAX_ENTRIES:
        raise BadRequest(f"`{field}` must hold 1 to {MAX_ENTRIES} patterns; null permits any.", param=field)
    try:
        for glob in globs:
            pattern(glob)
    except BadValue as exc:
        raise BadRequest(f"`{field}`: {exc.message}; {exc.fix}.", param=field) from exc


def shown_limits(limits: KeyLimits) -> dict[str, Any]:
    """Limits as the API, the command line and audit rows show them; money as USD strings."""
    fields = msgspec.to_builtins(limits, builtin_types=())
    shown = {field: fields.get(field) for field in KeyLimits.__struct_fields__}
    shown["budgets"] = [{"period": each.period, "limit_usd": usd(each.limit_micro_usd)} for each in limits.budgets]
    return shown


def shown(record: KeyRecord | TenantRecord | AdminRecord) -> dict[str, Any]:
    """A record as it is shown to people: every field but the digests."""
    kind = {KeyRecord: "key", TenantRecord: "tenant", AdminRecord: "admin"}[type(record)]
    fields = {"object": kind} | {field: getattr(record, field) for field in record.__struct_fields__}
    fields |= shown_limits(fields.pop("limits"))
    hidden = {"sha256", "previous_sha256"} | ({"routes", "models", "expires_s"} if kind == "tenant" else set())
    return {field: value for field, value in fields.items() if field not in hidden}
