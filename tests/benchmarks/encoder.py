"""What the shared encoder costs, and how near its vectors are to those of its fp32 original. docs/encoder.md.

    python -m tests.benchmarks.encoder [--original NAME] [--sentences FILE] [--pairs FILE] [--labelled FILE] [--json FILE]

Latency is the whole of `read` and `run` on one thread: wall time, and CPU time beside it, which other work on the machine
does not lengthen: the goals are for a core of its own, so they are held against that. `--original` names the fp32 model for sentence-transformers (extra `models`); without it agreement is
that with the vectors kept in tests/fixtures. `--pairs` is JSON lines of a, b, duplicate (gzip by its suffix),
`--labelled` a CSV of text, category. Exit status 1 when a goal is missed.
"""

import argparse
import asyncio
import csv
import gzip
import json
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gateway.encoder import BatchingEncoder, open_model
from gateway.encoder.agreement import agreement, read_texts
from gateway.encoder.grammar import sentences

FIXTURE = Path(__file__).parents[1] / "fixtures" / "encoder" / "fp32_vectors.npz"
GOALS = {"short p50 ms": 5.0, "short p99 ms": 10.0}
GOAL_AGREEMENT = 0.99
GOAL_POINTS = 0.5
SHORT, LONG = 12, 200
"""Tokens of the texts timed."""
WORDS = ("how", "do", "i", "get", "my", "new", "card", "to", "work", "in", "the", "shop", "when", "it", "was", "sent")
"""A token each."""
PAIRS, LABELLED = 5000, 2000
_LOAD = """
import json, time, sys
import msgspec, numpy, gateway.encoder
def rss():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
before, wall, cpu = rss(), time.perf_counter(), time.process_time()
model = gateway.encoder.open_model()
wall, cpu, loaded = time.perf_counter() - wall, time.process_time() - cpu, rss()
texts = ["what is a heat pump " * 2] * 64 + ["word " * 250] * 8
model.encode_batch(texts)
print(json.dumps({"wall ms": wall * 1e3, "cpu ms": cpu * 1e3, "RSS added MB": loaded - before,
                  "RSS added in use MB": rss() - before}))
"""


