"""The composition root: settings in, a served application out. The only module that builds adapters."""

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, Response, get

from gateway import discovery, gauges, welcome
from gateway.access.alerts import Alerts
from gateway.access.keys import Authenticate, identify
from gateway.access.keystore import permits
from gateway.access.stage import Admit
from gateway.books import Books
from gateway.cache.admin import CacheAdmin
from gateway.caching import Caching
from gateway.choosing import Choosing
from gateway.core.clock import SystemClock
from gateway.core.errors import PolicyError
from gateway.core.exchange import Exchange, RequestRecord
from gateway.core.ids import uuid7
from gateway.dispatch.breaker import BreakerRegistry
from gateway.dispatch.client import HttpClient
from gateway.dispatch.dispatch import Dispatcher
from gateway.dispatch.retry import RetryBudget
from gateway.dispatch.sandbox import Sandbox
from gateway.dispatch.upstream import Upstreams
from gateway.http.admin import ADMIN_ERRORS, admin_router
from gateway.http.admin_cache import cache_routes
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
from gateway.pricing.live import HostedPrices
from gateway.pricing.quotes import Quotes
from gateway.settings import Settings, SettingsError
from gateway.telemetry.log import AccessLog
from gateway.telemetry.prometheus import PrometheusMetrics
from gateway.telemetry.sink import RecordSink

log = logging.getLogger("farthing")
BUNDLED_POLICIES = Path(__file__).parent / "_policies"
"""The routing_policies/ of an installed wheel; in a checkout they lie beside the package."""


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
        self.clock = clock
        self._rng = rng
        self.books = Books(settings, clock) if settings.keeps_books else None
        self.client = HttpClient()
        self.upstreams = Upstreams(self.client, Sandbox(clock))
        self.breakers = BreakerRegistry(rng)
        self.pools = PoolRegistry(rng)
        self.hosted = HostedPrices((), clock.wall)
        self.quotes = Quotes(book, clock.wall, charged=self.hosted.price, ceiling=self.hosted.ceiling)
        self.holder = PolicyHolder(
            settings.policies, load, wall=clock.wall, on_change=self._policy_reloaded, also=secret_files
        )
        self._policy_changed(self.holder.current)
        self.caching = Caching(
            settings,
            lambda: self.holder.current,
            self.books.database if self.books is not None else None,
            clock,
            lambda: uuid7(clock.wall(), random.getrandbits),
        )
        self.choosing = Choosing(settings, lambda: self.holder.current, self.caching.encoder)
        self.cache_admin = CacheAdmin(lambda: self.caching.opened, lambda: self.holder.current, clock)
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
        self.alerts = Alerts(lambda: self.holder.current.money.alert_webhook, post_json)
        admit = self._admission()
        self.caching.ask_through(compose(admit, dispatcher), self._finish)
        self.caching.open_for(self.holder.current)
        self.choosing.open_for(self.holder.current)
        found: list[Stage] = [*self._first_stages(), self.caching.lookup, self.choosing.stage]
        self.edge = Edge(
            compose([*found, *admit, self.caching.serve], dispatcher),
            list_models=self._list_models,
            finish=self._finish,
            clock=clock,
            getrandbits=random.getrandbits,
            limits=Limits(max_body_bytes=settings.max_body_mib << 20),
        )
        self._register_gauges()

    def _first_stages(self) -> list[Stage]:
        """Who asks, and where the request goes."""
        keyring = self.books.keyring if self.books is not None else None
        return [
            Authenticate(lambda: self.holder.current.keys, may_be_open=self.settings.loopback, keyring=keyring),
            Resolve(lambda: self.holder.current, self._rng),
        ]

    def _admission(self) -> list[Stage]:
        """What holds a request to its limits; nothing where no books are kept."""
        books = self.books
        if books is None:
            return []
        admit = Admit(
            lambda: self.holder.current,
            books.accounts,
            books.keyring,
            price_of=self.quotes.most,
            admit=books.writer.admit,
            alerts=self.alerts,
            clock=self.clock,
        )
        return [admit]

    def _finish(self, exchange: Exchange, now: float) -> None:
        """The end of every request: its books are closed, then its record goes to whoever watches."""
        books = self.books
        if books is None:
            self.sink.put(exchange.record(now))
        else:
            self.sink.put(books.finish(exchange, now, self.holder.current, self.quotes))

    def _consumers(self) -> list[Callable[[list[RequestRecord]], None]]:
        settings = self.settings
        consumers: list[Callable[[list[RequestRecord]], None]] = [self.metrics.consume, self._observe]
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

    def _observe(self, batch: list[RequestRecord]) -> None:
        for record in batch:
            self.hosted.observe(record)

    def _policy_reloaded(self, policy: Policy) -> None:
        self._policy_changed(policy)
        self.caching.policy_changed(policy)
        self.choosing.policy_changed(policy)

    def _policy_changed(self, policy: Policy) -> None:
        self.pools.sync(policy.pools.values())
        self.hosted.sync(policy.pools.values())
        self.breakers.retain(policy.targets.keys())
        self.upstreams.forget()
        self.quotes.forget()

    def _list_models(self, headers: Mapping[bytes, bytes]) -> list[str]:
        policy, keyring = self.holder.current, self.books.keyring if self.books is not None else None
        identity = identify(policy.keys, headers, may_be_open=self.settings.loopback, keyring=keyring)
        names = policy.model_names(identity)
        held = keyring.by_id.get(identity.key) if keyring is not None else None
        if held is None:
            return names
        routes = {name: policy.resolve(identity, name, []) for name in names}
        return [name for name, route in routes.items() if route and permits(held.limits, route.name, name)]

    def _register_gauges(self) -> None:
        metrics, sink = self.metrics, self.sink
        gauges.policy(metrics, self.holder)
        gauges.upstreams(metrics, self.breakers, self.pools, self.clock.monotonic)
        if self.books is not None:
            gauges.budgets(metrics, self.books, self.alerts)
            gauges.ledger(metrics, self.books.writer)
        gauges.hosted(metrics, self.hosted)
        gauges.cache(metrics, self.caching, self.cache_admin)
        gauges.routing(metrics, self.choosing)
        metrics.gauge("farthing_in_flight", "Requests being answered.", (), lambda: [((), self.edge.in_flight)])
        metrics.counter("farthing_records_dropped", "Records lost to a full queue.", (), lambda: [((), sink.dropped)])
        metrics.counter("farthing_record_failures", "Batches a consumer failed on.", (), lambda: [((), sink.failures)])

    def application(self) -> Any:
        """The ASGI application: API paths to the edge, the process's own to Litestar."""
        books, handlers = self.books, self._own_routes()
        if books is not None:
            cache = cache_routes(self.cache_admin, books.keys, self.clock)
            handlers.append(admin_router(books.keys, books.keyring, books.spent, self.clock, cache))
        own = Litestar(
            route_handlers=handlers,
            lifespan=[self._lifespan],
            exception_handlers=ADMIN_ERRORS,
            openapi_config=None,
            logging_config=None,
        )
        own_paths = frozenset(["/health/live", "/health/ready", "/metrics"])
        edge = self.edge

        async def application(scope: Any, receive: Any, send: Any) -> None:
            path = scope.get("path", "")
            if scope["type"] == "http" and path not in own_paths and not path.startswith("/admin/"):
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
            self.alerts.run(),
            self.caching.run(),
            self.choosing.run(),
        ]
        if self.books is not None:
            jobs += self.books.jobs()
            self.books.writer.start()
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
            await self.caching.aclose()
            await self.choosing.aclose()
            if self.books is not None:
                await self.books.aclose()
            if self._close_otel is not None:
                await asyncio.to_thread(self._close_otel)


