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
MOST = 4
"""Certificates of one route that are looked at together: a canary may have its own beside the policy in force."""
_NONE = -1.0
"""Below every score, and above -inf."""


class _Seen(msgspec.Struct):
    """What a certificate has seen."""

    scores: list[float]
    reference: Histogram | None = None
    stale: bool = False


class Drift:
    """See the module. Of more than `MOST` certificates of a route the one first seen is forgotten."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, _Seen]] = {}

    def add(self, certificate: Certificate, score: float) -> None:
        """Counts one request of the route; -inf where there was nothing to serve."""
        of_route = self._routes.setdefault(certificate.route, {})
        seen = of_route.get(certificate.hash)
        if seen is None:
            if len(of_route) >= MOST:
                del of_route[next(iter(of_route))]
            seen = of_route[certificate.hash] = _Seen([])
        seen.scores.append(score)
        if len(seen.scores) < WINDOW:
            return
        scores, seen.scores = seen.scores, []
        if seen.reference is None:
            seen.reference = _reference(scores)
            return
        index = stability(seen.reference, _counts(seen.reference.edges, scores))
        if index > DRIFTED and not seen.stale:
            seen.stale = True
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
        seen = self._routes.get(certificate.route, {}).get(certificate.hash)
        return seen is not None and seen.stale


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
