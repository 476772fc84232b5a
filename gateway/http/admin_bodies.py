"""What the admin API reads: the fields of each body and query, checked for names and types before anything else. Pure.

A field that is unknown or of the wrong type is a `BadRequest` that names it. What values mean is checked in `access`.
"""

import re
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from gateway.access.keystore import AdminDraft, Allowance, KeyDraft, KeyLimits, KeyRecord, Role
from gateway.core.errors import BadRequest
from gateway.core.limits import Period
from gateway.core.money import MICRO

MAX_PAGE = 1000
Body = TypeVar("Body", bound=msgspec.Struct)

_FIELD = re.compile(r"field `([^`]{1,80})`")
_PLACE = re.compile(r" - at `\$\.?([^`]{1,80})`")


class BudgetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget: dollars as a number or a string."""

    period: Period
    limit_usd: Decimal


class TenantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PUT /tenants/{name}. What is left out is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budgets: tuple[BudgetBody, ...] = ()
    metadata: dict[str, Any] = {}

    def limits(self) -> KeyLimits:
        """The limits that are asked for. Raises `BadRequest`."""
        return KeyLimits(rpm=self.rpm, tpm=self.tpm, concurrency=self.concurrency, budgets=allowances(self.budgets))


class LimitsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What keys and admin credentials have in common."""

    routes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    expires_s: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budgets: tuple[BudgetBody, ...] = ()

    def limits(self) -> KeyLimits:
        """The limits that are asked for. Raises `BadRequest`."""
        return KeyLimits(
            self.routes,
            self.models,
            self.expires_s,
            self.rpm,
            self.tpm,
            self.concurrency,
            allowances(self.budgets),
        )


class KeyBody(LimitsBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /keys."""

    name: str
    tenant: str
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}

    def draft(self) -> KeyDraft:
        """The key that is asked for. Raises `BadRequest`."""
        return KeyDraft(self.name, self.tenant, self.tags, self.limits(), self.metadata)


class KeyPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH /keys/{id}: what is left out stays as it is, `null` takes a limit away."""

    name: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    routes: tuple[str, ...] | UnsetType | None = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    expires_s: float | UnsetType | None = UNSET
    rpm: int | UnsetType | None = UNSET
    tpm: int | UnsetType | None = UNSET
    concurrency: int | UnsetType | None = UNSET
    budgets: tuple[BudgetBody, ...] | UnsetType = UNSET

    def __call__(self, record: KeyRecord) -> KeyRecord:
        """The record with what the body gives. Raises `BadRequest`."""
        given = {field: value for field in self.__struct_fields__ if (value := getattr(self, field)) is not UNSET}
        if "budgets" in given:
            given["budgets"] = allowances(given["budgets"])
        own = {field: given.pop(field) for field in ("name", "tags", "metadata") if field in given}
        return msgspec.structs.replace(record, **own, limits=msgspec.structs.replace(record.limits, **given))


class RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /keys/{id}/rotate: how long the secret before stays good."""

    grace_s: float = 0.0


class AdminBody(LimitsBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /admins."""

    name: str
    role: Role
    tenant: str | None = None

    def draft(self) -> AdminDraft:
        """The credential that is asked for. Raises `BadRequest`."""
        return AdminDraft(self.name, self.role, self.tenant, self.limits())


class PurgeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /cache/purge: entries that match all that is given. `key` is an exact key, as /cache/explain shows it."""

    tenant: str | None = None
    tag: str | None = None
    route: str | None = None
    key: str | None = None
    entry: str | None = None
    all: bool = False


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /cache/feedback: the entry that answered wrongly, as `x-farthing-cache-entry` named it."""

    entry: str


class ExplainBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /cache/explain: who asks (`tenant` may be left out by a credential of one tenant), and the request."""

    request: msgspec.Raw
    tenant: str | None = None
    tags: tuple[str, ...] = ()
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query without parameters."""


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of lists in the order of making: from after the record `after`."""

    tenant: str | None = None
    after: str | None = None
    limit: int = 100


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the audit, newest first: from before the row `before`."""

    tenant: str | None = None
    subject: str | None = None
    before: int | None = None
    limit: int = 100


def allowances(budgets: tuple[BudgetBody, ...]) -> tuple[Allowance, ...]:
    """Dollars to micro-USD. Raises `BadRequest` for what micro-USD cannot hold exactly."""
    found = []
    for each in budgets:
        micro = each.limit_usd * MICRO if each.limit_usd.is_finite() and abs(each.limit_usd) < MICRO**2 else None
        if micro is None or micro != micro.to_integral_value():
            raise BadRequest("`limit_usd` must be an amount in USD with at most six decimals.", param="budgets")
        found.append(Allowance(each.period, int(micro)))
    return tuple(found)


def read_body(raw: bytes, kind: type[Body]) -> Body:
    """The body as `kind`; an empty one as `{}`. Raises `BadRequest` naming the field that is wrong."""
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as exc:
        raise _named(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest("The body is not valid JSON.", code="invalid_json") from exc


def read_query(given: dict[str, str], kind: type[Body]) -> Body:
    """Query parameters as `kind`. Raises `BadRequest` naming the one that is wrong."""
    try:
        query = msgspec.convert(given, type=kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _named(exc) from exc
    if not 1 <= getattr(query, "limit", 1) <= MAX_PAGE:
        raise BadRequest(f"`limit` must be from 1 to {MAX_PAGE}.", param="limit")
    before = getattr(query, "before", None)
    if before is not None and not 0 <= before < 1 << 62:
        raise BadRequest("`before` must be the `seq` of a row.", param="before")
    if any("\x00" in value for value in given.values()):
        raise BadRequest("A parameter holds a NUL character.")
    return query


def _named(exc: msgspec.ValidationError) -> BadRequest:
    """The sentence of msgspec holds types and the names of fields; values it repeats (unknown choices) are cut."""
    text = str(exc)
    place, field = _PLACE.search(text), _FIELD.search(text)
    param = ".".join(found[1] for found in (place, field) if found) or None
    if param is None:
        return BadRequest(f"The body is wrong: {text}.")
    if field is not None:
        wrong = "is not a field here" if "unknown" in text else "is missing"
    elif "enum" in text:
        wrong = "is not one of the possible values"
    else:
        wrong = f"is wrong: {_PLACE.sub('', text)}"
    return BadRequest(f"`{param}` {wrong}.", param=param)
