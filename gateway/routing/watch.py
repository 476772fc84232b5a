"""Keeps the calibrations of routes that choose under watch: scores that drift, labels that refute, keys over their cap.

Of every policy in service: a candidate on trial may have a calibration of its own. Scores come from finished
requests, labels from the database; neither is on a request's path. What is found is logged,
sent to the alert webhook and marked in the database, so that every replica acts on it and a restart forgets nothing.
Fails closed where evidence speaks, open where there is none: a database that is away marks nothing but this process.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gateway.core.exchange import RequestRecord
from gateway.database import DatabaseError
from gateway.guarantee.certificate import Certificate
from gateway.guarantee.monitor import RiskWatch, observe, watch
from gateway.policy.choosing import Classify
from gateway.policy.table import Policy
from gateway.routing.drift import CapAlarm, Drift, Shares
from gateway.routing.labels import RoutingLabel, RoutingLabels
from gateway.routing.marks import Mark, MarkStore
from gateway.routing.thresholds import Calibration, Standing, Thresholds

EVERY_S: Final = 15.0
LAG_S: Final = 30.0
"""Labels are read this late: another replica's may be stored a little after they were made."""
_DAY_S: Final = 86_400.0
_BY_SCORE: Final = frozenset(["score", "strong_cap"])
"""Reasons of decisions whose score was held against the threshold."""
_NOT_CHOSEN: Final = frozenset(["asked", "sensitive"])

log = logging.getLogger("farthing.routing")

Alert = Callable[[str, Mapping[str, Any]], None]
"""Announces what happened: its type, and the members of the JSON object that says more."""


class _Evidence(msgspec.Struct):
    """What the labels up to `until_s` say of a certificate."""

    watch: RiskWatch
    until_s: float


