"""How often the drift test calls unchanged traffic stale, and how often it notices traffic that moved.

`python -m tests.benchmarks.drift [--draws N]`. Scores are normal with a spread of 1; each draw makes a calibration for
30 % of strong calls from n scores, and looks at one window of traffic. Seeded; no data.
"""

import argparse
import sys

import numpy as np

from gateway.guarantee.certificate import WINDOW, histogram, share_band
from gateway.guarantee.drift import DRIFTED, stability

STRONG = 0.3
CASES = (
    ("unchanged", 0.0, 1.0),
    ("a quarter of a spread higher", 0.25, 1.0),
    ("half a spread higher", 0.5, 1.0),
    ("a whole spread higher", 1.0, 1.0),
    ("half again as wide", 0.0, 1.5),
    ("twice as wide", 0.0, 2.0),
)


def stale(dice: np.random.Generator, n: int, shift: float, spread: float) -> tuple[bool, bool]:
    """Whether the share is out of its band, and whether the scores have moved, for one draw."""
    sample = np.sort(dice.standard_normal(n))
    threshold = sample[n - 1 - int(STRONG * n)]
    reference = histogram(sample.tolist())
    live = dice.standard_normal(WINDOW) * spread + shift
    low, high = share_band(float((sample <= threshold).mean()), n)
    bins = np.bincount(np.searchsorted(reference.edges, live, side="left"), minlength=len(reference.shares))
    return not low <= float((live <= threshold).mean()) <= high, stability(reference, bins.tolist()) > DRIFTED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20_000, help="[%(default)s]")
    arguments = parser.parse_args()
    dice = np.random.default_rng(0)
    print("| traffic | n | by the share | by the scores | by either |\n|---|---|---|---|---|")
    for name, shift, spread in CASES:
        for n in (200, 500, 2000, 100_000):
            draws = arguments.draws if not shift and spread == 1 and n < 10_000 else arguments.draws // 20
            found = np.array([stale(dice, n, shift, spread) for _ in range(draws)])
            share, scores = found.mean(axis=0)
            print(f"| {name} | {n:,} | {share:.2%} | {scores:.2%} | {found.any(axis=1).mean():.2%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
