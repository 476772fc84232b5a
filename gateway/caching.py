"""Everything that caches answers, opened when a policy first asks for it: store, encoder, verifier, stages, jobs.

Part of the composition root, like `app`: here the adapters are chosen by the settings. Fails open: what cannot be
opened is logged and shown, and requests go on without it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from gateway.cache.certificates import Certificates, Standing
from gateway.cache.fill import Filler
from gateway.cache.flight import Flight  # noqa: TC001 - beside its fellows
from gateway.cache.guarded import Guarded
from gateway.cache.labels import Labels, LabelStore
from gateway.cache.lookup import Lookup
from gateway.cache.semantic import Semantic
from gateway.cache.serve import Leases, Serve
from gateway.cache.shadow import Shadow
from gateway.cache.store import StoreError, StoreStats
from gateway.cache.verify.verifier import VerifierError, load_verifier
from gateway.cache.watch import Watcher
from gateway.certificates import Fit
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Next, Reply
from gateway.database import Database, DatabaseError
from gateway.encoder import EncoderError
from gateway.encoder.once import Once
from gateway.policy.table import Policy
from gateway.settings import Settings

STATS_S = 5.0
SWEEP_TURNS = 12
LABELS_S = 90 * 86_400.0
"""How long labels are kept: a certificate should rest on traffic of today."""

log = logging.getLogger("farthing.cache")

Current = Callable[[], Policy]
Finish = Callable[[Exchange, float], None]


class Caching:
    """The two stages of the cache, which do nothing until a policy caches. `database` keeps labels, `None` none.

    `encoder` is shared with whoever else needs one, and ended by its owner.
    """

    def __init__(
        self,
        settings: Settings,
        current: Current,
        database: Database | None,
        clock: Clock,
        new_id: Callable[[], str],
        encoder: Once,
    ) -> None:
        self._settings = settings
        self._current = current
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._encoder = encoder
        self._ask: tuple[Next, Finish] | None = None
        self._ready = asyncio.Event()
        self.opened: Opened | None = None

    def ask_through(self, ask: Next, finish: Finish) -> None:
        """Where hits are asked anew: the pipeline behind the cache, and the end of a request's books."""
        self._ask = (ask, finish)

    def lookup(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The first stage; see `gateway.cache.lookup`."""
        opened = self.opened
        return call_next(exchange) if opened is None else opened.lookup(exchange, call_next)

    def serve(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The second stage; see `gateway.cache.serve`."""
        opened = self.opened
        return call_next(exchange) if opened is None else opened.serve(exchange, call_next)

    def open_for(self, policy: Policy) -> None:
        """Opens what `policy` asks for and is not open yet. Blocks; requests meanwhile go on without."""
        if not policy.caching:
            return
        if self.opened is None:
            try:
                self.opened = Opened(
                    self._settings,
                    self._current,
                    self._database,
                    self._clock,
                    self._new_id,
                    self._ask,
                    self._encoder,
                )
            except (EncoderError, DatabaseError, OSError, StoreError) as exc:
                log.error("nothing is cached: %s", exc)  # noqa: TRY400 - the message says it all
                return
        if any(rule.semantic is not None for rule in policy.caching.values()):
            self.opened.open_semantic()

    def fits(self, policy: Policy) -> list[Fit]:
        """By which certificates the semantic caches of `policy` serve."""
        return self.opened.fits(policy) if self.opened is not None else []

    def policy_changed(self, policy: Policy) -> None:
        """The same for a policy that was reloaded, beside the event loop."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self.open_for, policy)
        opening.add_done_callback(lambda _: self._ready.set())

    async def run(self) -> None:
        """What runs beside the requests, once something is open."""
        while self.opened is None:
            await self._ready.wait()
            self._ready.clear()
        await self.opened.run()

    async def aclose(self) -> None:
        """After the last request: what was put is durable, threads have ended."""
        if self.opened is not None:
            await self.opened.aclose()


class Opened:
    """The cache at work. `semantic` is `None` without an encoder, and `semantic_error` says why."""

    def __init__(
        self,
        settings: Settings,
        current: Current,
        database: Database | None,
        clock: Clock,
        new_id: Callable[[], str],
        ask: tuple[Next, Finish] | None,
        encoder: Once,
    ) -> None:
        self._settings = settings
        self._current = current
        self._clock = clock
        self.stats = StoreStats(0, 0, 0, 0)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._encoder = encoder
        self.semantic: Semantic | None = None
        self.semantic_error: str | None = None
        self.flights: dict[str, Flight] = {}
        self.store, leases = self._open_store()
        label_store = LabelStore(database) if database is not None else None
        if label_store is not None:
            label_store.migrate()
        self.labels = Labels(label_store, clock.wall)
        self.certificates = Certificates(settings.policies)
        self.watcher = Watcher(current, self.similar, self.certificates, label_store)
        self.filler = Filler(self.store, self.similar, self.labels, self.flights)
        self.shadow = Shadow(*ask, self.store, self.similar, self.labels, clock, new_id) if ask is not None else None
        self.lookup = Lookup(current, self.store, self.similar, self.certificates, self.flights, clock)
        hit = self.shadow.hit if self.shadow is not None else None
        self.serve = Serve(self.store, self.filler, self.flights, clock, hit=hit, leases=leases)

    def similar(self) -> Semantic | None:
        """The semantic half, once there is one."""
        return self.semantic

    def _open_store(self) -> tuple[Guarded, Leases | None]:
        """The store in this process; or, with Qdrant, the one that replicas share, and its leases."""
        settings, max_bytes = self._settings, self._settings.cache_mib << 20
        if settings.qdrant:
            from gateway.cache.distributed import DistributedStore  # noqa: PLC0415 - only where it is configured
            from gateway.cache.qdrant import QdrantVectors  # noqa: PLC0415 - heavy
            from gateway.cache.redis import RedisAnswers  # noqa: PLC0415 - heavy

            encoder = self._encoder.open()
            answers = RedisAnswers(settings.redis, max_bytes)
            api_key = settings.qdrant_api_key or None
            vectors = QdrantVectors.connect(settings.qdrant, encoder.version, encoder.dimension, api_key=api_key)
            return Guarded(DistributedStore(answers, vectors), self._clock), answers
        from gateway.cache.embedded import EmbeddedStore  # noqa: PLC0415 - numpy

        path = settings.cache_file
        if path is None:
            return Guarded(EmbeddedStore(max_bytes), self._clock), None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Guarded(EmbeddedStore.open(path, max_bytes, self._clock.wall()), self._clock), None

    def open_semantic(self) -> None:
        """Loads encoder and verifier. Blocks."""
        if self.semantic is not None:
            return
        try:
            encoder = self._encoder.open()
            verifier = load_verifier()
        except (EncoderError, VerifierError) as exc:
            self.semantic_error = str(exc)
            log.error("no semantic cache: %s", exc)  # noqa: TRY400 - the message says it all
            return
        self.semantic = Semantic(encoder, self.store, verifier.score, self._executor, verifier.version)

    async def run(self) -> None:
        """Fills, stores labels, polls certificates, watches them, asks hits anew, sweeps; until cancelled."""
        jobs = [self.filler.run(), self.labels.run(), self.certificates.run(), self.watcher.run(), self._sweep()]
        if self.shadow is not None:
            jobs.append(self.shadow.run())
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)

    async def _sweep(self) -> None:
        turns = 0
        while True:
            turns += 1
            try:
                if turns % SWEEP_TURNS == 0:
                    await self.store.sweep(self._clock.wall())
                    await self.labels.forget(LABELS_S)
                self.stats = await self.store.stats()
            except StoreError as exc:
                log.warning("expired answers are not swept yet: %s", exc)
            await asyncio.sleep(STATS_S)

    def standings(self) -> list[tuple[str, Standing]]:
        """How each route with a semantic cache stands."""
        return self._standings(self._current())

    def _standings(self, policy: Policy) -> list[tuple[str, Standing]]:
        versions = self.semantic.versions if self.semantic is not None else {}
        rules = [rule for rule in policy.caching.values() if rule.semantic is not None]
        return [(rule.route, self.certificates.standing(rule, versions)) for rule in rules]

    def fits(self, policy: Policy) -> list[Fit]:
        """See `Caching`."""
        standings = self._standings(policy)
        return [Fit("cache", route, *((s.file, "") if s.serves else (None, s.why))) for route, s in standings]

    def drifted(self) -> list[tuple[str, bool]]:
        """Whether the questions of each certified route have changed."""
        found = [(route, standing.certificate) for route, standing in self.standings()]
        return [
            (route, self.lookup.drift.stale(certificate)) for route, certificate in found if certificate is not None
        ]

    def errors(self) -> list[tuple[str, str, float]]:
        """(route, part, share): the target, the certified bound, what live labels say."""
        found: list[tuple[str, str, float]] = []
        for route, standing in self.standings():
            if standing.certificate is not None:
                found.append((route, "target", standing.certificate.alpha))
                found.append((route, "bound", standing.certificate.upper_bound))
            watch = self.watcher.watches.get(route)
            if watch is not None and watch.realised is not None:
                found.append((route, "live", watch.realised))
        return found

    async def aclose(self) -> None:
        """See `Caching`."""
        await self.labels.flush()
        await self.store.aclose()
        self._executor.shutdown()
