"""Asks each replica whether it is healthy, at its pool's interval; what follows from the answer is `Replica`'s to say.

Fails open: a replica that was never probed counts as healthy, and so do all of them when too few are.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.core.clock import Clock
from gateway.pool.balance import Replica
from gateway.pool.registry import PoolRegistry

if TYPE_CHECKING:
    import httpx

PROBE_TIMEOUT_S: Final = 2.0
JITTER: Final = 0.1
"""Fraction by which an interval is stretched or shrunk, so that gateways do not probe in step."""
_TICK_S: Final = 0.25


class HealthProber:
    """Probes the replicas of all current pools with `GET {replica}{health_path}`; any 2xx is healthy.

    Follows a reload by itself. `rng` returns floats in [0, 1). A probe fails after `timeout_s`.
    """

    def __init__(
        self, pools: PoolRegistry, clock: Clock, rng: Callable[[], float], timeout_s: float = PROBE_TIMEOUT_S
    ) -> None:
        self._pools = pools
        self._clock = clock
        self._rng = rng
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Probes until cancelled."""
        async with self.client() as client:
            while True:
                await self.sweep(client)
                await asyncio.sleep(_TICK_S)

    @staticmethod
    def client() -> "httpx.AsyncClient":
        """The client that `sweep` takes; close it. It reads no proxy settings and follows no redirects."""
        import httpx  # noqa: PLC0415 - slow to import, and a gateway without pools never needs it

        # Its own timeouts are per read, which a server that drips bytes never misses: `_probe` sets one over all.
        limits = httpx.Limits(max_keepalive_connections=100)
        return httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113 - see above

    async def sweep(self, client: "httpx.AsyncClient") -> None:
        """One round: probes the replicas that are due, at once, and returns when all have answered or timed out."""
        now = self._clock.monotonic()
        probes = []
        for state in self._pools.all():
            for replica in state.replicas:
                if now >= replica.probe_at:
                    stretch = 1.0 + JITTER * (2.0 * self._rng() - 1.0)
                    replica.probe_at = now + state.pool.health_interval_s * stretch
                    probes.append(self._probe(client, replica, state.pool.health_path))
        if probes:
            await asyncio.gather(*probes)

    async def _probe(self, client: "httpx.AsyncClient", replica: Replica, path: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s), client.stream("GET", replica.url + path) as response:
                error = None if response.is_success else f"status {response.status_code}"
        except TimeoutError:
            error = "timeout"
        except Exception as exc:  # noqa: BLE001 - a task's root: whatever is wrong with one URL ends up on its replica
            error = type(exc).__name__
        replica.observe(error)
