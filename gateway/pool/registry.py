"""Keeps the state of pools across policy reloads; knows neither policies nor how replicas are probed."""

from collections.abc import Callable, Iterable

from gateway.core.exchange import Pool
from gateway.dispatch.breaker import Breaker
from gateway.pool.balance import Balancer, PoolState, Replica, RoundRobin


class PoolRegistry:
    """Pools by name. A replica's health, breaker and load live as long as its pool's name and its URL do."""

    def __init__(self, rng: Callable[[], float], balancer: Callable[[], Balancer] = RoundRobin) -> None:
        self._rng = rng
        self._balancer = balancer
        self._pools: dict[str, PoolState] = {}

    def sync(self, pools: Iterable[Pool]) -> None:
        """Makes `pools` the current ones, keeping what is known of those that stay.

        A call that runs on a replaced `PoolState` is not disturbed: it shares the surviving replicas.
        """
        self._pools = {pool.name: self._state(pool) for pool in pools}

    def get(self, name: str) -> PoolState:
        """The pool of this name; raises `KeyError` for one that the last `sync` did not name."""
        return self._pools[name]

    def all(self) -> list[PoolState]:
        """All current pools, for probes and metrics."""
        return list(self._pools.values())

    def _state(self, pool: Pool) -> PoolState:
        old = self._pools.get(pool.name)
        if old is not None and old.pool == pool:
            return old
        known = {replica.url: replica for replica in old.replicas} if old is not None else {}
        replicas = tuple(known.get(url) or Replica(url, Breaker(self._rng)) for url in pool.replicas)
        return PoolState(pool, replicas, old.balancer if old is not None else self._balancer())
