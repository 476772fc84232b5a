"""Which plan a request has before any model looks at it: the route, the arm of its split, what sensitivity leaves.

Pure, and the same for serving, lint, explain and simulation: time and draw are arguments. Fails closed, see `resolved`.
"""

from collections.abc import Iterator

import msgspec

from gateway.core.errors import NotFound
from gateway.core.exchange import Call, Identity, Plan
from gateway.policy.choosing import Classify, confined, no_self_hosted
from gateway.policy.facts import SENSITIVE, Facts
from gateway.policy.table import Policy, Route, first

_SESSION = b"x-farthing-session"


class Tried(msgspec.Struct, frozen=True):
    """A route that caller and model leave in question, and whether each of its further conditions is met."""

    route: str
    conditions: tuple[tuple[str, bool], ...]

    @property
    def taken(self) -> bool:
        """Whether all are."""
        return all(met for _, met in self.conditions)


def resolved(
    policy: Policy, identity: Identity, call: Call, wall_s: float, draw: float
) -> tuple[Plan, Classify | None]:
    """The plan, and the choice that is left. `draw` is uniform in [0, 1), `wall_s` seconds since the epoch.

    Raises `NotFound` where no route takes the request, `Forbidden` (`no_self_hosted_target`) for a sensitive one that
    would have to leave the operator's machines.
    """
    facts: Facts | None = None
    found = policy.find(identity, call.model)
    if isinstance(found, tuple):
        facts = Facts(call, identity, wall_s, policy.sensitive)
        found = first(found, call.headers, facts)
    if found is None:
        raise _not_found(call)
    plan = found.plan(draw, _session(call) if found.sticky else None)
    if plan.sensitive is None and (policy.sensitive is not None or SENSITIVE in call.index):
        why = (facts or Facts(call, identity, wall_s, policy.sensitive)).sensitive
        if why is not None:
            plan = kept_inside(found, plan, why)
    return plan, found.classify


def tried(policy: Policy, identity: Identity, call: Call, wall_s: float) -> Iterator[Tried]:
    """The routes in question, up to the one that is taken, and why those before it are not."""
    found = policy.find(identity, call.model)
    facts = Facts(call, identity, wall_s, policy.sensitive)
    for route in found if isinstance(found, tuple) else (found,) if found is not None else ():
        each = Tried(route.name, tuple(_looked(route, call, facts)))
        yield each
        if each.taken:
            return


def _looked(route: Route, call: Call, facts: Facts) -> Iterator[tuple[str, bool]]:
    rule = route.rule
    if rule.headers:
        yield "headers", rule.heads(call.headers)
    if rule.conditions is not None:
        yield from rule.conditions.each(facts)


def kept_inside(route: Route, plan: Plan, why: str) -> Plan:
    """The plan without what is not self-hosted; where nothing is left, that of the first arm that has something."""
    for each in (plan, *route.plans):
        kept = confined(each, why)
        if kept is not None:
            return kept
    raise no_self_hosted(route.name, why)


def _session(call: Call) -> str | None:
    session = call.index.get(_SESSION)
    return None if session is None else session.decode("latin-1")


def _not_found(call: Call) -> NotFound:
    if call.model is None:
        return NotFound(f"No route serves {call.path} without a model.", code="no_route")
    return NotFound(f"The model `{call.model}` does not exist or you do not have access to it.", param="model")
