"""How often a certified quality loss is exceeded on real graded losses, and what each bound costs. docs/guarantees.md.

    python -m tests.benchmarks.guarantee --data FILE [--resplits 300] [--alpha 0.03] [--delta 0.05] [--sizes 500 1000]

FILE: CSV (or .csv.gz) with the columns prompt, weak, strong (True or False: answered correctly) and contam (rows to
leave out); RouteLLM's MMLU table has them. The score is an out-of-fold ridge of strong - weak on a few counts over the
prompt: a weak one, on purpose. A request goes to weak when the score is at most the threshold. Each resplit draws n
labelled rows, takes candidates from the other rows' scores, and certifies. A violation is a loss over alpha, measured

- redrawn: on all rows, of which the n were drawn with replacement: these are independent draws from a known truth, as
  the statement has it, and the exit status is 1 when they break it more often than delta and Monte-Carlo error allow;
- of all: on all rows, of which the n were drawn without replacement, so that they tell more about them;
- held out: on the rows that were not drawn, themselves a sample: its noise adds to that of the n.
"""

import argparse
import csv
import gzip
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway.guarantee import bounds
from gateway.guarantee.certificate import Certificate, Subject
from gateway.guarantee.certify import Sample, Target, candidates, certify

METHODS: tuple[bounds.Method, ...] = ("clt", "betting", "bernstein", "hoeffding_bentkus")
SUBJECT = Subject(kind="routing", route="benchmark", date="2026-01-01", data_hash="", versions={})
FOLDS, RIDGE = 5, 10.0


def rows(path: Path) -> tuple[list[str], np.ndarray]:
    """The prompts and what strong gains over weak on each, -1, 0 or 1."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["contam"] != "True"]
    gains = [(row["strong"] == "True") - (row["weak"] == "True") for row in kept]
    return [row["prompt"] for row in kept], np.array(gains, dtype=np.float64)


def features(prompt: str) -> list[float]:
    words = prompt.split()
    marks = [sum(prompt.count(mark) for mark in group) for group in ("0123456789", "=+*/^", "_", "\n", ",", "?", "()")]
    return [
        math.log1p(len(prompt)),
        math.log1p(len(words)),
        sum(map(len, words)) / max(len(words), 1),
        sum(word[0].isupper() for word in words) / max(len(words), 1),
        *(math.log1p(mark) for mark in marks),
        float("following" in prompt),
        float(" not " in prompt.lower() or "except" in prompt.lower()),
        float("statement" in prompt.lower()),
    ]


def expected_gain(prompts: list[str], gains: np.ndarray) -> np.ndarray:
    """Each row's gain as predicted by a ridge that was fitted on the other folds."""
    x = np.array([features(prompt) for prompt in prompts])
    x = np.c_[np.ones(len(x)), (x - x.mean(0)) / x.std(0)]
    fold = np.random.default_rng(0).integers(FOLDS, size=len(x))
    predicted = np.empty(len(x))
    for k in range(FOLDS):
        train = fold != k
        inner = x[train].T @ x[train] + RIDGE * np.eye(x.shape[1])
        predicted[~train] = x[~train] @ np.linalg.solve(inner, x[train].T @ gains[train])
    return predicted


def optimum(scores: np.ndarray, gains: np.ndarray, alpha: float) -> float:
    """The share sent to strong by the boldest threshold whose loss over all rows is at most alpha."""
    loss = np.cumsum(gains[np.argsort(scores)]) / len(gains)
    return 1 - (np.flatnonzero(loss <= alpha)[-1] + 1) / len(gains)


class Tally(NamedTuple):
    """Sums over resplits: violations of each kind, draws without a certificate, the share sent to strong."""

    redrawn: int = 0
    of_all: int = 0
    held_out: int = 0
    uncertified: int = 0
    strong: float = 0.0


def measure(scores: np.ndarray, gains: np.ndarray, n: int, method: bounds.Method, args: argparse.Namespace) -> Tally:
    target = Target(alpha=args.alpha, delta=args.delta, accept="at_most", loss="graded")
    rng = np.random.default_rng(n)
    size = len(scores)

    def threshold(sample: np.ndarray, rest: np.ndarray) -> float:
        found = certify(
            Sample(scores[sample], gains[sample]), candidates(scores[rest], "at_most"), target, SUBJECT, method=method
        )
        return found.threshold if isinstance(found, Certificate) else -np.inf

    def broken(t: float, rows: np.ndarray) -> bool:
        return bool(np.where(scores[rows] <= t, gains[rows], 0.0).mean() > args.alpha)

    everything, tally = np.arange(size), Tally()
    for _ in range(args.resplits):
        order = rng.permutation(size)
        t, again = threshold(order[:n], order[n:]), threshold(rng.integers(size, size=n), order[n:])
        tally = Tally(
            tally.redrawn + broken(again, everything),
            tally.of_all + broken(t, everything),
            tally.held_out + broken(t, order[n:]),
            tally.uncertified + (t == -np.inf),
            tally.strong + float((scores[order[n:]] > t).mean()),
        )
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--resplits", type=int, default=300)
    parser.add_argument("--alpha", type=float, default=0.03)
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    args = parser.parse_args()
    prompts, gains = rows(args.data)
    scores = expected_gain(prompts, gains)
    most = args.delta + 3 * math.sqrt(args.delta * (1 - args.delta) / args.resplits)
    print(f"{len(gains)} rows, all to weak loses {gains.mean():.1%}; {args.alpha:.1%} at {1 - args.delta:.0%}:")
    print(f"knowing the truth {optimum(scores, gains, args.alpha):.1%} to strong, at random", end=" ")
    print(f"{1 - args.alpha / gains.mean():.1%}; {args.resplits} resplits")
    print(
        "\n| bound | n | violations: redrawn | of all | held out | uncertified | to strong |\n|---|---|---|---|---|---|---|"
    )
    worst = 0.0
    for method in args.methods:
        for n in args.sizes:
            shares = [total / args.resplits for total in measure(scores, gains, n, method, args)]
            worst = max(worst, shares[0])
            print(f"| `{method}` | {n:,} |", " | ".join(f"{share:.1%}" for share in shares), "|", flush=True)
    sys.exit(worst > most)


if __name__ == "__main__":
    main()
