"""The routing room's figures on public data, with intervals, and PASS or MISS beside each goal.

    python -m tests.benchmarks.routing --data DIR [--vectors DIR] [--json FILE]

DIR holds routellm_mmlu.csv.gz and routellm_gsm8k*.csv.gz (columns prompt, weak, strong, contam; MMLU also subject). The
fitted rows are scored by heads that never saw them; the shipped head was fitted on neither file. Encoding MMLU takes
some minutes; `--vectors` keeps the result. Exits 1 when a goal is missed.
"""

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway.encoder import open_model
from gateway.guarantee.certificate import Certificate, Subject
from gateway.guarantee.certify import Sample, Target, candidates, certify
from gateway.routing import crossfit, metric
from gateway.routing.embed import open_embed
from gateway.routing.evaluate import inputs_of
from gateway.routing.features import text_features
from gateway.routing.light import open_light
from gateway.routing.neighbours_index import MOST, Rows
from gateway.routing.table import excerpt, read_table

LOSS, RESPLITS, LABELS, DRAWS = 0.03, 300, 1_500, 5
SUBJECT = Subject(kind="routing", route="benchmark", date="1970-01-01", data_hash="", versions={})


class Line(NamedTuple):
    """A row of the table: what was found, the goal, whether it holds (`None`: printed for comparison)."""

    what: str
    found: str
    goal: str
    holds: bool | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="keep vectors there between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    arguments = parser.parse_args()
    model = open_model()
    lines = []
    for table_lines in (
        mmlu(arguments.data, arguments.vectors, model, arguments.seed),
        transfer(arguments.data, arguments.seed),
        times(arguments.data, model, arguments.seed),
    ):
        for line in table_lines:
            mark = {True: "PASS", False: "MISS", None: ""}[line.holds]
            print(f"{line.what:58s} {line.found:44s} {line.goal:24s} {mark}", flush=True)
            lines.append(line._asdict())
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n")
    return int(any(line["holds"] is False for line in lines))


def mmlu(folder, kept, model, seed):
    """Heads fitted on other rows, fewer rows, other subjects; and the certificate of the first one's scores."""
    table = read_table(folder / "routellm_mmlu.csv.gz", "prompt", "weak", "strong", "subject")
    inputs = inputs_of(table, model, kept / "routing-mmlu.npz" if kept else None)
    light = inputs._replace(vectors=None)
    gains = table.rows.strong - table.rows.weak
    yield Line("MMLU, random", shown(metric.random_curve(table.rows, seed=seed)), "", None)
    yield Line("MMLU, oracle", shown(metric.oracle_curve(table.rows)), "", None)
    two = crossfit.row_folds(len(gains), 2, seed)
    scores = crossfit.cross_fit(inputs, gains, two)
    found = metric.curve(scores, table.rows)
    yield fitted("MMLU, 2 folds", scores, table, seed, "APGR .65, CPT80 62", found.apgr >= 0.65 and found.cpt80 <= 62)
    yield fitted("MMLU, 2 folds, light tier", crossfit.cross_fit(light, gains, two), table, seed, "", None)
    found = [budget(inputs, table, seed + draw) for draw in range(DRAWS)]
    text = f"APGR {np.mean(found):.3f}  {spread(found)}"
    yield Line("MMLU, 1,500 labels, scored on the others", text, "APGR .625", float(np.mean(found)) >= 0.625)
    apgrs = []
    for draw in range(DRAWS):
        unseen = crossfit.cross_fit(inputs, gains, crossfit.group_folds(table.groups, 5, seed + draw))
        apgrs.append(metric.curve(unseen, table.rows).apgr)
    low, high = metric.interval(unseen, table.rows, seed=seed).apgr
    text = f"APGR {np.mean(apgrs):.3f}  {spread(apgrs)} [{low:.3f}, {high:.3f}]"
    yield Line("MMLU, unseen subjects (5 folds)", text, "APGR .605", float(np.mean(apgrs)) >= 0.605)
    yield from certified(scores, gains, seed)


def budget(inputs, table, seed):
    """APGR on the rows that were not drawn."""
    fit_on, asked = crossfit.drawn(len(table.prompts), LABELS, seed)
    rows = table.rows.take(fit_on)
    scores = crossfit.predict(inputs.take(fit_on), rows.strong - rows.weak, inputs.take(asked))
    return metric.curve(scores, table.rows.take(asked)).apgr


