"""Whether a route may serve similar requests' answers: what its certificate says, held against its rule.

Fails closed: a route without a certificate that can be read, fits its rule and names the parts that serve has none, and
its semantic cache only watches.
"""

from collections.abc import Mapping
from pathlib import Path

from gateway import certificates
from gateway.certificates import Standing
from gateway.guarantee.certificate import Certificate
from gateway.policy.caching import CacheRule

__all__ = ["Certificates", "Standing"]


class Certificates:
    """See the module. `folder` is the policy's directory."""

    def __init__(self, folder: Path) -> None:
        self._held = certificates.Certificates(folder, "cache")
        self.refute = self._held.refute
        self.refresh = self._held.refresh
        self.run = self._held.run

    def of(self, rule: CacheRule, versions: Mapping[str, str]) -> Certificate | None:
        """The certificate that lets this route serve now."""
        standing = self.standing(rule, versions)
        return standing.certificate if standing.serves else None

    def standing(self, rule: CacheRule, versions: Mapping[str, str]) -> Standing:
        """The same with its reason."""
        if rule.semantic is None:
            return Standing(serves=False, why="the route has no semantic cache")
        return self._held.standing(rule.route, rule.semantic.max_error, rule.semantic.confidence, versions)
