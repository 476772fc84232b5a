"""Decides, window by window, whether a route's questions still score as when its certificate came into force.

The first window of live scores is the reference, for labelled pairs from a file are no picture of traffic. A window
that differs makes the certificate stale: its threshold is tightened to its fallback, or nothing is served, until there
is a new one. State of one process, without clock; a restart begins with a new reference.
"""

import logging
import math
from bisect import bisect_left

import msgspec

from gateway.guarantee.certificate import WINDOW, Certificate, Histogram
from gateway.guarantee.drift import DRIFTED, stability

log = logging.getLogger("farthing.cache")
_NONE = -1.0
"""Below every score, and above -inf."""


class _Route(msgspec.Struct):
    """What a route's certificate has seen."""

    certificate: str
    scores: list[float]
    reference: Histogram | None = None
    stale: bool = False


class Drift:
    """See the module."""

    def __init__(self) -> None:
        self._routes: dict[str, _Route] = {}

    def add(self, certificate: Certificate, score: float) -> None:
        """Counts one request of the route; -inf where there was nothing to serve."""
        route = self._routes.get(certificate.route)
        if route is None or route.certificate != certificate.hash:
            route = self._routes[certificate.route] = _Route(certificate.hash, [])
        route.scores.append(score)
        if len(route.scores) < WINDOW:
            return
        scores, route.scores = route.scores, []
        if route.reference is None:
            route.reference = _reference(scores)
            return
        index = stability(route.reference, _counts(route.reference.edges, scores))
        if index > DRIFTED and not route.stale:
            route.stale = True
            log.warning(
                "the questions of route %s have changed (a stability index of %.2f, over %.2f); calibrate it again",
                certificate.route,
                index,
                DRIFTED,
            )

    def accepts(self, certificate: Certificate, score: float) -> bool:
        """Whether the score is served: by the certificate, and once it is stale by its fallback."""
        if not self.stale(certificate):
            return certificate.accepts(score)
        return score >= (math.inf if certificate.fallback is None else certificate.fallback)

    def stale(self, certificate: Certificate) -> bool:
        """Whether the route's questions have changed since this certificate came into force."""
        route = self._routes.get(certificate.route)
        return route is not None and route.stale and route.certificate == certificate.hash


def _reference(scores: list[float]) -> Histogram:
    """A bin for requests without a neighbour, and the quarters of the others."""
    found = sorted(score for score in scores if math.isfinite(score))
    quarters = {found[len(found) * part // 4] for part in (1, 2, 3)} if found else set()
    edges = (_NONE, *sorted(quarters))
    return Histogram(edges, tuple(count / len(scores) for count in _counts(edges, scores)))


def _counts(edges: tuple[float, ...], scores: list[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for score in scores:
        counts[bisect_left(edges, score)] += 1
    return counts
