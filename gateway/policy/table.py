"""The compiled policy: which route a request takes and which plan the route gives. Only look-ups, no I/O, no parsing.

Made by `compile`, read on every request. All that can be decided before is: plans are built once, routes are
indexed by exact model name, and answers are remembered per (tenant, tags, model) in a bounded table.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final

import msgspec

from gateway.core.exchange import Identity, Plan, Pool, Target
from gateway.core.limits import Applies
from gateway.policy.caching import CacheRule
from gateway.policy.choosing import Classify
from gateway.policy.conditions import Conditions
from gateway.policy.facts import Facts, SensitiveRules
from gateway.policy.globs import matches
from gateway.policy.limits import LimitTable, MoneyRules, Stricter

MEMO_ENTRIES: Final = 4096
MEMO_MODEL_CHARS: Final = 256

_Headers = list[tuple[bytes, bytes]]
_Key = tuple[str, frozenset[str], str | None]


class Rule(msgspec.Struct, frozen=True):
    """When a route matches. `None` sets no condition. `headers` are lower-case names with a value pattern.

    `conditions` look at the request itself, and are evaluated only for routes that state them.
    """

    models: frozenset[str] | None = None
    globs: tuple[str, ...] = ()
    tenants: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    headers: tuple[tuple[bytes, str], ...] = ()
    conditions: Conditions | None = None

    @property
    def open(self) -> bool:
        """Whether caller and model decide alone."""
        return not self.headers and self.conditions is None

    def admits(self, tenant: str, tags: frozenset[str]) -> bool:
        """Whether the caller is one that the route is for."""
        return (self.tenants is None or tenant in self.tenants) and (
            self.tags is None or not self.tags.isdisjoint(tags)
        )

    def takes(self, model: str | None) -> bool:
        """Whether the route is for `model`; without a model only routes for every model are."""
        if self.models is None or "*" in self.globs:
            return True
        return model is not None and (model in self.models or any(matches(glob, model) for glob in self.globs))

    def heads(self, headers: _Headers) -> bool:
        """Whether every header condition is met by some header of that name (values as Latin-1)."""
        return all(
            any(name == wanted and matches(pattern, value.decode("latin-1")) for name, value in headers)
            for wanted, pattern in self.headers
        )

    def holds(self, headers: _Headers, facts: Facts | None) -> bool:
        """Whether headers and conditions are met; without facts no condition is."""
        return (not self.headers or self.heads(headers)) and (
            self.conditions is None or (facts is not None and self.conditions.hold(facts))
        )


class Arm(msgspec.Struct, frozen=True):
    """One side of a route: its weight, and its plan when drawn at random and when chosen by the session."""

    weight: float
    drawn: Plan
    kept: Plan


class Route:
    """A named way through the gateway. Immutable; `plan` returns one of the plans it was built with.

    `sticky` says that `plan` looks at the session. Sides of weight 0 are left out; one at least has a weight.
    `classify` is the choice that is still to be made, whose strong plan is then the route's; `None` when there is none.
    """

    __slots__ = ("_arms", "_limits", "_only", "_salt", "classify", "name", "rule", "sticky", "targets")

    def __init__(
        self, name: str, rule: Rule, arms: Sequence[Arm], *, sticky: bool = False, classify: Classify | None = None
    ) -> None:
        live = [arm for arm in arms if arm.weight > 0]
        self.classify = classify
        self.name = name
        self.rule = rule
        self.sticky = sticky
        plans = [arm.drawn for arm in live] + ([classify.weak] if classify is not None else [])
        self.targets = tuple({target.name: target for plan in plans for target in plan.targets}.values())
        self._arms = tuple(live)
        self._only = live[0].drawn if len(live) == 1 else None
        self._salt = name.encode() + b"\0"
        running = list(accumulate(arm.weight for arm in live))
        self._limits = [upto / running[-1] for upto in running]

    def __repr__(self) -> str:
        """The name is enough."""
        return f"Route({self.name!r})"

    @property
    def primaries(self) -> tuple[str, ...]:
        """Names of the targets that requests of this route go to first."""
        weak = (self.classify.weak.targets[0].name,) if self.classify is not None else ()
        return (*(arm.drawn.targets[0].name for arm in self._arms), *weak)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Every plan that it can give at first, in order."""
        weak = (self.classify.weak,) if self.classify is not None else ()
        return (*(arm.drawn for arm in self._arms), *weak)

    def plan(self, draw: float, session: str | None = None) -> Plan:
        """Where this request goes. `draw` is uniform in [0, 1).

        In a sticky split a session replaces the draw by a hash of (route, session): the same one on every
        replica, and sessions move only as far as weights are shifted between neighbouring sides.
        """
        if self._only is not None:
            return self._only
        if session is not None and self.sticky:
            digest = blake2b(self._salt + session.encode("utf-8", "surrogatepass"), digest_size=6).digest()
            return self._arm(int.from_bytes(digest, "big") / (1 << 48)).kept
        return self._arm(draw).drawn

    def _arm(self, draw: float) -> Arm:
        return self._arms[min(bisect_right(self._limits, draw), len(self._arms) - 1)]


_UNSEEN: Final[tuple[Route, ...]] = ()


