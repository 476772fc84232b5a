"""Decides which replica of a pool serves a call, from health, breakers and a balancing rule; does no I/O.

`Balancer` is the seam for other rules: it sees only replicas that may be used, and the call.
"""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from gateway.core.exchange import Call, Pool
from gateway.dispatch.breaker import Breaker

UNHEALTHY_AFTER: Final = 2
"""Failed probes in a row."""
PANIC_BELOW: Final = 0.5
"""With a smaller share of healthy replicas, health is ignored: the probes are likelier wrong than all replicas dead,
and the few left would be buried (Envoy's panic threshold)."""


class Replica:
    """One server of a pool: what is known of it in this process.

    `healthy` is the prober's opinion and starts as True. `in_flight` is counted by whoever calls. `probe_at` is
    the monotonic time of the next probe, `health_error` why the last one failed.
    """

    __slots__ = ("breaker", "failed_probes", "health_error", "healthy", "in_flight", "probe_at", "url")

    def __init__(self, url: str, breaker: Breaker) -> None:
        self.url = url
        self.breaker = breaker
        self.healthy = True
        self.in_flight = 0
        self.failed_probes = 0
        self.health_error: str | None = None
        self.probe_at = float("-inf")

    def observe(self, error: str | None) -> None:
        """Takes a probe's result (`None` is good): `UNHEALTHY_AFTER` bad ones eject, one good one readmits."""
        self.health_error = error
        self.failed_probes = 0 if error is None else self.failed_probes + 1
        if self.failed_probes >= UNHEALTHY_AFTER:
            self.healthy = False
        elif error is None:
            self.healthy = True


class Balancer(Protocol):
    """A rule that spreads calls."""

    def choose(self, replicas: Sequence[Replica], call: Call) -> Replica | None:
        """One of `replicas`, all of which may be used, in the pool's order; `None` only if there are none.

        Must not wait: whoever asked takes the replica's breaker permit in the same step of the event loop.
        """
        ...


class RoundRobin:
    """The replica that was chosen longest ago; ties go by the pool's order.

    So the turn survives ejections and returns: a replica that was away gets one call, not a burst.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._last: dict[str, int] = {}

    def choose(self, replicas: Sequence[Replica], call: Call) -> Replica | None:  # noqa: ARG002 - the port's
        """See `Balancer`."""
        last = self._last
        chosen: Replica | None = None
        oldest = self._turn + 1
        for replica in replicas:
            turn = last.get(replica.url, 0)
            if turn < oldest:
                chosen, oldest = replica, turn
        if chosen is not None:
            self._turn += 1
            last[chosen.url] = self._turn
        return chosen


class PoolState:
    """A pool of the current policy and its replicas."""

    __slots__ = ("balancer", "pool", "replicas")

    def __init__(self, pool: Pool, replicas: tuple[Replica, ...], balancer: Balancer) -> None:
        self.pool = pool
        self.replicas = replicas
        self.balancer = balancer

    @property
    def panic(self) -> bool:
        """Whether too few replicas are healthy for health to be believed."""
        return sum([replica.healthy for replica in self.replicas]) < PANIC_BELOW * len(self.replicas)

    def choose(self, call: Call, now: float, tried: Collection[Replica] = ()) -> Replica | None:
        """The replica for this call, preferably none of `tried`; `None` when no breaker admits one."""
        usable = self._usable(now)
        if tried:
            usable = [replica for replica in usable if replica not in tried] or usable
        return self.balancer.choose(usable, call)

    def has_sibling(self, now: float, tried: Collection[Replica]) -> bool:
        """Whether a replica can be used that is none of `tried`."""
        return any(replica not in tried for replica in self._usable(now))

    def ready_in(self, now: float) -> float:
        """Seconds until `choose` finds a replica; 0.0 means now, infinity that the pool has none."""
        panic = self.panic
        soonest = float("inf")
        for replica in self.replicas:
            if panic or replica.healthy:
                wait_s = replica.breaker.ready_in(now)
                if wait_s <= 0.0:
                    return 0.0
                soonest = min(soonest, wait_s)
        return soonest

    def _usable(self, now: float) -> list[Replica]:
        panic = self.panic
        return [r for r in self.replicas if (panic or r.healthy) and r.breaker.allow(now)]
