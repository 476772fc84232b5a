"""Keeps the certificates in force under watch: live labels that refute one end it, on every replica.

The test may be looked at at any time (see `gateway.guarantee.monitor`). Its evidence is read anew from the database, so
it survives restarts and counts every replica's requests. Fails closed where evidence speaks, open where there is none:
a database that is away refutes nothing.
"""

import asyncio
import logging
from collections.abc import Callable

from gateway.cache.certificates import Certificates
from gateway.cache.labels import UNSURE, LabelStore
from gateway.cache.semantic import Semantic
from gateway.database import DatabaseError
from gateway.guarantee.certificate import Certificate
from gateway.guarantee.monitor import RiskWatch, observe, watch
from gateway.policy.table import Policy

EVERY_S = 15.0

log = logging.getLogger("farthing.cache")


class Watcher:
    """See the module. `watches` holds the last reading by route."""

    def __init__(
        self,
        current: Callable[[], Policy],
        semantic: Callable[[], Semantic | None],
        certificates: Certificates,
        labels: LabelStore | None,
    ) -> None:
        self._current = current
        self._semantic = semantic
        self._certificates = certificates
        self._labels = labels
        self.watches: dict[str, RiskWatch] = {}

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Reads the evidence of every route that serves."""
        semantic, labels = self._semantic(), self._labels
        if semantic is None or labels is None:
            return
        for rule in self._current().caching.values():
            certificate = self._certificates.of(rule, semantic.versions)
            if certificate is None:
                self.watches.pop(rule.route, None)
                continue
            try:
                state = await asyncio.to_thread(_evidence, labels, certificate, semantic.models)
            except DatabaseError as exc:
                log.warning("the cache of route %s is not under watch: %s", rule.route, exc.message)
                continue
            self.watches[rule.route] = state
            if state.refuted:
                realised = state.realised or 0.0
                why = f"refuted by live traffic: {realised:.2%} wrong of {state.seen} sampled requests"
                self._certificates.refute(certificate, why)


def _evidence(labels: LabelStore, certificate: Certificate, models: str) -> RiskWatch:
    """The watch over every sampled request. A hit that could not be judged counts as those that were, so far.

    A hit that this certificate would not have served is another policy's, on trial beside it: no loss of this one.
    """
    state = watch(certificate, low=0.0)
    judged = wrong = 0
    for label in labels.of(certificate.route, models, certificate.issued_s, sampled=True):
        if label.entry is not None and label.score is not None and not certificate.accepts(label.score):
            state = observe(state, 0.0)
            continue
        loss = float(label.loss)
        if label.loss == UNSURE:
            loss = wrong / judged if judged else 0.0
        elif label.entry is not None:
            judged += 1
            wrong += label.loss
        state = observe(state, loss)
    return state
