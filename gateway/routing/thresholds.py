"""The threshold in force on a route: from its certificate, else from its calibrated share, else none.

Fails closed: a route that asks for a certified loss and has no certificate that fits has no threshold, and everything
goes to the strong target.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.certificates import Certificates, Shelf
from gateway.policy.choosing import Classify
from gateway.routing.decide import Threshold, Tier
from gateway.routing.shares import ShareCalibration, load_share, share_path

HASH_DIGITS = 8

Versions = Callable[[Tier], Mapping[str, str]]


class Thresholds:
    """See the module. `folder` is the policy's; `versions` names the parts that score, the same object while they stay.

    Answers are remembered by route until a file, the rule or a part changes.
    """

    def __init__(self, folder: Path, versions: Versions) -> None:
        self.certificates = Certificates(folder, "routing")
        self._shares: Shelf[ShareCalibration] = Shelf(folder, "share", load_share, share_path)
        self._versions = versions
        self._memo: dict[str, tuple[Classify, tuple[int, int], Mapping[str, str], Threshold]] = {}

    def of(self, rule: Classify) -> Threshold:
        """The threshold, or why there is none."""
        versions = self._versions(rule.tier)
        generation = (self.certificates.generation, self._shares.generation)
        memo = self._memo.get(rule.route)
        if memo is not None and memo[0] is rule and memo[1] == generation and memo[2] is versions:
            return memo[3]
        found = self._look(rule, {**versions, **rule.versions})
        self._memo[rule.route] = (rule, generation, versions, found)
        return found

    def _look(self, rule: Classify, versions: Mapping[str, str]) -> Threshold:
        if rule.max_quality_loss is not None:
            return self._certified(rule, rule.max_quality_loss, versions)
        if rule.strong_share is not None:
            return self._shared(rule, rule.strong_share, versions)
        return Threshold(None, why="neither max_quality_loss nor strong_share")

    def _certified(self, rule: Classify, alpha: float, versions: Mapping[str, str]) -> Threshold:
        standing = self.certificates.standing(rule.route, alpha, rule.confidence, versions)
        certificate = standing.certificate
        if not standing.serves or certificate is None:
            return Threshold(None, why=standing.why)
        if certificate.accept != "at_most":
            return Threshold(None, why="its certificate accepts high scores, and routing accepts low ones")
        return Threshold(certificate.threshold, certificate.hash[:HASH_DIGITS], "certified")

    def _shared(self, rule: Classify, share: float, versions: Mapping[str, str]) -> Threshold:
        calibration = self._shares.held.get(rule.route)
        if calibration is None:
            missing = "not calibrated yet: farthing calibrate routing --route NAME --target-strong SHARE"
            return Threshold(None, why=self._shares.broken.get(rule.route, missing))
        if abs(calibration.strong_share - share) > 1e-9:
            asked = f"calibrated for a share of {calibration.strong_share:g}, the policy asks for {share:g}"
            return Threshold(None, why=asked)
        stale = voids_share(calibration, versions)
        return Threshold(calibration.threshold, why="uncertified") if stale is None else Threshold(None, why=stale)

    async def run(self) -> None:
        """Polls until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.certificates.run())
            group.create_task(self._shares.run())


def voids_share(calibration: ShareCalibration, versions: Mapping[str, str]) -> str | None:
    """Why the calibration does not speak of parts with these versions; `None` when it does."""
    for part in sorted(calibration.versions.keys() | versions.keys()):
        then, now = calibration.versions.get(part), versions.get(part)
        if then != now:
            return f"{part} was {then or 'absent'} when calibrated and is {now or 'absent'}"
    return None
