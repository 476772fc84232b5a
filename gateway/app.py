"""The composition root: settings in, a served application out. The only module that builds adapters."""

import asyncio
import contextlib
import gc
import logging
import random
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
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
from gateway.core.clock import Clock, SystemClock
from gateway.core.errors import PolicyError
from gateway.core.exchange import Exchange, RequestRecord
from gateway.core.ids import uuid7
from gateway.dispatch.breaker import BreakerRegistry
from gateway.dispatch.client import HttpClient
from gateway.dispatch.dispatch import Dispatcher
from gateway.dispatch.retry import RetryBudget
from gateway.dispatch.sandbox import Sandbox
from gateway.dispatch.upstream import Upstreams
from gateway.encoder.once import Once
from gateway.http.admin import ADMIN_ERRORS, Row, admin_router
from gateway.http.admin_cache import cache_routes
from gateway.http.admin_rollout import rollout_routes
from gateway.http.edge import Edge, Limits
from gateway.http.server import GuardedProtocol
from gateway.pipeline import Stage, compose
from gateway.policy.compile import compile_policy
from gateway.policy.load import PRICES, document_from_stored, load_policy, read_document
from gateway.policy.secrets import Secrets
from gateway.policy.stage import Resolve
from gateway.policy.table import Policy
from gateway.policy.watch import PolicyHolder
from gateway.pool.health import HealthProber
from gateway.pool.registry import PoolRegistry
from gateway.pricing.book import PriceBook, load_book
from gateway.pricing.live import HostedPrices
from gateway.pricing.quotes import Quotes
from gateway.rolling import Rolling
from gateway.rollout.operate import Operations
from gateway.rollout.serving import Compile
from gateway.settings import Settings, SettingsError
from gateway.telemetry.log import AccessLog
from gateway.telemetry.prometheus import PrometheusMetrics
from gateway.telemetry.sink import RecordSink

log = logging.getLogger("farthing")
BUNDLED_POLICIES = Path(__file__).parent / "_policies"
"""The routing_policies/ of an installed wheel; in a checkout they lie beside the package."""