class Policy:
    """One version of the operator's policy; replaced as a whole, never changed.

    `hash` is the first 12 hex digits of the SHA-256 of its content (references to secrets, not their values).
    `keys` maps the SHA-256 hex digest of a caller's secret to who that is. `baseline` is what savings are counted
    against, `None` when they are not. `caching` has the rules of the routes that cache, by the route's name.
    `sensitive` has the rules by which requests keep to self-hosted targets, `None` without any. `text` is what it was
    compiled from, for `gateway.policy.load.document_from_stored`: references to secrets, not their values.
    """

    __slots__ = (
        "__weakref__",
        "_direct",
        "_exact",
        "_limits",
        "_memo",
        "_names",
        "_open",
        "baseline",
        "caching",
        "hash",
        "keys",
        "money",
        "pools",
        "routes",
        "sensitive",
        "targets",
        "text",
    )

    def __init__(
        self,
        hash_: str,
        targets: Mapping[str, Target],
        pools: Mapping[str, Pool],
        keys: Mapping[str, Identity],
        routes: Sequence[Route],
        direct: Mapping[str, Route],
        *,
        limits: LimitTable | Stricter,
        baseline: Target | None,
        money: MoneyRules,
        caching: Mapping[str, CacheRule],
        sensitive: SensitiveRules | None = None,
        text: bytes = b"",
    ) -> None:
        self.hash = hash_
        self.text = text
        self.targets = dict(targets)
        self.pools = dict(pools)
        self.keys = dict(keys)
        self.routes = tuple(routes)
        self.baseline = baseline
        self.money = money
        self.caching = dict(caching)
        self.sensitive = sensitive
        self._limits = limits
        self._direct = dict(direct)
        self._exact: dict[str, list[int]] = {}
        self._open: list[int] = []
        for index, route in enumerate(routes):
            for model in route.rule.models or ():
                self._exact.setdefault(model, []).append(index)
            if route.rule.models is None or route.rule.globs:
                self._open.append(index)
        self._memo: dict[_Key, Route | tuple[Route, ...] | None] = {}
        self._names: dict[tuple[str, frozenset[str]], list[str]] = {}

    def find(self, identity: Identity, model: str | None) -> Route | tuple[Route, ...] | None:
        """The route that caller and model decide; or, where more decides, all in question in order; or `None`.

        Without a model (files, batches): the first route for every model, else the sole target. A look-up.
        """
        key = (identity.tenant, identity.tags, model)
        found = self._memo.get(key, _UNSEEN)
        return self._learn(key) if found is _UNSEEN else found

    def resolve(self, identity: Identity, model: str, headers: _Headers, facts: Facts | None = None) -> Route | None:
        """The first route that matches, else the target of that name, else `None`: an unknown model.

        `headers` are lower-case pairs; they and `facts` are looked at only when a route in question asks for more than
        caller and model. Without facts no condition of the request itself is met.
        """
        found = self.find(identity, model)
        return first(found, headers, facts) if isinstance(found, tuple) else found

    def default_route_for_path(self, identity: Identity, headers: _Headers, facts: Facts | None = None) -> Route | None:
        """The route of a request without a model (files, batches); `None` when there is none."""
        found = self.find(identity, None)
        return first(found, headers, facts) if isinstance(found, tuple) else found

    @property
    def has_limits(self) -> bool:
        """Whether it declares budgets or limits."""
        return bool(self._limits)

    @property
    def limit_table(self) -> LimitTable | Stricter:
        """All its budgets and limits."""
        return self._limits

    def limits(self, identity: Identity, route_name: str) -> Applies:
        """Every budget, rate and slot that limits `identity` on the route of this name; empty when nothing does."""
        return self._limits.applies(identity, route_name)

    def model_names(self, identity: Identity) -> list[str]:
        """The names `identity` can ask for: exact names in its routes, then targets reached by their own name.

        Patterns have no end and are left out; header conditions are taken as met.
        """
        key = (identity.tenant, identity.tags)
        names = self._names.get(key)
        if names is None:
            if len(self._names) >= MEMO_ENTRIES:
                self._names.clear()
            names = self._names[key] = self._list_names(identity)
        return list(names)

    def _list_names(self, identity: Identity) -> list[str]:
        names: dict[str, None] = {}
        for route in self.routes:
            if route.rule.admits(identity.tenant, identity.tags):
                names.update(dict.fromkeys(sorted(route.rule.models or ())))
        for name in self.targets:
            reached = self.resolve(identity, name, [])
            if reached is not None and name in reached.primaries:
                names[name] = None
        return list(names)

    def _learn(self, key: _Key) -> Route | tuple[Route, ...] | None:
        """Answers `key` and remembers it, in a table that callers' inventions cannot grow past its bound."""
        found = self._match(*key)
        model = key[2]
        if model is None or len(model) <= MEMO_MODEL_CHARS:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            self._memo[key] = found
        return found

    def _match(self, tenant: str, tags: frozenset[str], model: str | None) -> Route | tuple[Route, ...] | None:
        """See `find`."""
        exact = self._exact.get(model, []) if model is not None else []
        candidates: list[Route] = []
        for index in sorted({*exact, *self._open}) if exact else self._open:
            route = self.routes[index]
            if route.rule.admits(tenant, tags) and route.rule.takes(model):
                candidates.append(route)
                if route.rule.open:
                    break
        else:
            direct = self._fallthrough(model)
            if direct is not None:
                candidates.append(direct)
        if not candidates:
            return None
        return candidates[0] if candidates[0].rule.open else tuple(candidates)

    def _fallthrough(self, model: str | None) -> Route | None:
        """What is taken when no route matches: the named target, or the only one where nothing is named."""
        if model is not None:
            return self._direct.get(model)
        return next(iter(self._direct.values())) if len(self.targets) == 1 and self._direct else None


def first(candidates: tuple[Route, ...], headers: _Headers, facts: Facts | None) -> Route | None:
    """The first of `candidates` whose headers and conditions are met."""
    for route in candidates:
        if route.rule.holds(headers, facts):
            return route
    return None
