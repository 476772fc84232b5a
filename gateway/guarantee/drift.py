"""Decides, window by window, whether traffic still looks like the sample that was certified; reads scores, no labels.

What it finds makes a certificate stale, not wrong: a reason to alert, to tighten to the certificate's fallback and to
calibrate again. It cannot see a risk that changes while the scores do not; `monitor` does, from labels.
"""

from math import log
from typing import Final

import msgspec

from gateway.guarantee.certificate import WINDOW, Certificate, Histogram

DRIFTED: Final = 0.2
"""The population stability index from which traffic is another. A window of unchanged traffic shows 0.009 on average
for ten bins (their number less one, over its size), and over 0.03 once in a thousand."""
_LEAST_SHARE: Final = 0.001


class Window(msgspec.Struct):
    """Scores of live traffic: how many in each bin of the certificate's reference, how many accepted."""

    bins: list[int]
    accepted: int = 0

    @property
    def seen(self) -> int:
        """How many scores."""
        return sum(self.bins)

    def add(self, certificate: Certificate, score: float) -> None:
        """Counts one request of the route; -inf (inf) where nothing could be accepted, as in the sample."""
        self.bins[certificate.reference.bin_of(score)] += 1
        self.accepted += certificate.accepts(score)


class Stale(msgspec.Struct, frozen=True):
    """Why a certificate no longer fits the traffic, and the threshold to tighten to: `None`, accept nothing."""

    reason: str
    tighten_to: float | None


def window(certificate: Certificate) -> Window:
    """An empty window."""
    return Window([0] * len(certificate.reference.shares))


def drift(certificate: Certificate, seen: Window) -> Stale | None:
    """What a full window says; `None` when nothing, or while it has fewer than `WINDOW` scores."""
    if seen.seen < WINDOW:
        return None
    low, high = certificate.share_band
    share = seen.accepted / seen.seen
    if not low <= share <= high:
        reason = f"{share:.1%} accepted, certified for {low:.1%} to {high:.1%}"
        return Stale(reason, certificate.fallback)
    index = stability(certificate.reference, seen.bins)
    if index > DRIFTED:
        return Stale(f"the scores have moved: a stability index of {index:.2f}, over {DRIFTED}", certificate.fallback)
    return None


def stability(reference: Histogram, counts: list[int]) -> float:
    """The population stability index: sum of (p - q) ln(p / q) over the bins; shares under 0.1 % count as that."""
    total = sum(counts)
    pairs = (
        (max(count / total, _LEAST_SHARE), max(share, _LEAST_SHARE))
        for count, share in zip(counts, reference.shares, strict=True)
    )
    return sum((p - q) * log(p / q) for p, q in pairs)