class Gateway:
    """All components of one process, wired.

    `load` makes the policy of the files, `compile_` one of its kept text; `book` prices them.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Policy],
        compile_: Compile,
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
            settings.policies, load, wall=clock.wall, on_change=self._files_changed, also=secret_files
        )
        database = self.books.database if self.books is not None else None
        self.rolling = Rolling(settings.policies, self.holder, database, clock, compile_, self._policies_changed)
        self.current = self.rolling.current
        self._policies_in_service(self.rolling.serving.in_service())
        self.encoder = Once(settings.encoder)
        new_id = partial(_new_id, clock)
        self.caching = Caching(settings, self.current, database, clock, new_id, self.encoder)
        self.alerts = Alerts(lambda: self.current().money.alert_webhook, post_json)
        in_service, send = self.rolling.serving.in_service, self.alerts.send
        self.choosing = Choosing(settings, self.current, in_service, database, clock, new_id, rng, self.encoder, send)
        self.cache_admin = CacheAdmin(lambda: self.caching.opened, self.current, clock)
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
        admit = self._admission()
        ask = compose(admit, dispatcher)
        self.caching.ask_through(ask, self._finish)
        self.choosing.ask_through(ask, self._finish, dispatcher, self.quotes.most)
        if self.books is not None:
            self.rolling.abort_by(self._operations(self.books), self.alerts.send)
        self.rolling.certified_by(lambda policy: [*self.choosing.fits(policy), *self.caching.fits(policy)])
        self.rolling.compare_by(lambda: self.choosing.scorer, self.choosing.thresholds.of, self.quotes)
        for policy in self.rolling.serving.in_service():
            self.caching.open_for(policy)
            self.choosing.open_for(policy)
        found: list[Stage] = [*self._first_stages(), self.caching.lookup, self.choosing.stage]
        self.edge = Edge(
            compose([*found, *admit, self.caching.serve, self.choosing.last], dispatcher),
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
            Authenticate(lambda: self.current().keys, may_be_open=self.settings.loopback, keyring=keyring),
            Resolve(self.rolling.serving.pick, self._rng),
        ]

    def _admission(self) -> list[Stage]:
        """What holds a request to its limits; nothing where no books are kept."""
        books = self.books
        if books is None:
            return []
        admit = Admit(
            self.current,
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
        books, policy = self.books, exchange.decided_by or self.current()
        on_trial = self.rolling.serving.trial is not None
        if on_trial:
            self.rolling.watch(exchange)
        record = exchange.record(now) if books is None else books.finish(exchange, now, policy, self.quotes)
        if on_trial:
            self.rolling.count(record)
        self.sink.put(record)

    def _consumers(self) -> list[Callable[[list[RequestRecord]], None]]:
        settings = self.settings
        consumers: list[Callable[[list[RequestRecord]], None]] = [
            self.metrics.consume, self._observe, self.choosing.watcher.consume,
        ]  # fmt: skip
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

    def _files_changed(self, policy: Policy) -> None:
        self.rolling.serving.files_changed(policy)

    def _policies_changed(self, policies: list[Policy]) -> None:
        self._policies_in_service(policies)
        for policy in policies:
            self.caching.policy_changed(policy)
            self.choosing.policy_changed(policy)

    def _policies_in_service(self, policies: list[Policy]) -> None:
        """All that serve some request, the one in force last: of pools of one name its own is kept."""
        pools = {pool.name: pool for policy in policies for pool in policy.pools.values()}
        self.pools.sync(pools.values())
        self.hosted.sync(pools.values())
        self.breakers.retain({target.place for policy in policies for target in policy.targets.values()})
        self.upstreams.forget()
        self.quotes.forget()

    def _list_models(self, headers: Mapping[bytes, bytes]) -> list[str]:
        policy, keyring = self.current(), self.books.keyring if self.books is not None else None
        identity = identify(policy.keys, headers, may_be_open=self.settings.loopback, keyring=keyring)
        names = policy.model_names(identity)
        held = keyring.by_id.get(identity.key) if keyring is not None else None
        if held is None:
            return names
        routes = {name: policy.resolve(identity, name, []) for name in names}
        return [name for name, route in routes.items() if route and permits(held.limits, route.name, name)]

    def _register_gauges(self) -> None:
        metrics, sink = self.metrics, self.sink
        gauges.policy(metrics, self.holder, self.current)
        gauges.rollout(metrics, self.rolling.serving)
        gauges.upstreams(metrics, self.breakers, self.pools, self.clock.monotonic)
        if self.books is not None:
            gauges.budgets(metrics, self.books, self.alerts)
            gauges.ledger(metrics, self.books.writer)
        gauges.hosted(metrics, self.hosted)
        gauges.cache(metrics, self.caching, self.cache_admin)
        gauges.routing(metrics, self.choosing)
        gauges.learning(metrics, self.choosing)
        metrics.gauge("farthing_in_flight", "Requests being answered.", (), lambda: [((), self.edge.in_flight)])
        metrics.counter("farthing_records_dropped", "Records lost to a full queue.", (), lambda: [((), sink.dropped)])
        metrics.counter("farthing_record_failures", "Batches a consumer failed on.", (), lambda: [((), sink.failures)])

    def application(self) -> Any:
        """The ASGI application: API paths to the edge, the process's own to Litestar."""
        books, handlers = self.books, self._own_routes()
        if books is not None:
            cache = cache_routes(self.cache_admin, books.keys, self.clock)
            more = [*cache, *self._rollout_routes(books)]
            handlers.append(admin_router(books.keys, books.keyring, books.spent, self.clock, more))
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

    def _rollout_routes(self, books: Books) -> list[Row]:
        rolling = self.rolling
        return rollout_routes(self._operations(books), rolling.compile, rolling.serving.refresh, self.clock)

    def _operations(self, books: Books) -> Operations:
        assert self.rolling.store is not None, "books have a database"
        return Operations(self.rolling.store, books.keys.policy_change)

    def _own_routes(self) -> list[Any]:
        @get("/health/live", media_type=MediaType.TEXT, sync_to_thread=False)
        def live() -> str:
            return "ok"

        @get("/health/ready", sync_to_thread=False)
        def ready() -> dict[str, Any]:
            holder = self.holder
            policy = {"policy": self.current().hash, "policy_error": holder.last_error}
            return {"status": "ready", **policy, **self.rolling.health()}

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
            self.rolling.serving.run(),
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
            await self.encoder.aclose()
            await self.rolling.serving.aclose()
            if self.books is not None:
                await self.books.aclose()
            if self._close_otel is not None:
                await asyncio.to_thread(self._close_otel)


def _new_id(clock: Clock) -> str:
    """Of a request of the gateway's own."""
    return uuid7(clock.wall(), random.getrandbits)


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
    _expect_free(settings)
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
        lambda text, beside: _fits(compile_policy(document_from_stored(text), secrets, beside=beside), settings),
        lambda: secrets.files,
        book,
    )
    policy = gateway.holder.current
    discovered_targets = set((discovered or {}).get("targets", {})) if discovered else set()
    notes = found.notes if discovered_targets and discovered_targets <= set(policy.targets) else ()
    return gateway, notes


def _expect_free(settings: Settings) -> None:
    """Raises `SettingsError` where nothing can listen on the address.

    Asked before anything is made: the greeting is what shows the first admin key, once, and needs the address.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as exc:
        what = f"cannot listen on {settings.host}, port {settings.port}: {exc.strerror or exc}"
        raise SettingsError(f"{what}; fix: another --port or --host (FARTHING_PORT, FARTHING_HOST)") from exc


def _fits(policy: Policy, settings: Settings) -> Policy:
    """The policy; raises `PolicyError` when it asks for what the settings have switched off."""
    if policy.has_limits and not settings.keeps_books:
        raise PolicyError(
            "the policy declares budgets or limits, and FARTHING_DATABASE=none keeps no books; fix: remove one of them"
        )
    return policy


def greeting(gateway: Gateway, url: str, notes: Sequence[str]) -> str:
    """What is printed once the gateway listens."""
    books, policy = gateway.books, gateway.current()
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