def main() -> int:
    """Measures, prints, says which goal holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.encoder", description=__doc__.splitlines()[0])
    parser.add_argument("--original", metavar="NAME", help="the fp32 model: a path or a hub id")
    parser.add_argument("--sentences", type=Path, metavar="FILE", help="texts to compare on [1,000 of a grammar]")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="labelled pairs: cache figures, with --original")
    parser.add_argument("--labelled", type=Path, metavar="FILE", help="texts of categories: retrieval, with --original")
    parser.add_argument("--passes", type=int, default=500, help="passes timed on short texts [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    shipped = open_model()
    original = open_model(arguments.original) if arguments.original else None
    figures = {"machine": f"{platform.machine()}, python {platform.python_version()}", "version": shipped.version}
    figures |= cost(shipped, arguments.passes)
    if original:
        figures["original"] = {name: timed(original, tokens, 60) for name, tokens in (("short", SHORT), ("long", LONG))}
        for name in ("short", "long"):
            figures[name]["of the original's CPU"] = (
                figures[name]["cpu p50 ms"] / figures["original"][name]["cpu p50 ms"]
            )
    figures["agreement"] = compared(shipped, original, arguments.sentences)
    if original and arguments.pairs:
        figures["pairs"] = pair_figures(shipped, original, arguments.pairs)
    if original and arguments.labelled:
        figures["retrieval"] = retrieval_figures(shipped, original, arguments.labelled)
    for name, value in figures.items():
        print(f"{name:10s} {plain(value)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return verdict(figures)


def cost(model, passes) -> dict:
    """Load, latency of one text, throughput in batches and behind the event loop."""
    load = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True).stdout
    texts = sentences(640, 5)
    began, cpu = time.perf_counter(), time.thread_time()
    model.encode_batch(texts)
    bulk = {
        "texts/s": len(texts) / (time.perf_counter() - began),
        "texts/CPU s": len(texts) / (time.thread_time() - cpu),
    }
    return {
        "load": json.loads(load),
        "short": timed(model, SHORT, passes),
        "long": timed(model, LONG, max(20, passes // 10)),
        "bulk": bulk,
        "server": asyncio.run(served(model, passes)),
    }


def timed(model, tokens, passes) -> dict:
    """p50 and p99 of one text of `tokens` tokens, each pass another text."""
    dice = random.Random(tokens)
    walls, cpus = [], []
    for number in range(passes + 20):
        text = " ".join(dice.choice(WORDS) for _ in range(tokens - 2))
        wall, cpu = time.perf_counter(), time.thread_time()
        reading = model.read(text)
        model.run([reading])
        if number >= 20:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.thread_time() - cpu)
    assert len(reading.ids) == tokens
    return {
        f"{kind} {name} ms": float(np.percentile(values, percent)) * 1e3
        for kind, values in (("wall", walls), ("cpu", cpus))
        for name, percent in (("p50", 50), ("p99", 99))
    }


async def served(model, passes) -> dict:
    """One caller after another, then 32 at once, through the thread."""
    encoder = BatchingEncoder(model)
    texts = sentences(passes, 6)
    alone = []
    for text in texts:
        began = time.perf_counter()
        await encoder.encode(text)
        alone.append(time.perf_counter() - began)
    began = time.perf_counter()
    queue = iter(texts)

    async def caller():
        for text in queue:
            await encoder.encode(text)

    await asyncio.gather(*(caller() for _ in range(32)))
    together = len(texts) / (time.perf_counter() - began)
    await encoder.aclose()
    return {
        "1 caller p50 ms": float(np.median(alone)) * 1e3,
        "1 caller/s": len(texts) / sum(alone),
        "32 callers/s": together,
    }


def compared(shipped, original, path) -> dict:
    """Cosines with the original run here, else with its vectors in the fixture."""
    if original is None:
        with np.load(FIXTURE) as fixture:
            texts, vectors = fixture["texts"].tolist(), fixture["vectors"].astype(np.float32)
        return agreement(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), shipped.encode_batch(texts))
    texts = read_texts(path) if path else sentences(1000, 2)
    texts = random.Random(0).sample(texts, min(1000, len(texts)))
    return agreement(original.encode_batch(texts), shipped.encode_batch(texts))


def pair_figures(shipped, original, path) -> dict:
    """How well cosine tells duplicates, and what a fixed threshold accepts, in per cent: original, shipped."""
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    pairs = [json.loads(line) for line in lines]
    pairs = random.Random(0).sample(pairs, min(PAIRS, len(pairs)))
    same = np.array([bool(pair["duplicate"]) for pair in pairs])
    sides = [[pair[side] for pair in pairs] for side in "ab"]
    found = {}
    for model in (original, shipped):
        a, b = (model.encode_batch(texts) for texts in sides)
        cosines = (a * b).sum(1)
        found.setdefault("AUC", []).append(auc(cosines, same))
        for threshold in (0.85, 0.92):
            found.setdefault(f"duplicates >= {threshold}", []).append(100 * float((cosines[same] >= threshold).mean()))
            found.setdefault(f"others >= {threshold}", []).append(100 * float((cosines[~same] >= threshold).mean()))
    return found


def auc(scores, positive) -> float:
    """Area under the ROC curve in per cent, by ranks."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    count = positive.sum()
    return 100 * float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def retrieval_figures(shipped, original, path) -> dict:
    """Whether the nearest other text is of the same category, in per cent: original, shipped."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = random.Random(0).sample(rows, min(LABELLED, len(rows)))
    category = np.array([row["category"] for row in rows])
    found = {}
    for model in (original, shipped):
        vectors = model.encode_batch([row["text"] for row in rows])
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -1)
        ranked = np.argsort(-cosines, axis=1)[:, :5]
        found.setdefault("right at 1", []).append(100 * float((category[ranked[:, 0]] == category).mean()))
        right = (category[ranked] == category[:, None]).mean()
        found.setdefault("right among 5", []).append(100 * float(right))
    return found


def verdict(figures) -> int:
    """Prints each goal; 1 when one is missed."""
    held = {
        f"{name}: {figures['short'][f'cpu {name[6:]}']:.2f}, goal {goal}": figures["short"][f"cpu {name[6:]}"] <= goal
        for name, goal in GOALS.items()
    }
    mean = figures["agreement"]["cosine_mean"]
    held[f"agreement: {mean}, goal {GOAL_AGREEMENT}"] = mean >= GOAL_AGREEMENT
    for group in ("pairs", "retrieval"):
        for name, (expected, found) in figures.get(group, {}).items():
            moved = f"{group}, {name}: {expected:.2f} -> {found:.2f}, goal within {GOAL_POINTS}"
            held[moved] = abs(expected - found) <= GOAL_POINTS
    for name, good in held.items():
        print(f"{'ok  ' if good else 'MISS'} {name}")
    return int(not all(held.values()))


def plain(value) -> str:
    """A figure, or several on a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " -> ".join(plain(inner) for inner in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
