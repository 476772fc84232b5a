"""The threshold in force on a route: from its certificate, else from its calibrated share or cost, else none.

Fails closed: a route that asks for a certified loss has no threshold, and everything goes to the strong target, without
a certificate that fits, or with one that live traffic has left behind or refuted. What only bounds money keeps its
threshold when traffic has left it behind: without one, everything would go to the dearer target.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from gateway.certificates import Certificates, Shelf
from gateway.guarantee.certificate import Certificate, voids
from gateway.policy.choosing import Classify
from gateway.routing.decide import Threshold, Tier
from gateway.routing.shares import ShareCalibration, load_share, share_binding

HASH_DIGITS = 8
MOST_RULES: Final = 512
"""Rules whose standing is remembered: those of every policy in service, and of some that were."""

Versions = Callable[[Tier], Mapping[str, str]]
Calibration = Certificate | ShareCalibration


class Standing(msgspec.Struct, frozen=True):
    """The threshold of a route and its calibration, if there is one for this rule.

    `stale` says what live traffic has against the calibration; `None`, nothing. `file` is the calibration's name.
    """

    threshold: Threshold
    calibration: Calibration | None = None
    stale: str | None = None
    file: str | None = None


class Thresholds:
    """See the module. `folder` is the policy's; `versions` names the parts that score, the same object while they stay.

    Answers are remembered by rule, so that several policies may be in service, until a file or a part changes.
    """

    def __init__(self, folder: Path, versions: Versions) -> None:
        self.certificates = Certificates(folder, "routing")
        self._shares: Shelf[ShareCalibration] = Shelf(folder, "share", load_share, share_binding)
        self._versions = versions
        self._stale: dict[str, str] = {}
        self._memo: dict[int, tuple[Classify, tuple[int, ...], Mapping[str, str], Standing]] = {}

    def of(self, rule: Classify) -> Threshold:
        """The threshold, or why there is none."""
        return self.standing(rule).threshold

    def standing(self, rule: Classify) -> Standing:
        """The same with what it comes from."""
        versions = self._versions(rule.tier)
        generation = (self.certificates.generation, self._shares.generation, len(self._stale))
        memo = self._memo.get(id(rule))
        if memo is not None and memo[1] == generation and memo[2] is versions:
            return memo[3]
        found = self._look(rule, {**versions, **rule.versions})
        if memo is None and len(self._memo) >= MOST_RULES:
            self._memo.clear()
        self._memo[id(rule)] = (rule, generation, versions, found)  # the rule is kept: its id stays its own
        return found

    def versions(self, rule: Classify) -> dict[str, str]:
        """What a calibration of this rule must name."""
        return {**self._versions(rule.tier), **rule.versions}

    def mark(self, hash_: str, why: str) -> bool:
        """From now on live traffic speaks against the calibration with this hash: whether that is new.

        Another calibration of the route is not touched.
        """
        new = hash_ not in self._stale
        self._stale.setdefault(hash_, why)
        return new

    def _look(self, rule: Classify, versions: Mapping[str, str]) -> Standing:
        if rule.max_quality_loss is not None:
            return self._certified(rule, rule.max_quality_loss, versions)
        if rule.strong_share is not None or rule.target_cost is not None:
            return self._shared(rule, versions)
        return Standing(Threshold(None, why="neither max_quality_loss nor strong_share nor target_cost"))

    def _certified(self, rule: Classify, alpha: float, versions: Mapping[str, str]) -> Standing:
        found = self.certificates.standing(rule.route, alpha, rule.confidence, versions)
        certificate = found.certificate
        if not found.serves or certificate is None:
            return Standing(Threshold(None, why=found.why))
        if certificate.accept != "at_most":
            return Standing(Threshold(None, why="its certificate accepts high scores, and routing accepts low ones"))
        stale = self._stale.get(certificate.hash)
        if stale is not None:
            return Standing(Threshold(None, why=stale), certificate, stale, found.file)
        threshold = Threshold(certificate.threshold, certificate.hash[:HASH_DIGITS], "certified")
        return Standing(threshold, certificate, file=found.file)

    def _shared(self, rule: Classify, versions: Mapping[str, str]) -> Standing:
        missing = "not calibrated yet: farthing calibrate routing --route NAME"
        found, why = self._shares.fitting(
            rule.route, lambda each: asks_otherwise(each, rule) or voids(each.versions, versions), missing
        )
        if not found:
            return Standing(Threshold(None, why=why))
        calibration = found[0].says
        stale = self._stale.get(calibration.hash)
        why = "uncertified" if stale is None else f"uncertified; {stale}"
        return Standing(Threshold(calibration.threshold, why=why), calibration, stale, found[0].file)

    async def run(self) -> None:
        """Polls until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.certificates.run())
            group.create_task(self._shares.run())


def asks_otherwise(calibration: ShareCalibration, rule: Classify) -> str | None:
    """What the policy asks for that the calibration is not of; `None` when it is."""
    asked, share = rule.strong_share, calibration.strong_share
    if asked is not None and (share is None or abs(share - asked) > 1e-9):
        was = "a cost" if share is None else f"a share of {share:g}"
        return f"calibrated for {was}, the policy asks for {asked:g}"
    if rule.target_cost != calibration.target_cost:
        return "calibrated for another cost than the policy's"
    return None
