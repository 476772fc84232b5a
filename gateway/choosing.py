"""Everything that chooses between targets, opened when a policy first asks for it: heads, encoder, thresholds, stage.

Part of the composition root, like `app` and `caching`. Fails safe: what cannot be opened is logged and shown, and
requests go to the strong target.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from gateway.encoder import Encoder, EncoderError, open_encoder
from gateway.policy.choosing import Classify
from gateway.policy.table import Policy
from gateway.routing.caps import StrongCaps
from gateway.routing.choose import Choose
from gateway.routing.decide import Threshold, Tier
from gateway.routing.light import HeadError
from gateway.routing.scorer import Scorer, open_scorer
from gateway.routing.thresholds import Thresholds
from gateway.settings import Settings

log = logging.getLogger("farthing.routing")

_NO_PARTS: Mapping[str, str] = {"head": ""}


class Choosing:
    """The stage and what it asks. `shared` gives the encoder that the cache has open, if it has one."""

    def __init__(self, settings: Settings, current: Callable[[], Policy], shared: Callable[[], Encoder | None]) -> None:
        self._settings = settings
        self._current = current
        self._shared = shared
        self._own: Encoder | None = None
        self._parts: dict[Tier, Mapping[str, str]] = {}
        self.scorer: Scorer | None = None
        self.thresholds = Thresholds(settings.policies, self._versions)
        self.stage = Choose(lambda: self.scorer, self.encoder, self.thresholds.of, StrongCaps())

    def encoder(self) -> Encoder | None:
        """The encoder that the cache shares, else an own one, else `None`."""
        return self._shared() or self._own

    def open_for(self, policy: Policy) -> None:
        """Opens what `policy` asks for and is not open yet. Blocks; requests meanwhile go to the strong target."""
        tiers = {rule.tier for rule in rules(policy)}
        if not tiers:
            return
        embed = "embed" in tiers
        if self.scorer is None or (embed and self.scorer.embed is None):
            try:
                self.scorer = open_scorer(embed=embed)
            except HeadError as exc:
                log.error("everything goes to strong targets: %s", exc.message)  # noqa: TRY400 - it says it all
                return
        if embed and self.encoder() is None:
            try:
                self._own = open_encoder(self._settings.encoder)
            except EncoderError as exc:
                log.error("requests are scored without their meaning: %s", exc.message)  # noqa: TRY400
        self._parts.clear()

    def policy_changed(self, policy: Policy) -> None:
        """The same for a policy that was reloaded, beside the event loop."""
        asyncio.get_running_loop().run_in_executor(None, self.open_for, policy)

    def _versions(self, tier: Tier) -> Mapping[str, str]:
        scorer = self.scorer
        if scorer is None:
            return _NO_PARTS
        found = self._parts.get(tier)
        if found is None:
            encoder = self.encoder()
            found = self._parts[tier] = scorer.versions(tier, encoder.version if encoder is not None else None)
        return found

    def standings(self) -> list[tuple[str, Threshold]]:
        """The threshold of each route that chooses."""
        return [(rule.route, self.thresholds.of(rule)) for rule in rules(self._current())]

    async def run(self) -> None:
        """Polls certificates until cancelled."""
        await self.thresholds.run()

    async def aclose(self) -> None:
        """After the last request."""
        if self._own is not None:
            await self._own.aclose()


def rules(policy: Policy) -> list[Classify]:
    """What the policy's routes choose by."""
    return [route.classify for route in policy.routes if route.classify is not None]
