"""What an operator asks of the cache: how it stands, what a request would find, to forget answers, one that was wrong.

Knows no HTTP and no roles: whoever calls has checked who may ask, and for a caller of one tenant names that tenant.
Fails closed: what is not opened, or away, is an error that says so.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from gateway.cache.certificates import Certificates, Standing
from gateway.cache.entry import Entry, Selector
from gateway.cache.explain import Asked, Explain, Explanation
from gateway.cache.fill import Filler
from gateway.cache.flight import Flight
from gateway.cache.labels import Labels
from gateway.cache.lookup import Lookup
from gateway.cache.semantic import Semantic
from gateway.cache.shadow import Shadow
from gateway.cache.store import CacheStore, StoreError, StoreStats
from gateway.cache.watch import Watcher
from gateway.core.clock import Clock
from gateway.core.errors import BadRequest, ClientError, GatewayError, NotFound
from gateway.core.exchange import Call, Identity
from gateway.policy.caching import CacheRule
from gateway.policy.table import Policy


class NotCaching(ClientError):
    """409: nothing is cached here, so there is nothing to see or to forget."""

    status = 409
    code = "not_caching"


class CacheAway(GatewayError):
    """503: the store did not answer; what was asked for may not have happened."""

    status = 503
    code = "cache_unavailable"


class Opened(Protocol):
    """The cache at work: what is shown and what is asked. `semantic_error` says why there is no encoder."""

    @property
    def store(self) -> CacheStore: ...  # noqa: D102 - each is what its type says
    @property
    def lookup(self) -> Lookup: ...  # noqa: D102
    @property
    def filler(self) -> Filler: ...  # noqa: D102
    @property
    def labels(self) -> Labels: ...  # noqa: D102
    @property
    def certificates(self) -> Certificates: ...  # noqa: D102
    @property
    def watcher(self) -> Watcher: ...  # noqa: D102
    @property
    def shadow(self) -> Shadow | None: ...  # noqa: D102
    @property
    def flights(self) -> Mapping[str, Flight]: ...  # noqa: D102
    @property
    def semantic(self) -> Semantic | None: ...  # noqa: D102
    @property
    def semantic_error(self) -> str | None: ...  # noqa: D102


class Certified(msgspec.Struct, frozen=True):
    """A certificate's figures; see `gateway.guarantee.certificate`."""

    threshold: float
    n: int
    realised: float
    realised_accepted: float
    upper_bound: float
    max_error: float
    confidence: float
    share_accepted: float
    date: str


class Live(msgspec.Struct, frozen=True):
    """What sampled live requests say of the certificate; `realised` is `None` before the first."""

    seen: int
    realised: float | None
    refuted: bool


class Verdicts(msgspec.Struct, frozen=True):
    """Pairs of answers compared since the start of this process."""

    right: int
    wrong: int
    unsure: int


