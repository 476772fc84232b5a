"""Which policy serves, opened: the store of rollouts, what follows it, and what watches a candidate on trial.

Part of the composition root, like `app`, `caching` and `choosing`. Without books rollout.yaml is all that is followed.
"""

import os
import platform
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.access.authority import Actor
from gateway.certificates import Fit
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, RequestRecord
from gateway.database import Database
from gateway.policy.load import read_document
from gateway.policy.table import Policy
from gateway.policy.watch import PolicyHolder
from gateway.rollout.asked import Asking
from gateway.rollout.bucket import bucket
from gateway.rollout.operate import Operations
from gateway.rollout.serving import Compile, Serving
from gateway.rollout.shadow import Price, Shadow
from gateway.rollout.state import Conflict
from gateway.rollout.store import RolloutStore
from gateway.routing.decide import ThresholdOf
from gateway.routing.scorer import Scorer


class Rolling:
    """See the module. `changed` is told every policy in service; call `serving.tell` once all is built."""

    def __init__(
        self,
        folder: Path,
        holder: PolicyHolder,
        database: Database | None,
        clock: Clock,
        compile_: Compile,
        changed: Callable[[list[Policy]], None],
    ) -> None:
        self.compile = compile_
        self._wall = clock.wall
        self.store = RolloutStore(database) if database is not None else None
        self.serving = Serving(
            holder,
            Asking(folder, self.store, lambda path: read_document(path).text),
            self.store,
            compile_,
            clock=clock,
            changed=changed,
            gateway=f"{platform.node()}-{os.getpid()}-{secrets.token_hex(2)}",
        )
        self._shadow: Shadow | None = None

    def current(self) -> Policy:
        """The policy in force."""
        return self.serving.current

    def compare_by(self, scorer: Callable[[], Scorer | None], threshold_of: ThresholdOf, price: Price) -> None:
        """What a policy in shadow decides with."""
        self._shadow = Shadow(scorer, threshold_of, price)

    def certified_by(self, fits: Callable[[Policy], list[Fit]]) -> None:
        """What is asked which certificates the routes of a policy decide by."""
        self.serving.fits = fits

    def abort_by(self, operations: Operations, alert: Callable[[str, Mapping[str, Any]], None]) -> None:
        """What holds a canary up that breaks its conditions, and who is told."""
        serving, actor = self.serving, Actor(f"gateway:{self.serving.gateway}")

        def abort(id_: str, why: str) -> bool:
            try:
                operations.abort(id_, why, actor, self._wall())
            except Conflict:
                return False
            return True

        serving.abort, serving.alert = abort, alert

    def watch(self, exchange: Exchange) -> None:
        """At the end of a request: what the policy in shadow would have done. Never raises."""
        serving, shadow = self.serving, self._shadow
        trial = serving.trial
        if trial is None or shadow is None or trial.mode != "shadow" or exchange.decided_by is None or serving.stale:
            return
        if trial.share < 1 and bucket(trial.policy.hash, exchange.id) >= trial.share:
            return
        if exchange.hit is not None:
            serving.tally.cached()
        elif not _own(exchange.identity.tenant if exchange.identity is not None else ""):
            exchange.shadow = shadow.compare(exchange, trial.policy)

    def count(self, record: RequestRecord) -> None:
        """Counts a finished request, if something is on trial."""
        serving = self.serving
        trial = serving.trial
        if trial is None or _own(record.tenant):
            return
        if record.policy in (trial.policy.hash, serving.current.hash):
            serving.tally.add(record, candidate=record.policy == trial.policy.hash)

    def health(self) -> Mapping[str, Any]:
        """What /health/ready says of it; `None` where there is nothing to say."""
        serving = self.serving
        trial = serving.trial
        shown: dict[str, Any] | None = None
        if trial is not None:
            shown = {"policy": trial.policy.hash, "mode": trial.mode, "share": trial.share, "stale": serving.stale}
            shown["aborted"] = trial.aborted
        return {"pinned": serving.pinned, "on_trial": shown, "rollout_errors": list(serving.errors) or None}


def _own(tenant: str) -> bool:
    """The gateway's own requests, such as hits asked anew: no policy on trial decides them."""
    return ":" in tenant
