"""Decides, window by window, whether traffic still looks like the sample of a calibration; reads scores, no labels.

What it finds makes a calibration stale, not wrong: a reason to alert, to go back to what is safe and to calibrate
again. It cannot see a risk that changes while the scores do not; `monitor` does, from labels.
"""

from collections.abc import Sequence
from math import log
from typing import Final, Protocol

import msgspec

from gateway.guarantee.certificate import WINDOW, Histogram

DRIFTED: Final = 0.2
"""The population stability index from which traffic is another. A window of unchanged traffic shows 0.009 on average
for ten bins (their number less one, over its size), and over 0.03 once in a thousand; the reference's own noise adds
as much again times `WINDOW` over its rows."""
_LEAST_SHARE: Final = 0.001


class Calibrated(Protocol):
    """A certificate, or another calibration of a threshold."""

    @property
    def reference(self) -> Histogram:
        """How scores were spread in its sample."""
        ...

    @property
    def share_band(self) -> tuple[float, float]:
        """Where the share accepted in a window should stay."""
        ...

    def accepts(self, score: float) -> bool:
        """Whether a score is on the accepted side of its threshold."""
        ...


class Window(msgspec.Struct):
    """Scores of live traffic: how many in each bin of the calibration's reference, how many accepted."""

    bins: list[int]
    accepted: int = 0

    @property
    def seen(self) -> int:
        """How many scores."""
        return sum(self.bins)

    def add(self, calibrated: Calibrated, score: float) -> None:
        """Counts one request of the route; -inf (inf) where nothing could be accepted, as in the sample."""
        self.bins[calibrated.reference.bin_of(score)] += 1
        self.accepted += calibrated.accepts(score)


def window(calibrated: Calibrated) -> Window:
    """An empty window."""
    return Window([0] * len(calibrated.reference.shares))


def drift(calibrated: Calibrated, seen: Window, accepted: str = "accepted") -> str | None:
    """Why a full window makes the calibration stale; `None` when it does not, or while it has fewer than `WINDOW`.

    `accepted` is what the accepted share is called in the reason.
    """
    if seen.seen < WINDOW:
        return None
    low, high = calibrated.share_band
    share = seen.accepted / seen.seen
    if not low <= share <= high:
        return f"{share:.1%} of {seen.seen} requests in a row {accepted}, calibrated for {low:.1%} to {high:.1%}"
    index = stability(calibrated.reference, seen.bins)
    if index > DRIFTED:
        return f"the scores of {seen.seen} requests in a row have moved: stability index {index:.2f}, over {DRIFTED}"
    return None


def stability(reference: Histogram, counts: Sequence[int]) -> float:
    """The population stability index: sum of (p - q) ln(p / q) over the bins; shares under 0.1 % count as that."""
    total = sum(counts)
    pairs = (
        (max(count / total, _LEAST_SHARE), max(share, _LEAST_SHARE))
        for count, share in zip(counts, reference.shares, strict=True)
    )
    return sum((p - q) * log(p / q) for p, q in pairs)
