"""`farthing eval cache`: what the semantic cache would serve of labelled pairs, and what it would serve wrongly.

Asks what the gateway asks of a request `b` when `a` is stored: admission, cosine, guards, pair verifier, threshold.
Both questions count as one user's, so the first person is no reason to refuse. Nothing is fitted here but, with
`--calibrate`, the threshold; the pairs that are reported on never choose it.
"""

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.verify import verifier as verify
from gateway.cache.wording import refuse_text
from gateway.commands import about, last_line, plain, say, share
from gateway.core.errors import BadRequest
from gateway.encoder import Model, open_model

DELTA = 0.05
TIMED = 400
"""Pairs decided one by one for the latency figures."""
CANDIDATES = 2_000
"""Thresholds tried; with fewer, the last that passes may leave half a percent of the traffic unserved."""
_CHUNK = 64


class Labelled(msgspec.Struct, frozen=True):
    """A line of a pairs file; `duplicate` is 1 where the answer to `a` is right for `b`, else 0."""

    a: str
    b: str
    duplicate: bool | int
    test: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of a pair: its score, and why it cannot be served (an admission reason, a guard), else `None`."""

    score: float
    refused: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Shares are fractions, `None` where there is nothing to divide by; the bound is Clopper and Pearson's, 95 %."""

    n: int
    duplicates_served: float | None
    false_hits: float | None
    precision: float | None
    error_over_requests: float
    error_upper_bound: float
    by_test: dict[str, dict[str, float | None]]
    p50_ms: float
    p99_ms: float
    threshold: float | None
    rejects: dict[str, int]
    versions: dict[str, str]
    certified: dict[str, Any] | None = None


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `cache` to the actions of `eval`."""
    parser = subparsers.add_parser("cache", help="the semantic cache on labelled pairs", description=about(__doc__))
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="FILE", help='JSON lines {"a", "b", "duplicate", ["test"]}, or .gz'
    )
    parser.add_argument("--calibrate", type=Path, metavar="FILE", help="labelled pairs that certify the threshold")
    parser.add_argument(
        "--max-error", type=share, default=0.01, metavar="E", help="with --calibrate: 0.01 or 1%% of all requests [1%%]"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="for bulk [%(default)s]")
    parser.set_defaults(func=_run)


def _run(arguments: argparse.Namespace) -> int:
    pairs = read_pairs(arguments.pairs)
    judge = open_judge(arguments.threads)
    threshold: float | None = verify.DEFAULT_THRESHOLD
    certified = None
    if arguments.calibrate:
        sample = read_pairs(arguments.calibrate)
        certified = calibrate([o.score for o in judge.outcomes(sample)], sample, arguments.max_error)
        threshold = certified["threshold"]
    outcomes = judge.outcomes(pairs)
    latencies = open_judge(threads=1).latencies(pairs[:TIMED])
    found = report(pairs, outcomes, threshold, latencies, judge.versions, certified)
    say(as_text(found).splitlines())
    if arguments.json:
        last_line(found)
    return 0


def read_pairs(path: Path) -> list[Labelled]:
    """The pairs of a file. Raises `BadRequest` naming file and line."""
    decoder, pairs = msgspec.json.Decoder(Labelled, strict=False), []
    for number, line in enumerate(plain(path).splitlines(), 1):
        if line.strip():
            try:
                pairs.append(decoder.decode(line))
            except msgspec.DecodeError as exc:
                raise BadRequest(f'{path}:{number}: {exc}; fix: {{"a": ..., "b": ..., "duplicate": 0 or 1}}') from exc
    if not pairs:
        raise BadRequest(f"{path} holds no pairs")
    return pairs


class Judge:
    """Decides pairs as the gateway does, in bulk or one at a time."""

    def __init__(self, encoder: Model, verifier: verify.Verifier) -> None:
        self._encoder = encoder
        self._verifier = verifier
        self.versions = {"encoder": encoder.version, "verifier": verifier.version}

    def outcomes(self, pairs: Sequence[Labelled]) -> list[Outcome]:
        """An outcome for each pair, in their order."""
        found: list[Outcome | None] = [None] * len(pairs)
        open_: list[int] = []
        for i, pair in enumerate(pairs):
            reason = self._refusal(pair)
            if reason:
                found[i] = Outcome(0.0, reason)
            else:
                open_.append(i)
        open_.sort(key=lambda i: len(pairs[i].a) + len(pairs[i].b))
        for start in range(0, len(open_), _CHUNK):
            chunk = open_[start : start + _CHUNK]
            for i, outcome in zip(chunk, self._judged([pairs[i] for i in chunk]), strict=True):
                found[i] = outcome
        return [outcome for outcome in found if outcome is not None]

    def latencies(self, pairs: Iterable[Labelled]) -> list[float]:
        """Milliseconds to decide each pair alone, from admission to verdict; `a`, being stored, is encoded before."""
        found = []
        for pair in pairs:
            stored = None if self._encoder.read(pair.a) is None else self._encoder.encode_batch([pair.a])[0]
            began = time.perf_counter()
            if stored is not None and not self._refusal(pair):
                cosine = float(self._encoder.encode_batch([pair.b])[0] @ stored)
                self._verifier.score([verify.Pair(pair.a, pair.b, cosine)])
            found.append((time.perf_counter() - began) * 1e3)
        return found

    def _refusal(self, pair: Labelled) -> str | None:
        if reason := refuse_text(pair.b, user_scoped=True):
            return reason
        readings = (self._encoder.read(pair.a), self._encoder.read(pair.b))
        if any(reading is None for reading in readings):
            return "long"
        return "unknown" if any(reading and reading.unknown for reading in readings) else None

    def _judged(self, pairs: Sequence[Labelled]) -> list[Outcome]:
        stored = self._encoder.encode_batch([pair.a for pair in pairs])
        asked = self._encoder.encode_batch([pair.b for pair in pairs])
        cosines = (stored * asked).sum(1)
        verdicts = self._verifier.score([verify.Pair(p.a, p.b, float(c)) for p, c in zip(pairs, cosines, strict=True)])
        return [Outcome(verdict.score, verdict.veto) for verdict in verdicts]


def open_judge(threads: int) -> Judge:
    """A judge over the shipped encoder and verifier; latencies are told of one thread, as the gateway has."""
    return Judge(open_model(threads=threads), verify.load_verifier(threads=threads))


def calibrate(scores: Sequence[float], pairs: Sequence[Labelled], max_error: float) -> dict[str, Any]:
    """What the pairs certify: `threshold` (`None`: nothing), `n`, `realised`, `upper_bound`, or why there is none."""
    import numpy as np  # noqa: PLC0415 - heavy

    from gateway.guarantee.certificate import Certificate, Subject  # noqa: PLC0415
    from gateway.guarantee.certify import Sample, Target, candidates, certify, data_hash  # noqa: PLC0415 - numpy

    values = np.where(np.array(scores) > 0, scores, -np.inf)
    sample = Sample(values, np.array([float(not pair.duplicate) for pair in pairs]))
    subject = Subject(kind="cache", route="eval", date="1970-01-01", data_hash=data_hash(sample), versions={})
    target = Target(alpha=max_error, delta=DELTA)
    found = certify(sample, candidates(values, "at_least", CANDIDATES), target, subject)
    if isinstance(found, Certificate):
        return {
            "threshold": found.threshold, "n": found.n, "max_error": max_error, "realised": found.realised,
            "upper_bound": found.upper_bound, "share_accepted": found.share_accepted,
        }  # fmt: skip
    return {"threshold": None, "n": found.n, "max_error": max_error, "reason": found.reason, "n_needed": found.n_needed}


def report(
    pairs: Sequence[Labelled],
    outcomes: Sequence[Outcome],
    threshold: float | None,
    latencies: Sequence[float],
    versions: dict[str, str],
    certified: dict[str, Any] | None,
) -> Report:
    """The figures at a threshold; `None` serves nothing."""
    from gateway.guarantee.bounds import binomial_upper  # noqa: PLC0415 - numpy

    served = [threshold is not None and o.refused is None and o.score >= threshold for o in outcomes]
    wrong = sum(s and not p.duplicate for s, p in zip(served, pairs, strict=True))
    right = sum(s and bool(p.duplicate) for s, p in zip(served, pairs, strict=True))
    duplicates = sum(bool(p.duplicate) for p in pairs)
    rejects: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.refused:
            rejects[outcome.refused] = rejects.get(outcome.refused, 0) + 1
    return Report(
        n=len(pairs),
        duplicates_served=_share(right, duplicates),
        false_hits=_share(wrong, len(pairs) - duplicates),
        precision=_share(right, right + wrong),
        error_over_requests=wrong / len(pairs),
        error_upper_bound=binomial_upper(wrong, len(pairs), DELTA),
        by_test=_by_test(pairs, served),
        p50_ms=_quantile(latencies, 0.5),
        p99_ms=_quantile(latencies, 0.99),
        threshold=threshold,
        rejects=dict(sorted(rejects.items(), key=lambda item: -item[1])),
        versions=versions,
        certified=certified,
    )


def _by_test(pairs: Sequence[Labelled], served: Sequence[bool]) -> dict[str, dict[str, float | None]]:
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for pair, hit in zip(pairs, served, strict=True):
        if pair.test is not None:
            rows.setdefault(pair.test, []).append((bool(pair.duplicate), hit))
    return {
        test: {
            "n": len(found),
            "duplicates_served": _share(sum(d and s for d, s in found), sum(d for d, _ in found)),
            "false_hits": _share(sum(s and not d for d, s in found), sum(not d for d, _ in found)),
        }
        for test, found in sorted(rows.items())
    }


def as_text(found: Report) -> str:
    """The report for a person."""
    threshold = "none: not certified, nothing is served" if found.threshold is None else f"{found.threshold:.4f}"
    lines = [
        f"pairs                {found.n}",
        f"threshold            {threshold}",
        f"duplicates served    {_percent(found.duplicates_served)}",
        f"false hits           {_percent(found.false_hits)} of non-duplicates",
        f"precision            {_percent(found.precision)}",
        f"error over requests  {_percent(found.error_over_requests)}, under {_percent(found.error_upper_bound)} (95 %)",
        f"latency              p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms",
    ]
    if found.certified:
        lines.append("certified            " + ", ".join(f"{k} {v}" for k, v in found.certified.items()))
    if found.rejects:
        lines.append("rejected             " + ", ".join(f"{k} {v}" for k, v in found.rejects.items()))
    for test, figures in found.by_test.items():
        shares = [f"{k.replace('_', ' ')} {_percent(v)}" for k, v in figures.items() if k != "n" and v is not None]
        lines.append(f"  {test}: n {figures['n']}, {', '.join(shares)}")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
