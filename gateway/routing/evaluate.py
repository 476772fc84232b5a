"""`farthing eval routing`: what a routing head is worth on prompts where both models' quality is known.

Scores with the shipped heads, or with heads fitted on other rows than those they score; prints RouteLLM's figures with
95 % intervals, beside a random and an all-knowing score. The last figures are of one decision's time: each prompt is
decided three times and its median counts, so that another process' turn on the core is not taken for ours.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from gateway.commands import about, last_line, say
from gateway.core.errors import BadRequest
from gateway.encoder import Model, open_model
from gateway.routing import crossfit, metric
from gateway.routing.crossfit import Inputs
from gateway.routing.embed import open_embed
from gateway.routing.features import text_features
from gateway.routing.fit import Ridge, fit_ridge
from gateway.routing.light import open_light
from gateway.routing.metric import Floats, Rows
from gateway.routing.table import Table, excerpt, features_of, read_table, vectors_of

TIMED_LIGHT, TIMED_EMBED = 1_000, 100
"""Prompts whose decision is timed."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `--json`. CPT in per cent of strong calls; times of one decision on one core."""

    n: int
    apgr: float
    apgr_ci95: tuple[float, float]
    cpt50: float
    cpt80: float
    random_apgr: float
    oracle_apgr: float
    p50_ms: float
    p99_ms: float


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `routing` to the actions of `eval`."""
    parser = subparsers.add_parser("routing", help="a routing head on labelled prompts", description=about(__doc__))
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="a CSV, plain or .gz, one prompt a line")
    add("--prompt", default="prompt", metavar="COLUMN", help="the prompt's column [%(default)s]")
    add("--weak", default="weak", metavar="COLUMN", help="the weak model's quality: true, false, a number")
    add("--strong", default="strong", metavar="COLUMN", help="the strong model's quality")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--train", type=Path, metavar="FILE", help="fit on this file, of the same columns")
    source.add_argument("--folds", type=_at_least(2), metavar="K", help="fit on the other folds of the data")
    source.add_argument("--labels", type=_at_least(2), metavar="N", help="fit on N random rows, score the others")
    add("--tier", choices=("light", "embed"), help="[light shipped; embed when fitted]")
    add("--group", metavar="COLUMN", help="with --folds: rows of one value are never on both sides")
    add("--vectors", type=Path, metavar="FILE", help="keep the data's vectors there between runs")
    add("--seed", type=int, default=0, metavar="N", help="of folds and intervals [%(default)s]")
    add("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(func=_run)


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
        return int(text)

    return parse


def _run(arguments: argparse.Namespace) -> int:
    if arguments.group and not arguments.folds:
        raise BadRequest("--group says how to fold; fix: --folds 5 --group COLUMN")
    table = read_table(arguments.data, arguments.prompt, arguments.weak, arguments.strong, arguments.group)
    fitted = arguments.train is not None or arguments.folds is not None or arguments.labels is not None
    tier = arguments.tier or ("embed" if fitted else "light")
    model = open_model() if tier == "embed" else None
    try:
        scored = (_fitted if fitted else _shipped)(arguments, table, model)
        found, spread = _report(scored, TIMED_LIGHT if model is None else TIMED_EMBED, arguments.seed)
    except ValueError as exc:
        raise BadRequest(f"{arguments.data}: {exc}") from exc
    say(as_text(found, spread, f"{_how(arguments)}, {tier} tier", scored.rows, table.dropped).splitlines())
    if arguments.json:
        last_line(found)
    return 0


def _how(arguments: argparse.Namespace) -> str:
    if arguments.folds:
        groups = f" by {arguments.group}" if arguments.group else ""
        return f"fitted on the other of {arguments.folds} folds{groups}"
    if arguments.labels:
        return f"fitted on {arguments.labels} random rows, the others scored"
    return f"fitted on {arguments.train.name}" if arguments.train else "shipped head, nothing fitted"


Decide = Callable[[str], float]


class _Scored(NamedTuple):
    """The rows that were scored, and the decision as it is timed: the neighbours' look-up is the vector store's."""

    scores: Floats
    rows: Rows
    prompts: Sequence[str]
    decide: Decide


def _shipped(arguments: argparse.Namespace, table: Table, model: Model | None) -> _Scored:
    if model is None:
        light = open_light()
        scores = [light.score(text_features(prompt)) for prompt in table.prompts]
        return _Scored(np.array(scores), table.rows, table.prompts, lambda prompt: light.score(text_features(prompt)))
    embed = open_embed()
    vectors = vectors_of(model, table.prompts, arguments.vectors).astype(np.float32)
    scores = [embed.score(text_features(prompt), vector) for prompt, vector in zip(table.prompts, vectors, strict=True)]

    def decide(prompt: str) -> float:
        return embed.score(text_features(prompt), model.encode_batch([excerpt(model, prompt)])[0])

    return _Scored(np.array(scores), table.rows, table.prompts, decide)


def _fitted(arguments: argparse.Namespace, table: Table, model: Model | None) -> _Scored:
    inputs, gains = inputs_of(table, model, arguments.vectors), table.rows.strong - table.rows.weak
    known, known_gains, rows, prompts = inputs, gains, table.rows, table.prompts
    if arguments.folds is not None:
        scores = crossfit.cross_fit(inputs, gains, _folds(arguments, table))
    elif arguments.labels is not None:
        fit_on, asked = crossfit.drawn(len(gains), arguments.labels, arguments.seed)
        known, known_gains = inputs.take(fit_on), gains[fit_on]
        rows, prompts = table.rows.take(asked), [table.prompts[index] for index in asked]
        scores = crossfit.predict(known, known_gains, inputs.take(asked))
    else:
        other = read_table(arguments.train, arguments.prompt, arguments.weak, arguments.strong)
        known, known_gains = inputs_of(other, model, None), other.rows.strong - other.rows.weak
        scores = crossfit.predict(known, known_gains, inputs)
    return _Scored(scores, rows, prompts, _decide(fit_ridge(known.features, known_gains, known.vectors), model))


def _folds(arguments: argparse.Namespace, table: Table) -> crossfit.Index:
    if table.groups is not None:
        return crossfit.group_folds(table.groups, arguments.folds, arguments.seed)
    return crossfit.row_folds(len(table.prompts), arguments.folds, arguments.seed)


def inputs_of(table: Table, model: Model | None, kept: Path | None) -> Inputs:
    """What heads read of a table; vectors only with a model."""
    vectors = None if model is None else vectors_of(model, table.prompts, kept)
    return Inputs(features_of(table.prompts), vectors)


def _decide(head: Ridge, model: Model | None) -> Decide:
    def decide(prompt: str) -> float:
        vectors = None if model is None else model.encode_batch([excerpt(model, prompt)]).astype(np.float64)
        return float(head.score(features_of([prompt]), vectors)[0])

    return decide


def _report(scored: _Scored, timings: int, seed: int) -> tuple[Report, metric.Interval]:
    scores, rows, prompts, decide = scored
    found = metric.curve(scores, rows)
    spread = metric.interval(scores, rows, seed=seed)
    drawn = np.random.default_rng(seed).choice(len(prompts), min(timings, len(prompts)), replace=False)
    p50, p99 = np.percentile(timed(decide, [prompts[index] for index in drawn]), [50, 99])
    report = Report(
        n=len(scores),
        apgr=found.apgr,
        apgr_ci95=spread.apgr,
        cpt50=found.cpt50,
        cpt80=found.cpt80,
        random_apgr=metric.random_curve(rows, seed=seed).apgr,
        oracle_apgr=metric.oracle_curve(rows).apgr,
        p50_ms=float(p50),
        p99_ms=float(p99),
    )
    return report, spread


def timed(decide: Decide, prompts: Sequence[str]) -> Floats:
    """Milliseconds of each prompt's decision: the median of three, after one that warms up."""
    decide(prompts[0])
    times = np.empty((len(prompts), 3))
    for row, prompt in zip(times, prompts, strict=True):
        for turn in range(3):
            began = time.perf_counter()
            decide(prompt)
            row[turn] = (time.perf_counter() - began) * 1e3
    return np.asarray(np.median(times, axis=1))


def as_text(found: Report, spread: metric.Interval, how: str, rows: Rows, dropped: int) -> str:
    """The figures for people."""
    lines = [
        f"{found.n} prompts ({dropped} contaminated ones dropped), {how}",
        f"quality: weak {rows.weak.mean():.4f}, strong {rows.strong.mean():.4f}",
        "",
        f"{'':8s}{'value':>9s}   95 % interval",
        f"{'APGR':8s}{found.apgr:9.3f}   {spread.apgr[0]:.3f} to {spread.apgr[1]:.3f}",
        f"{'CPT50':8s}{found.cpt50:8.1f}%   {spread.cpt50[0]:.1f} to {spread.cpt50[1]:.1f}",
        f"{'CPT80':8s}{found.cpt80:8.1f}%   {spread.cpt80[0]:.1f} to {spread.cpt80[1]:.1f}",
        f"{'random':8s}{found.random_apgr:9.3f}   APGR",
        f"{'oracle':8s}{found.oracle_apgr:9.3f}   APGR",
        f"{'time':8s}{found.p50_ms:9.3f}   ms per decision (p50), {found.p99_ms:.3f} (p99)",
        "",
    ]
    return "\n".join(lines)
