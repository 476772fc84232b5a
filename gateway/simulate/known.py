"""Decides which route a request takes of which only a record is left: real conditions over what the record knows. Pure.

A condition that the record cannot decide is taken from the route that the record names, where that route's conditions
are known to have been the same; else it counts as not met, and the request as undecided.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.core.exchange import Identity
from gateway.policy.facts import LATENCY, SENSITIVE, SensitiveRules
from gateway.policy.table import Policy, Route
from gateway.simulate.traffic import Recorded

_NO: Final = frozenset([b"false", b"0", b"no", b"off", b""])


class Unknown(Exception):
    """The record does not say; `args[0]` names what."""


class RecordedFacts:
    """`gateway.policy.facts.Facts` over a record: what it does not know raises `Unknown`."""

    __slots__ = ("_identity", "_recorded", "_rules", "wall_s")

    def __init__(self, recorded: Recorded, identity: Identity, wall_s: float, rules: SensitiveRules | None) -> None:
        self._recorded = recorded
        self._identity = identity
        self._rules = rules
        self.wall_s = wall_s

    def __getattr__(self, name: str) -> Any:
        """`tools`, `images` and `structured` as recorded; texts never are."""
        value = getattr(self._recorded.facts, name, None)
        if value is None:
            raise Unknown(name)
        return value

    @property
    def input_tokens(self) -> int:
        """As given, else as the provider counted them."""
        known, usage = self._recorded.facts.input_tokens, self._recorded.usage
        if known is None and usage is None:
            raise Unknown("input_tokens")
        return known if known is not None else usage.input  # type: ignore[union-attr]  # one of them is there

    @property
    def latency(self) -> str:
        """By facts, else by the header."""
        known = self._recorded.facts.latency
        if known is None:
            known = "batch" if self._header(LATENCY).strip().lower() == b"batch" else "interactive"
        return known

    @property
    def sensitive(self) -> str | None:
        """Why it is; decided without its text where tenant, tag or the record itself say so."""
        known = self._recorded.facts.sensitive
        if known is not None:
            return known or None
        rules = self._rules
        if rules is not None and self._identity.tenant in rules.tenants:
            return "tenant"
        if rules is not None and not rules.tags.isdisjoint(self._identity.tags):
            return "tag"
        if self._recorded.headers is not None and self._header(SENSITIVE).strip().lower() not in _NO:
            return "header"
        if rules is not None and rules.read_text:
            raise Unknown("sensitive")
        return None

    def _header(self, name: bytes) -> bytes:
        if self._recorded.headers is None:
            raise Unknown(name.decode())
        return dict(self._recorded.headers).get(name, b"")


class Taken(msgspec.Struct, frozen=True):
    """The route, `None` where none takes the request; and the names of the conditions that were not decided."""

    route: Route | None
    undecided: tuple[str, ...] = ()


class Finder:
    """Finds routes of one policy.

    `settled` names those whose conditions were the same when the traffic was recorded; `None` where that is not known:
    then a route of the recorded name is taken to be the same, and of the others nothing is.
    """

    def __init__(self, policy: Policy, settled: frozenset[str] | None) -> None:
        self._policy = policy
        self._settled = settled
        self._single: Mapping[str, tuple[tuple[str, Any], ...]] = {
            route.name: tuple(
                (name, msgspec.structs.replace(route.rule.conditions, names=(name,)))
                for name in route.rule.conditions.names
                if not (name == "days" and "hours" in route.rule.conditions.names)
            )
            for route in policy.routes
            if route.rule.conditions is not None
        }

    def find(self, recorded: Recorded, identity: Identity, wall_s: float) -> Taken:
        """See the module."""
        found = self._policy.find(identity, recorded.model)
        if not isinstance(found, tuple):
            return Taken(found)
        facts = RecordedFacts(recorded, identity, wall_s, self._policy.sensitive)
        undecided: list[str] = []
        for route in found:
            unknown: list[str] = []
            if not all(met for met in self._looked(route, recorded, facts, unknown)):
                continue
            if not unknown:
                return Taken(route, tuple(undecided))
            if recorded.route == route.name and (self._settled is None or route.name in self._settled):
                return Taken(route, tuple(undecided))
            if recorded.route and self._settled is not None and route.name in self._settled:
                continue
            undecided += [f"{route.name}: {name}" for name in unknown]
        return Taken(None, tuple(undecided))

    def _looked(self, route: Route, recorded: Recorded, facts: RecordedFacts, unknown: list[str]) -> Iterator[bool]:
        """Each condition that the record decides; the names of the others are added to `unknown`."""
        if route.rule.headers:
            if recorded.headers is None:
                unknown.append("headers")
            else:
                yield route.rule.heads(list(recorded.headers))
        for name, condition in self._single.get(route.name, ()):
            try:
                yield next(iter(condition.each(facts)))[1]
            except Unknown:
                unknown.append(name)
