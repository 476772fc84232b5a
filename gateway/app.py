"""The composition root: settings in, a served application out. The only module that builds adapters."""

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get

from gateway import discovery
from gateway.access.keys import Authenticate, identify
from gateway.core.clock import SystemClock
from gateway.core.exchange import RequestRecord, Target, Usage
from gateway.dispatch.breaker import BreakerRegistry
from gateway.dispatch.client import HttpClient
from gateway.dispatch.dispatch import Dispatcher
from gateway.dispatch.retry import RetryBudget
from gateway.dispatch.sandbox import Sandbox
from gateway.dispatch.upstream import Upstreams
from gateway.http.edge import Edge, Limits
from gateway.http.server import GuardedProtocol
from gateway.pipeline import Stage, compose
from gateway.policy.load import PRICES, load_policy, read_document
from gateway.policy.secrets import Secrets
from gateway.policy.stage import Resolve
from gateway.policy.table import Policy
from gateway.policy.watch import PolicyHolder
from gateway.pool.health import HealthProber
from gateway.pool.registry import PoolRegistry
from gateway.pricing.book import PriceBook, load_book
from gateway.pricing.resolve import price_of
from gateway.settings import Settings, SettingsError
from gateway.telemetry.log import AccessLog
from gateway.telemetry.prometheus import PrometheusMetrics
from gateway.telemetry.sink import RecordSink

log = logging.getLogger("farthing")
_DAY_S = 86_400
MAX_QUOTES = 4096
"""Callers choose model names, so what is remembered of them is bounded."""
BUNDLED_POLICIES = Path(__file__).parent / "_policies"
"""The routing_policies/ of an installed wheel; in a checkout they lie beside the package."""