async def post_json(url: str, body: bytes) -> None:
    """Delivers an alert; raises `OSError` when it was not taken."""
    import httpx  # noqa: PLC0415 - heavy, and rarely needed

    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as exc:
        raise OSError(f"{type(exc).__name__}: {exc}") from exc
    if not answer.is_success:
        raise OSError(f"status {answer.status_code}")


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
        lambda: _fits(load_policy(settings.policies, secrets, discovered=discovered), settings),
        lambda: secrets.files,
        book,
    )
    policy = gateway.holder.current
    discovered_targets = set((discovered or {}).get("targets", {})) if discovered else set()
    notes = found.notes if discovered_targets and discovered_targets <= set(policy.targets) else ()
    return gateway, notes


def _fits(policy: Policy, settings: Settings) -> Policy:
    """The policy; raises `PolicyError` when it asks for what the settings have switched off."""
    if policy.has_limits and not settings.keeps_books:
        raise PolicyError(
            "the policy declares budgets or limits, and FARTHING_DATABASE=none keeps no books; fix: remove one of them"
        )
    return policy


def greeting(gateway: Gateway, url: str, notes: Sequence[str]) -> str:
    """What is printed once the gateway listens."""
    books, policy = gateway.books, gateway.holder.current
    has_keys = bool(policy.keys) or (books is not None and not books.keyring.empty)
    owner = books.owner_secret if books is not None else None
    return welcome.text(url, policy, gateway.settings, notes, has_keys=has_keys, owner_secret=owner)


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