class RouteStanding(msgspec.Struct, frozen=True):
    """A route that caches. `serves` and `why` are about similar requests, `None` where the route wants none."""

    route: str
    exact_ttl_s: float | None
    semantic_ttl_s: float | None
    serves: bool | None
    why: str | None
    certificate: Certified | None
    live: Live | None
    labels: Verdicts | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of this process, counters since its start; `store` is shared where replicas share one.

    For a caller of one tenant only `routes` are given, those that take it, without what other tenants' requests taught.
    """

    object: str = "cache"
    store: StoreStats | None = None
    kept: int | None = None
    refused: dict[str, int] | None = None
    shadow_calls: dict[str, int] | None = None
    feedback_wrong: dict[str, int] | None = None
    semantic_error: str | None = None
    routes: list[RouteStanding]


class CacheAdmin:
    """See the module. `opened` gives `None` until a policy caches."""

    def __init__(self, opened: Callable[[], Opened | None], current: Callable[[], Policy], clock: Clock) -> None:
        self._opened = opened
        self._current = current
        self._wall = clock.wall
        self.feedback_wrong: Counter[str] = Counter()
        """Hits reported as wrong, by route: they remove entries, and no certificate's bound counts them."""

    async def stats(self, tenant: str | None) -> Stats:
        """How the cache stands; `tenant` is the only one that the caller sees. Raises `NotCaching`, `CacheAway`."""
        opened, policy = self._working(), self._current()
        rules = [rule for rule in policy.caching.values() if tenant is None or _takes(policy, rule.route, tenant)]
        routes = [self._route(opened, rule, whole=tenant is None) for rule in rules]
        if tenant is not None:
            return Stats(routes=routes)
        try:
            held = await opened.store.stats()
        except StoreError as exc:
            raise CacheAway(f"{exc}.") from exc
        filler, shadow = opened.filler, opened.shadow
        refused = dict(filler.refused) | ({"queue": filler.dropped} if filler.dropped else {})
        return Stats(
            store=held,
            kept=filler.kept,
            refused=refused,
            shadow_calls=dict(shadow.calls) if shadow is not None else None,
            feedback_wrong=dict(self.feedback_wrong),
            semantic_error=opened.semantic_error,
            routes=routes,
        )

    def check(self, selector: Selector) -> None:
        """Raises `BadRequest` for a selector that is empty, or says `all` and something else; `NotCaching`."""
        if selector.empty:
            raise BadRequest(
                "Say what to purge: tenant, tag, route, key or entry; everything only with `all`.",
                code="empty_selector",
            )
        if selector.all and selector != Selector(all=True):
            raise BadRequest("`all` stands alone: with anything beside it, leave it out.", param="all")
        self._working()

    async def purge(self, selector: Selector) -> int:
        """How many entries matched and are gone; answers under way to such requests are not kept either.

        Raises what `check` raises, and `CacheAway`.
        """
        self.check(selector)
        opened = self._working()
        opened.filler.purged(selector, self._wall())
        try:
            return await opened.store.delete(selector)
        except StoreError as exc:
            raise CacheAway(f"{exc}; answers may be left.") from exc

    async def find(self, entry: str, tenant: str | None) -> Entry:
        """An entry by its id. Raises `NotFound`, also for another tenant's; `NotCaching`, `CacheAway`."""
        try:
            found = await self._working().store.find(entry)
        except StoreError as exc:
            raise CacheAway(f"{exc}.") from exc
        if found is None or tenant not in (None, found.tenant):
            raise NotFound("There is no such entry.", code="not_found", param="entry")
        return found

    async def was_wrong(self, entry: Entry) -> None:
        """A hit of this entry was wrong: it is removed. Raises `NotCaching`, `CacheAway`."""
        await self.purge(Selector(id=entry.id))
        self.feedback_wrong[entry.route] += 1

    async def explain(self, identity: Identity, call: Call) -> Explanation:
        """See `gateway.cache.explain`. Raises `NotCaching`, `NotFound`, `BadRequest`."""
        opened = self._working()
        explain = Explain(opened.lookup, opened.certificates, opened.semantic, opened.semantic_error, opened.flights)
        return await explain(Asked(identity, call, self._wall()), self._current())

    def _working(self) -> Opened:
        opened = self._opened()
        if opened is None:
            raise NotCaching("No route caches; fix: give one `cache:` in the policy, see docs/policy-reference.md.")
        return opened

    def _route(self, opened: Opened, rule: CacheRule, *, whole: bool) -> RouteStanding:
        if rule.semantic is None:
            return RouteStanding(rule.route, rule.exact_ttl_s, None, None, None, None, None, None)
        versions = opened.semantic.versions if opened.semantic is not None else {}
        standing = opened.certificates.standing(rule, versions)
        watch, labels = opened.watcher.watches.get(rule.route), opened.labels
        verdicts = Verdicts(labels.right[rule.route], labels.wrong[rule.route], labels.unsure[rule.route])
        return RouteStanding(
            rule.route,
            rule.exact_ttl_s,
            rule.semantic.ttl_s,
            standing.serves and opened.semantic is not None,
            opened.semantic_error or standing.why,
            _figures(standing),
            Live(watch.seen, watch.realised, watch.refuted) if watch is not None and whole else None,
            verdicts if whole else None,
        )


def _takes(policy: Policy, route: str, tenant: str) -> bool:
    """Whether the route may take requests of this tenant; one that goes straight to a target takes everybody's."""
    rules = [each.rule for each in policy.routes if each.name == route]
    return all(rule.tenants is None or tenant in rule.tenants for rule in rules)


def _figures(standing: Standing) -> Certified | None:
    made = standing.certificate
    if made is None:
        return None
    return Certified(
        made.threshold,
        made.n,
        made.realised,
        made.realised_accepted,
        made.upper_bound,
        made.alpha,
        1 - made.delta,
        made.share_accepted,
        made.date,
    )
