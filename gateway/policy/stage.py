"""The stage that turns identity and request into a plan: first route that matches, one arm of its split.

Fails closed: no route and no target of that name is 404 `model_not_found`. The policy that is current when a
request arrives serves it to its end, whatever is reloaded meanwhile.
"""

from collections.abc import Callable

import msgspec

from gateway.core.errors import NotFound
from gateway.core.exchange import Exchange, Next, Plan, Reply, Retries
from gateway.policy.compile import Policy


class Resolve:
    """See the module. `rng` returns floats in [0, 1) and draws the arm of a split."""

    def __init__(self, current: Callable[[], Policy], rng: Callable[[], float]) -> None:
        self._current = current
        self._rng = rng

    async def __call__(self, exchange: Exchange, call_next: Next) -> Reply:
        """404 or the next stage with `exchange.plan` set."""
        policy = self._current()
        exchange.policy = policy.hash
        call, identity = exchange.call, exchange.identity
        assert identity is not None, "authenticate comes before resolve"
        if call.model is not None:
            route = policy.resolve(identity, call.model, call.headers)
            if route is None:
                raise NotFound(
                    f"The model `{call.model}` does not exist or you do not have access to it.", param="model"
                )
        else:
            route = policy.default_route_for_path(identity, call.headers)
            if route is None:
                raise NotFound(f"No route serves {call.path} without a model.", code="no_route")
        plan = route.plan(self._rng(), exchange.header(b"x-farthing-session") if route.sticky else None)
        exchange.plan = plan if call.endpoint != "other" else _single(plan, safe=call.method in ("GET", "HEAD"))
        return await call_next(exchange)


def _single(plan: Plan, *, safe: bool) -> Plan:
    """Other paths (files, batches) keep state at one provider: no failover, and no second try but for reads."""
    target = plan.targets[0]
    if not safe:
        retries = Retries(attempts=1, budget=target.retries.budget)
        target = msgspec.structs.replace(target, retries=retries)
    return msgspec.structs.replace(plan, targets=(target,))
