"""The stage that turns identity and request into a plan: first route that matches, one arm of its split.

Fails closed: no route and no target of that name is 404 `model_not_found`; a sensitive request without a self-hosted
target is 403 `no_self_hosted_target`. The policy that is picked when a request arrives serves it to its end, whatever
is reloaded or rolled back meanwhile.
"""

from collections.abc import Awaitable, Callable

import msgspec

from gateway.core.exchange import Exchange, Next, Plan, Reply, Retries
from gateway.policy.compile import Policy
from gateway.policy.resolve import resolved


class Resolve:
    """See the module. `pick` says which policy serves; `rng` gives floats in [0, 1) and draws the arm of a split."""

    def __init__(self, pick: Callable[[Exchange], Policy], rng: Callable[[], float]) -> None:
        self._pick = pick
        self._rng = rng

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """404, 403, or the next stage with `exchange.plan` set, and `choosing` where a choice is left."""
        call, identity = exchange.call, exchange.identity
        assert identity is not None, "authenticate comes before resolve"
        policy: Policy = self._pick(exchange)
        exchange.decided_by, exchange.policy, exchange.draw = policy, policy.hash, self._rng()
        plan, choosing = resolved(policy, identity, call, exchange.started_wall, exchange.draw)
        if call.endpoint == "other":
            exchange.plan = _single(plan, safe=call.method in ("GET", "HEAD"))
        else:
            exchange.plan, exchange.choosing = plan, choosing
        return call_next(exchange)


def _single(plan: Plan, *, safe: bool) -> Plan:
    """Other paths (files, batches) keep state at one provider: no failover, and no second try but for reads."""
    target = plan.targets[0]
    if not safe:
        retries = Retries(attempts=1, budget=target.retries.budget)
        target = msgspec.structs.replace(target, retries=retries)
    return msgspec.structs.replace(plan, targets=(target,))
