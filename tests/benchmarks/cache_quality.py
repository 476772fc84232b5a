"""Prints what the semantic cache serves, rightly and wrongly, on labelled sets, with 95 % confidence intervals.

    python -m tests.benchmarks.cache_quality --data DIR [--sample N] [--max-error E] [--threads N] [--verifier DIR]

DIR holds checklist_dev.jsonl.gz and qqp_pairs_dev.jsonl.gz (and any other *.jsonl or *.jsonl.gz of pairs, which are
scored at the shipped threshold). QQP is split by connected component: one half certifies the threshold, the other
half is reported. The expert traps and word swaps are this repository's own, under tests/unit/cache_verify/data.
"""

import argparse
import random
import sys
import zlib
from pathlib import Path

from gateway.cache.evaluate import DELTA, Judge, Labelled, Report, calibrate, read_pairs, report
from gateway.cache.verify.verifier import ARTEFACT, DEFAULT_THRESHOLD, load_verifier
from gateway.encoder import open_model
from gateway.guarantee.bounds import binomial_upper

OWN = Path(__file__).parents[1] / "unit" / "cache_verify" / "data"
CALIBRATED = "qqp_pairs_dev.jsonl.gz"
HEAD = f"{'set':34} {'n':>6} {'duplicates served':>24} {'false hits':>24} {'error of requests':>24}  p50/p99 ms"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="at most N pairs of a set [all]")
    parser.add_argument("--max-error", type=float, default=0.01, metavar="E")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--verifier", type=Path, default=ARTEFACT, metavar="DIR", help="an artefact [the shipped one]")
    arguments = parser.parse_args(argv)
    judge = Judge(open_model(threads=arguments.threads), load_verifier(arguments.verifier, threads=arguments.threads))
    print(HEAD)
    for kind in ("expert_traps", "word_swaps"):
        together = [
            _shown(judge, path.name, _sampled(read_pairs(path), arguments.sample))
            for path in sorted(OWN.glob(f"{kind}*.jsonl"))
        ]
        _shown(judge, f"all {kind}", [pair for pairs in together for pair in pairs])
    for path in sorted(arguments.data.glob("*.jsonl*")):
        pairs = _sampled(read_pairs(path), arguments.sample)
        if path.name == CALIBRATED:
            print(certified(judge, pairs, arguments.max_error, path.name))
        else:
            _shown(judge, path.name, pairs)
    return 0


def _shown(judge, name, pairs):
    """Prints the line of a set at the shipped point and returns its pairs."""
    found = report(pairs, judge.outcomes(pairs), DEFAULT_THRESHOLD, judge.latencies(pairs[:200]), judge.versions, None)
    print(line(name, pairs, found), flush=True)
    return pairs


def certified(judge, pairs, max_error, name):
    """The line of a set whose one half, by connected component, certifies the threshold for the other."""
    side = components(pairs)
    sample = [pair for pair, left in zip(pairs, side, strict=True) if left]
    rest = [pair for pair, left in zip(pairs, side, strict=True) if not left]
    found = calibrate([o.score for o in judge.outcomes(sample)], sample, max_error)
    outcomes = judge.outcomes(rest)
    shown = report(rest, outcomes, found["threshold"], judge.latencies(rest[:200]), judge.versions, found)
    return line(f"{name.split('.')[0]} at {max_error:.1%}", rest, shown)


def components(pairs):
    """For each pair, which half its connected component falls into."""
    parent = {}

    def root(text):
        while parent.setdefault(text, text) != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for pair in pairs:
        parent[root(pair.a)] = root(pair.b)
    return [zlib.crc32(root(pair.a).encode()) % 2 == 0 for pair in pairs]


def line(name, pairs, found: Report):
    """One row of the table."""
    duplicates = sum(bool(pair.duplicate) for pair in pairs)
    others = len(pairs) - duplicates
    latency = f"{found.p50_ms:.1f}/{found.p99_ms:.1f}"
    return (
        f"{name:34} {found.n:6} {interval(found.duplicates_served, duplicates):>24} "
        f"{interval(found.false_hits, others):>24} {interval(found.error_over_requests, found.n):>24}  {latency}"
    )


def interval(share, n):
    """A share with its two-sided 95 % Clopper and Pearson interval, in percent."""
    if share is None:
        return "-"
    hits = round(share * n)
    low = 1 - binomial_upper(n - hits, n, DELTA / 2)
    return f"{share:.1%} ({low:.1%}..{binomial_upper(hits, n, DELTA / 2):.1%})"


def _sampled(pairs: list[Labelled], most: int) -> list[Labelled]:
    return random.Random(1).sample(pairs, most) if most and most < len(pairs) else pairs


if __name__ == "__main__":
    sys.exit(main())