class Quotes:
    """Prices by (target, served model): looked up once, forgotten at midnight UTC and when the policy changes."""

    def __init__(self, book: PriceBook, wall: Callable[[], float]) -> None:
        self._book = book
        self._wall = wall
        self._day = -1
        self._known: dict[tuple[str, str], Callable[[Usage], int] | None] = {}

    def forget(self) -> None:
        """After a change of policy: targets may have other prices."""
        self._known.clear()

    def __call__(self, target: Target, model: str, usage: Usage) -> int | None:
        """Micro-USD, `None` when the price is unknown."""
        day = int(self._wall() // _DAY_S)
        if day != self._day or len(self._known) >= MAX_QUOTES:
            self._known.clear()
            self._day = day
        key = (target.name, model)
        try:
            quote = self._known[key]
        except KeyError:
            on = datetime.fromtimestamp(day * _DAY_S, UTC).date()
            price = price_of(target, model, self._book, on)
            quote = self._known[key] = price.cost_total if price is not None else None
        return quote(usage) if quote is not None else None


class Gateway:
    """All components of one process, wired. `load` makes a policy from the files; `book` prices it."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Policy],
        secret_files: Callable[[], Iterable[Path]],
        book: PriceBook,
    ) -> None:
        clock = SystemClock()
        rng = random.random
        self.settings = settings
        self.client = HttpClient()
        self.upstreams = Upstreams(self.client, Sandbox(clock))
        self.breakers = BreakerRegistry(rng)
        self.pools = PoolRegistry(rng)
        self.quotes = Quotes(book, clock.wall)
        self.holder = PolicyHolder(
            settings.policies, load, wall=clock.wall, on_change=self._policy_changed, also=secret_files
        )
        self._policy_changed(self.holder.current)
        self.prober = HealthProber(self.pools, clock, rng)
        self.metrics = PrometheusMetrics()
        self._close_otel: Callable[[], None] | None = None
        self.sink = RecordSink(self._consumers())
        dispatcher = Dispatcher(
            upstreams=self.upstreams,
            pools=self.pools,
            breakers=self.breakers,
            budget=RetryBudget(),
            price=self.quotes,
            clock=clock,
            rng=rng,
        )
        authenticate = Authenticate(lambda: self.holder.current.keys, may_be_open=settings.loopback)
        stages: list[Stage] = [authenticate, Resolve(lambda: self.holder.current, rng)]
        self.edge = Edge(
            compose(stages, dispatcher),
            list_models=self._list_models,
            emit=self.sink.put,
            clock=clock,
            getrandbits=random.getrandbits,
            limits=Limits(max_body_bytes=settings.max_body_mib << 20),
        )
        self._register_gauges(clock.monotonic)

    def _consumers(self) -> list[Callable[[list[RequestRecord]], None]]:
        settings = self.settings
        consumers: list[Callable[[list[RequestRecord]], None]] = [self.metrics.consume]
        if settings.access_log:
            consumers.append(AccessLog())
        if settings.otlp_endpoint:
            from gateway.telemetry.otel import build_otel  # noqa: PLC0415 - heavy, and only where it is configured

            headers = dict(pair.split("=", 1) for pair in settings.otlp_headers.split(",") if "=" in pair)
            consume, self._close_otel = build_otel(settings.otlp_endpoint, headers)
            consumers.append(consume)
            self.metrics.counter(
                "farthing_otel_spans_dropped", "Spans the collector did not take.", (), lambda: [((), consume.dropped)]
            )
        return consumers

    def _policy_changed(self, policy: Policy) -> None:
        self.pools.sync(policy.pools.values())
        self.breakers.retain(policy.targets.keys())
        self.upstreams.forget()
        self.quotes.forget()
        if not policy.keys and not self.settings.loopback:
            log.error("the policy declares no keys and the gateway is reachable from outside: requests are refused")

    def _list_models(self, headers: Mapping[bytes, bytes]) -> list[str]:
        policy = self.holder.current
        return policy.model_names(identify(policy.keys, headers, may_be_open=self.settings.loopback))

    def _register_gauges(self, monotonic: Callable[[], float]) -> None:
        holder, gauge = self.holder, self.metrics.gauge
        gauge("farthing_in_flight", "Requests being answered.", (), lambda: [((), self.edge.in_flight)])
        gauge("farthing_policy_info", "The policy in force.", ("hash",), lambda: [((holder.current.hash,), 1)])
        gauge(
            "farthing_policy_reload_success",
            "1 if the files on disk are the policy in force, 0 if the last good one is kept.",
            (),
            lambda: [((), holder.last_error is None)],
        )
        gauge(
            "farthing_policy_loaded_timestamp_seconds",
            "When the policy in force was loaded.",
            (),
            lambda: [((), holder.loaded_at)],
        )
        self.metrics.counter(
            "farthing_policy_reloads",
            "Reloads since the start.",
            ("result",),
            lambda: [(("ok",), holder.reloads_ok), (("failed",), holder.reloads_failed)],
        )
        gauge(
            "farthing_breaker_state",
            "1 for the state that a target's breaker is in.",
            ("target", "state"),
            lambda: [((name, breaker.state(monotonic()).value), 1) for name, breaker in self.breakers.items()],
        )
        gauge(
            "farthing_replica_healthy",
            "1 while a replica answers its health probe.",
            ("pool", "replica"),
            lambda: [
                ((state.pool.name, replica.url), replica.healthy)
                for state in self.pools.all()
                for replica in state.replicas
            ],
        )
        counter, sink = self.metrics.counter, self.sink
        counter("farthing_records_dropped", "Records lost to a full queue.", (), lambda: [((), sink.dropped)])
        counter("farthing_record_failures", "Batches a consumer failed on.", (), lambda: [((), sink.failures)])

    def application(self) -> Any:
        """The ASGI application: API paths to the edge, the process's own to Litestar."""
        own = Litestar(
            route_handlers=self._own_routes(),
            lifespan=[self._lifespan],
            openapi_config=None,
            logging_config=None,
        )
        own_paths = frozenset(["/health/live", "/health/ready", "/metrics"])
        edge = self.edge

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] not in own_paths:
                await edge(scope, receive)
            else:
                await own(scope, receive, send)

        return application

    def _own_routes(self) -> list[Any]:
        @get("/health/live", media_type=MediaType.TEXT, sync_to_thread=False)
        def live() -> str:
            return "ok"

        @get("/health/ready", sync_to_thread=False)
        def ready() -> dict[str, Any]:
            holder = self.holder
            return {"status": "ready", "policy": holder.current.hash, "policy_error": holder.last_error}

        @get("/metrics", sync_to_thread=False)
        def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
            self.sink.drain()
            text, kind = self.metrics.render(request.headers.get("accept", ""))
            return Response(text, headers={"content-type": kind})

        return [live, ready, metrics]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncGenerator[None, None]:
        jobs: list[Coroutine[Any, Any, None]] = [
            self.holder.watch(self.settings.reload_interval_s),
            self.prober.run(),
            self.sink.run(),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.set_threshold(50_000, 20, 50)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.client.close()
            if self._close_otel is not None:
                await asyncio.to_thread(self._close_otel)


def policies_directory(settings: Settings) -> Path:
    """The configured directory, or the bundled one where the default one does not exist."""
    if settings.policies == Settings.model_fields["policies"].default and not settings.policies.is_dir():
        beside = Path(__file__).parent.parent / "routing_policies"
        return BUNDLED_POLICIES if BUNDLED_POLICIES.is_dir() else beside
    return settings.policies


def load_prices(policies: Path) -> PriceBook:
    """The price book beside the policies, else the one that came with the package."""
    own = policies / PRICES
    if own.is_file():
        return load_book(own)
    for folder in (BUNDLED_POLICIES, Path(__file__).parent.parent / "routing_policies"):
        if (folder / PRICES).is_file():
            return load_book(folder / PRICES)
    raise SettingsError(f"no price book: {own} does not exist and none came with the package")


def build(settings: Settings, environ: Mapping[str, str]) -> tuple[Gateway, tuple[str, ...]]:
    """The gateway and what discovery has to say. Raises `SettingsError` or `PolicyError`."""
    settings = settings.model_copy(update={"policies": policies_directory(settings)})
    secrets = Secrets(environ, settings.policies)
    found = discovery.Found({"version": 1}, ())
    if settings.discover:
        servers = []
        if not discovery.has_keys(environ) and not read_document(settings.policies).targets:
            servers = asyncio.run(discovery.probe())
        found = discovery.policy_document(environ, servers)
    discovered = found.document if settings.discover else None
    book = load_prices(settings.policies)
    gateway = Gateway(
        settings,
        lambda: load_policy(settings.policies, secrets, discovered=discovered),
        lambda: secrets.files,
        book,
    )
    policy = gateway.holder.current
    if not policy.keys and not settings.loopback:
        raise SettingsError(
            f"refusing to serve on {settings.host} without keys: declare `keys:` in the policy, or listen on 127.0.0.1"
        )
    discovered_targets = set((discovered or {}).get("targets", {})) if discovered else set()
    notes = found.notes if discovered_targets and discovered_targets <= set(policy.targets) else ()
    return gateway, notes


def serve(gateway: Gateway, on_listening: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; open answers get `graceful_shutdown_s` to end."""
    settings = gateway.settings
    config = uvicorn.Config(
        gateway.application(),
        host=settings.host,
        port=settings.port,
        http=GuardedProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.graceful_shutdown_s,
        backlog=4096,
    )
    _Server(config, on_listening).run()


class _Server(uvicorn.Server):
    """Says where it listens once it does; with port 0 nobody else knows."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