class Watcher:
    """See the module. `in_service` gives every policy that decides requests, the one in force last.

    Without `labels` nothing is refuted, without `marks` nothing outlasts the process.
    """

    def __init__(
        self,
        in_service: Callable[[], Sequence[Policy]],
        thresholds: Thresholds,
        labels: RoutingLabels | None,
        marks: MarkStore | None,
        alert: Alert,
        wall: Callable[[], float],
    ) -> None:
        self._in_service = in_service
        self._thresholds = thresholds
        self._labels = labels
        self._marks = marks
        self._alert = alert
        self._wall = wall
        self._drift = Drift()
        self._caps = CapAlarm()
        self._unsaved: list[Mark] = []
        self._evidence: dict[str, _Evidence] = {}
        self.shares = Shares()

    def consume(self, batch: Sequence[RequestRecord]) -> None:
        """Takes finished requests."""
        chosen = [record for record in batch if record.choice is not None]
        if not chosen:
            return
        rules = {policy.hash: _rules(policy) for policy in self._in_service()}
        for record in chosen:
            self._add(record, rules.get(record.policy, {}).get(record.route))

    def _add(self, record: RequestRecord, rule: Classify | None) -> None:
        choice, route = record.choice, record.route
        if choice is None or choice.why in _NOT_CHOSEN:
            return
        self.shares.add(route, strong=choice.target == "strong")
        if choice.why == "strong_cap" and self._caps.add(route, record.key, self._wall()):
            self._over_cap(route, record)
        if rule is None or choice.score is None or choice.why not in _BY_SCORE:
            return
        standing = self._thresholds.standing(rule)
        calibration = standing.calibration
        if calibration is None or standing.stale is not None or choice.threshold != calibration.threshold:
            return
        why = self._drift.add(calibration, choice.score)
        if why is not None:
            self._hold(calibration, "stale", f"stale: {why}")

    def standings(self) -> list[tuple[str, Standing]]:
        """How each route of the policy in force that chooses stands."""
        rules = _rules(self._in_service()[-1])
        return [(route, self._thresholds.standing(rule)) for route, rule in rules.items()]

    def losses(self) -> list[tuple[str, str, float]]:
        """(route, part, loss of quality): the target, the certified bound, what live labels say."""
        found: list[tuple[str, str, float]] = []
        for route, standing in self.standings():
            certificate = standing.calibration
            if not isinstance(certificate, Certificate):
                continue
            found += [(route, "target", certificate.alpha), (route, "bound", certificate.upper_bound)]
            held = self._evidence.get(certificate.hash)
            if held is not None and held.watch.realised is not None:
                found.append((route, "live", held.watch.realised))
        return found

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Takes and leaves marks, and reads the labels since the last look."""
        await self._share_marks()
        watched = self._watched()
        self._evidence = {hash_: held for hash_, held in self._evidence.items() if hash_ in watched}
        for certificate, stale in watched.values():
            if self._labels is None or stale:
                continue
            try:
                held = await asyncio.to_thread(self._read, self._labels, certificate)
            except DatabaseError as exc:
                log.warning("the certificate of route %s is not under watch: %s", certificate.route, exc.message)
                continue
            self._evidence[certificate.hash] = held
            if held.watch.refuted:
                loss, seen = held.watch.realised or 0.0, held.watch.seen
                why = f"refuted by live traffic: a loss of {loss:.2%} over {seen} sampled requests"
                self._hold(certificate, "refuted", why)
                await self._share_marks()

    def _watched(self) -> dict[str, tuple[Certificate, bool]]:
        """The certificates of all policies in service, by their hash, and whether they are stale."""
        rules = [rule for policy in self._in_service() for rule in _rules(policy).values()]
        standings = [self._thresholds.standing(rule) for rule in rules]
        return {
            each.calibration.hash: (each.calibration, each.stale is not None)
            for each in standings
            if isinstance(each.calibration, Certificate)
        }

    def recall(self) -> None:
        """Makes what marks need and takes those of before, so that no request is decided without. Blocks."""
        if self._marks is None:
            return
        try:
            self._marks.migrate()
            self._take(self._marks.all())
        except DatabaseError as exc:
            log.warning("what was stale before is not known: %s", exc.message)

    async def _share_marks(self) -> None:
        if self._marks is None:
            self._unsaved.clear()
            return
        try:
            while self._unsaved:
                await asyncio.to_thread(self._marks.add, self._unsaved[0])
                self._unsaved.pop(0)
            self._take(await asyncio.to_thread(self._marks.all))
        except DatabaseError as exc:
            log.warning("stale calibrations are not shared with other replicas yet: %s", exc.message)

    def _take(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            if self._thresholds.mark(mark.hash, mark.why):
                log.warning("a calibration of route %s was found %s", mark.route, mark.why)

    def _read(self, labels: RoutingLabels, certificate: Certificate) -> _Evidence:
        """The evidence with the labels that came since the last look; all of them at the first. Blocks."""
        held, until_s = self._evidence.get(certificate.hash), self._wall() - LAG_S
        if held is None:
            held = _Evidence(watch(certificate, low=-1.0), certificate.issued_s)
        state, at_s = held.watch, held.until_s
        while at_s < until_s:
            step_s = min(at_s + _DAY_S, until_s)
            for label in labels.of(certificate.route, at_s, step_s):
                if label.versions != certificate.versions or label.source == "feedback":
                    continue
                if label.weight > state.heaviest:  # another rate of sampling: its rows need smaller bets from the start
                    state = watch(certificate, low=-1.0, heaviest=label.weight)
                    self._evidence[certificate.hash] = _Evidence(state, certificate.issued_s)
                    return self._read(labels, certificate)
                state = observe(state, _loss(certificate, label), label.weight)
            at_s = step_s
        return _Evidence(state, at_s)

    def _hold(self, calibration: Calibration, kind: Literal["stale", "refuted"], why: str) -> None:
        """Marks a calibration and tells who is to know."""
        if not self._thresholds.mark(calibration.hash, why):
            return
        now_s, certified = self._wall(), isinstance(calibration, Certificate)
        then = "everything goes to the strong target" if certified else "it still decides"
        log.warning("the calibration of route %s is %s; %s until it is calibrated again", calibration.route, why, then)
        self._unsaved.append(Mark(calibration.hash, calibration.route, kind, why, now_s))
        self._alert(
            f"routing.calibration_{kind}",
            {
                "route": calibration.route,
                "why": why,
                "certified": certified,
                "calibration": calibration.hash,
                "calibrated": calibration.date,
                "at_s": now_s,
            },
        )

    def _over_cap(self, route: str, record: RequestRecord) -> None:
        log.warning("key %s runs into the cap on strong calls of route %s again and again", record.key, route)
        self._alert(
            "routing.strong_cap", {"route": route, "tenant": record.tenant, "key": record.key, "at_s": self._wall()}
        )


def _rules(policy: Policy) -> dict[str, Classify]:
    """What the policy's routes choose by, by route."""
    return {route.name: route.classify for route in policy.routes if route.classify is not None}


def _loss(certificate: Certificate, label: RoutingLabel) -> float:
    """What the certificate's decision about this request would have lost."""
    return label.gain if certificate.accepts(label.score) else 0.0
