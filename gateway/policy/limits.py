"""Which budgets, rates and slots limit a caller on a route, and how money is counted. Look-ups only, no I/O, no clock.

Made by `compile_money`, read on every request. A limit by name (`tenant:shop`) stands in for the one that every member
of its kind has (`tenant`): per period for budgets, per kind for rates and concurrency.
"""

from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from gateway.core.exchange import Identity
from gateway.core.limits import Applies, Budget, Concurrency, Rate

MEMO_ENTRIES: Final = 16_384
EACH: Final = ("tenant", "key")
"""Scopes that give each of their members a limit of its own."""

UnknownPrice = Literal["refuse", "allow"] | int
"""What a request of unknown price is: refused, allowed unbudgeted, or reserved at so many micro-USD."""

Limit = Budget | Rate | Concurrency
L = TypeVar("L", Budget, Rate, Concurrency)
_Slots = dict[str, Limit]
_Key = tuple[str, str, frozenset[str], str]


class MoneyRules(msgspec.Struct, frozen=True):
    """How money is counted. `output_tokens` is per choice; `alert_webhook` holds a secret, so never log it."""

    timezone: str = "UTC"
    unknown_price: UnknownPrice = "refuse"
    output_tokens: int = 16_384
    alert_webhook: str | None = None

    def __repr__(self) -> str:
        """Without the webhook: its address is a credential."""
        return f"MoneyRules({self.timezone!r}, {self.unknown_price!r}, {self.output_tokens})"


class Scoped(msgspec.Struct, frozen=True):
    """A limit as declared: of `scope`, and once per `slot` there (a period, `requests`, `tokens` or `concurrent`)."""

    scope: str
    slot: str
    limit: Limit


class LimitTable:
    """All limits of a policy, by scope; `own` ones hold for the gateway's own requests. Immutable but for a memo."""

    __slots__ = ("_asked_for", "_declared", "_memo")

    def __init__(self, limits: Iterable[Scoped] = (), own: Iterable[Scoped] = ()) -> None:
        self._declared: dict[str, _Slots] = {}
        for each in limits:
            self._declared.setdefault(each.scope, {})[each.slot] = each.limit
        self._asked_for = bool(self._declared)
        for each in own:
            self._declared.setdefault(each.scope, {})[each.slot] = each.limit
        self._memo: dict[_Key, Applies] = {}

    def __bool__(self) -> bool:
        """Whether the policy declares a limit."""
        return self._asked_for

    def applies(self, identity: Identity, route: str) -> Applies:
        """What limits `identity` on `route`: of the key first, then of its tags, its tenant, the route, everybody."""
        if not self._declared:
            return _NOTHING
        key = (identity.tenant, identity.key, identity.tags, route)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            found = self._memo[key] = self._collect(identity, route)
        return found

    def _collect(self, identity: Identity, route: str) -> Applies:
        scopes = [("key", identity.key), *(("tag", tag) for tag in sorted(identity.tags)), ("tenant", identity.tenant)]
        found: list[Limit] = []
        for kind, name in (*scopes, ("route", route)):
            found += self._of(kind, name)
        found += self._declared.get("all", {}).values()
        return Applies(
            tuple([limit for limit in found if isinstance(limit, Budget)]),
            tuple([limit for limit in found if isinstance(limit, Rate)]),
            tuple([limit for limit in found if isinstance(limit, Concurrency)]),
        )

    def _of(self, kind: str, name: str) -> Iterable[Limit]:
        own = self._declared.get(f"{kind}:{name}", {})
        each = self._declared.get(kind) if kind in EACH else None
        if not each:
            return own.values()
        return {**{slot: of_member(limit, kind, name) for slot, limit in each.items()}, **own}.values()


class _Table(Protocol):
    def applies(self, identity: Identity, route: str) -> Applies: ...


class Stricter:
    """What limits a caller under two policies at once: everything of both, of one limit the lower."""

    __slots__ = ("_memo", "_one", "_other")

    def __init__(self, one: _Table, other: _Table) -> None:
        self._one = one
        self._other = other
        self._memo: dict[_Key, Applies] = {}

    def __bool__(self) -> bool:
        """Whether one of them declares a limit."""
        return bool(self._one) or bool(self._other)

    def applies(self, identity: Identity, route: str) -> Applies:
        """As `LimitTable.applies`."""
        key = (identity.tenant, identity.key, identity.tags, route)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            both = (self._one.applies(identity, route), self._other.applies(identity, route))
            found = self._memo[key] = Applies(
                tuple(_lower([each for part in both for each in part.budgets], lambda budget: budget.limit_micro_usd)),
                tuple(_lower([each for part in both for each in part.rates], lambda rate: rate.per_minute)),
                tuple(_lower([each for part in both for each in part.concurrency], lambda slot: slot.most)),
            )
        return found


def _lower(limits: Iterable[L], size: Callable[[L], int]) -> Iterable[L]:
    """Of limits with one id the lowest."""
    found: dict[str, L] = {}
    for each in limits:
        there = found.get(each.id)
        if there is None or size(each) < size(there):
            found[each.id] = each
    return found.values()


_NOTHING: Final = Applies()


def of_member(limit: Limit, kind: str, name: str) -> Limit:
    """The limit that `kind` gives each member, as that of one: `key/requests` becomes `key:ci/requests`."""
    own = f"{kind}:{name}{limit.id.removeprefix(kind)}"
    if isinstance(limit, Budget):
        return msgspec.structs.replace(limit, id=own, scope=f"{kind}:{name}")
    return msgspec.structs.replace(limit, id=own)
