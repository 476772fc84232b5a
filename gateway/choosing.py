"""Everything that chooses between targets, opened when a policy first asks for it: heads, thresholds, labels, stages.

Part of the composition root, like `app` and `caching`. Fails safe: what cannot be opened is logged and shown, and
requests go to the strong target.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gateway.certificates import Fit
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Next, Reply
from gateway.database import Database, DatabaseError
from gateway.encoder import EncoderError
from gateway.encoder.once import Once
from gateway.policy.choosing import Classify
from gateway.policy.limits import MoneyRules
from gateway.policy.table import Policy
from gateway.pricing.worst_case import PriceOf
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.compare import Comparing
from gateway.routing.decide import MEANING, Tier
from gateway.routing.judge_ask import Judge
from gateway.routing.labels import RoutingLabelStore
from gateway.routing.light import HeadError
from gateway.routing.marks import MarkStore
from gateway.routing.scorer import Scorer, open_scorer
from gateway.routing.thresholds import Thresholds
from gateway.routing.watch import Alert, Watcher
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.routing.neighbours_index import NeighbourIndex

SWEEP_S = 3600.0
LABELS_S = 90 * 86_400.0
"""How long labels are kept: a certificate should rest on traffic of today."""

log = logging.getLogger("farthing.routing")

_NO_PARTS: Mapping[str, str] = {"head": ""}


class Choosing:
    """The stages and what they ask. `current` is the last of the policies `in_service`, which all decide requests.

    `encoder` is shared with the cache; without a `database` nothing is labelled.
    """

    def __init__(
        self,
        settings: Settings,
        current: Callable[[], Policy],
        in_service: Callable[[], Sequence[Policy]],
        database: Database | None,
        clock: Clock,
        new_id: Callable[[], str],
        rng: Callable[[], float],
        encoder: Once,
        alert: Alert,
    ) -> None:
        self._current = current
        self._clock = clock
        self._rng = rng
        self._encoder = encoder
        self._parts: dict[Tier, Mapping[str, str]] = {}
        self._ready = asyncio.Event()
        self._labels = RoutingLabelStore(database) if database is not None else None
        self._migrated = False
        self.scorer: Scorer | None = None
        self.neighbours: NeighbourIndex | None = None
        self.thresholds = Thresholds(settings.policies, self._versions)
        self.stage = Choose(
            lambda: self.scorer, lambda: encoder.opened, self.thresholds.of, StrongCaps(), lambda: self.neighbours
        )
        self.comparing = Comparing(self._labels, lambda: encoder.opened, self.thresholds.versions, clock, new_id, rng)
        marks = MarkStore(database) if database is not None else None
        self.watcher = Watcher(in_service, self.thresholds, self._labels, marks, alert, clock.wall)
        self.watcher.recall()

    def ask_through(
        self, ask: Next, finish: Callable[[Exchange, float], None], dispatch: Next, price_of: PriceOf
    ) -> None:
        """How the gateway's own calls go: `ask` admits a request of its own, `dispatch` sends one on another's row."""
        self.comparing.ask_through(ask, finish)
        self.stage.judge = Judge(dispatch, self._clock, self._rng, price_of, self._money)

    def _money(self, exchange: Exchange) -> MoneyRules:
        policy: Policy = exchange.decided_by or self._current()
        return policy.money

    def last(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """The stage right before dispatch: a judge's choice, and the answers that are compared."""
        if exchange.choosing is None and exchange.scored is None:
            return call_next(exchange)
        return self.stage.judged(exchange, partial(self.comparing, call_next=call_next))

    def open_for(self, policy: Policy) -> None:
        """Opens what `policy` asks for and is not open yet. Blocks; requests meanwhile go to the strong target."""
        tiers = {rule.tier for rule in rules(policy)}
        if not tiers:
            return
        meaning = bool(tiers & MEANING)
        if self.scorer is None or (meaning and self.scorer.embed is None):
            try:
                self.scorer = open_scorer(embed=meaning)
            except HeadError as exc:
                log.error("everything goes to strong targets: %s", exc.message)  # noqa: TRY400 - it says it all
                return
        if meaning:
            try:
                self._encoder.open()
            except EncoderError as exc:
                log.error("requests are scored without their meaning: %s", exc.message)  # noqa: TRY400
        self._open_labels(neighbours="neighbours" in tiers)
        self._parts.clear()

    def _open_labels(self, *, neighbours: bool) -> None:
        if self._labels is None:
            return
        try:
            if not self._migrated:
                self._labels.migrate()
                self._migrated = True
        except DatabaseError as exc:
            log.error("requests are not labelled: %s", exc.message)  # noqa: TRY400
            return
        if neighbours and self.neighbours is None:
            from gateway.routing.neighbours_index import NeighbourIndex  # noqa: PLC0415 - numpy

            self.neighbours = NeighbourIndex(self._labels, self._encoder_version, self._clock.wall)

    def policy_changed(self, policy: Policy) -> None:
        """The same for a policy that was reloaded, beside the event loop."""
        opening = asyncio.get_running_loop().run_in_executor(None, self.open_for, policy)
        opening.add_done_callback(lambda _: self._ready.set())

    def fits(self, policy: Policy) -> list[Fit]:
        """By which calibrations the routes of `policy` choose."""
        found: list[Fit] = []
        for rule in rules(policy):
            standing = self.thresholds.standing(rule)
            why = standing.threshold.why or ""
            holds = standing.threshold.value is not None
            kind = "routing" if rule.max_quality_loss is not None else "share"
            found.append(Fit(kind, rule.route, standing.file, "") if holds else Fit(kind, rule.route, None, why))
        return found

    def _encoder_version(self) -> str | None:
        return self._encoder.opened.version if self._encoder.opened is not None else None

    def _versions(self, tier: Tier) -> Mapping[str, str]:
        scorer = self.scorer
        if scorer is None:
            return _NO_PARTS
        found = self._parts.get(tier)
        if found is None:
            found = self._parts[tier] = scorer.versions(tier, self._encoder_version())
        return found

    async def run(self) -> None:
        """Polls certificates, compares answers, reads and forgets labels; until cancelled."""
        async with asyncio.TaskGroup() as group:
            for job in (
                self.thresholds.run(), self.watcher.run(), self.comparing.run(), self._learn(), self._forget(),
            ):  # fmt: skip
                group.create_task(job)

    async def _learn(self) -> None:
        while self.neighbours is None:
            await self._ready.wait()
            self._ready.clear()
        await self.neighbours.run()

    async def _forget(self) -> None:
        while True:
            if self._labels is not None and self._migrated:
                with contextlib.suppress(DatabaseError):  # one that is away keeps them until the next time
                    await asyncio.to_thread(self._labels.forget, self._clock.wall() - LABELS_S)
            await asyncio.sleep(SWEEP_S)


def rules(policy: Policy) -> list[Classify]:
    """What the policy's routes choose by."""
    return [route.classify for route in policy.routes if route.classify is not None]