def certified(scores, gains, seed):
    """How often a certified threshold loses more than it says, on the rows that did not calibrate it."""
    for n, goal in ((500, None), (1_000, None), (2_000, 0.70), (5_000, None)):
        dice = np.random.default_rng(seed)
        wrong, strong = 0, []
        for _ in range(RESPLITS):
            order = dice.permutation(len(scores))
            rows, rest = order[:n], order[n:]
            thresholds = candidates(scores[rest], "at_most")
            target = Target(alpha=LOSS, accept="at_most", loss="graded")
            found = certify(Sample(scores[rows], gains[rows]), thresholds, target, SUBJECT)
            accepted = scores[rest] <= found.threshold if isinstance(found, Certificate) else np.zeros(len(rest), bool)
            wrong += float(np.where(accepted, gains[rest], 0.0).mean()) > LOSS
            strong.append(1 - accepted.mean())
        rate, share = wrong / RESPLITS, float(np.mean(strong))
        holds = None if goal is None else rate <= 0.05 and share <= goal
        text = f"{rate:.1%} violations, {share:.1%} strong (sd {np.std(strong):.1%})"
        yield Line(f"loss <= 3 points at 95 %, n = {n:,}", text, "" if goal is None else "5 %, 70 % strong", holds)


def transfer(folder, seed):
    """The shipped light head on files that it was not fitted on."""
    head = open_light()
    for path in sorted(folder.glob("routellm_*.csv.gz")):
        table = read_table(path, "prompt", "weak", "strong")
        scores = np.array([head.score(text_features(prompt)) for prompt in table.prompts])
        held = metric.curve(scores, table.rows).apgr >= 0.60
        yield fitted(f"shipped light head, {path.name}", scores, table, seed, "APGR .60", held)


def fitted(what, scores, table, seed, goal, holds) -> Line:
    """A line with its interval."""
    low, high = metric.interval(scores, table.rows, seed=seed).apgr
    return Line(what, f"{shown(metric.curve(scores, table.rows))} [{low:.3f}, {high:.3f}]", goal, holds)


def spread(apgrs) -> str:
    return f"{len(apgrs)} draws {min(apgrs):.3f}-{max(apgrs):.3f}"


def shown(found) -> str:
    return f"APGR {found.apgr:.3f}  CPT {found.cpt50:.1f} / {found.cpt80:.1f}"


def times(folder, model, seed):
    """CPU time of one decision, garbage collection included, by what it reads."""
    prompts = read_table(folder / "routellm_mmlu.csv.gz", "prompt", "weak", "strong").prompts
    drawn = [prompts[i] for i in np.random.default_rng(seed).choice(len(prompts), 2_000, replace=False)]
    light, embed = open_light(), open_embed()
    spent = clocked(lambda prompt: light.score(text_features(prompt)), drawn)
    yield timing("light tier, MMLU prompts", spent, 0.3, per_second=2_000)
    long = [("\n".join(drawn[i : i + 40]))[:50_000] for i in range(0, 400, 2)]
    yield timing(
        "light tier, prompts of up to 50,000 characters", clocked(lambda p: light.score(text_features(p)), long), 0.3
    )
    vectors = dict(
        zip(drawn[:200], model.encode_batch([excerpt(model, prompt) for prompt in drawn[:200]]), strict=True)
    )
    ready = clocked(lambda prompt: embed.score(text_features(prompt), vectors[prompt]), drawn[:200])
    yield timing("embed tier, the cache has encoded", ready, None)

    def whole(prompt):
        return embed.score(text_features(prompt), model.encode_batch([excerpt(model, prompt)])[0])

    yield timing("embed tier with its own pass, MMLU prompts", clocked(whole, drawn[:500]), 8)
    yield timing("embed tier with its own pass, up to 50,000 characters", clocked(whole, long), 8)
    asked = np.stack(list(vectors.values()))
    labels = np.random.default_rng(seed).standard_normal((MOST, asked.shape[1])).astype(np.float32)
    rows = Rows(("",) * MOST, (0.0,) * MOST, labels, np.zeros(MOST))
    yield timing(f"neighbours tier, the look at {MOST:,} labels", clocked(rows.nearest, asked), 1)


def clocked(decide, prompts):
    """CPU milliseconds of each decision."""
    decide(prompts[0])
    gc.collect()
    spent = np.empty(len(prompts))
    for index, prompt in enumerate(prompts):
        began = time.thread_time()
        decide(prompt)
        spent[index] = (time.thread_time() - began) * 1e3
    return spent


def timing(what, spent, goal, per_second=None) -> Line:
    p50, p99 = np.percentile(spent, [50, 99])
    rate = 1e3 / spent.mean()
    text = f"p50 {p50:.3f} ms, p99 {p99:.3f} ms, {rate:,.0f}/s"
    if goal is None:
        return Line(what, text, "", None)
    wanted = f"p99 {goal} ms" + (f", {per_second:,}/s" if per_second else "")
    return Line(what, text, wanted, bool(p99 <= goal and rate >= (per_second or 0)))


if __name__ == "__main__":
    sys.exit(main())
